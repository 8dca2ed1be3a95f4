"""`up` with the intent of this folder, and Google's client for Node.js, installed once for a machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Up
from e2e.node_packages import node_program
from e2e.other_clients.parts import printed

HERE = Path(__file__).parent
NODE = HERE / "node"


@pytest.fixture(scope="session")
def post(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`spangate up` with what these clients are granted."""
    folder = tmp_path_factory.mktemp("post")
    for name in ("spangate.yaml", "schema.sql"):
        shutil.copy(HERE / name, folder)
    up = Up(folder).wait_until_up()
    try:
        yield up
    finally:
        code = up.end()
    assert code == 0, up.printed


@pytest.fixture(scope="session")
def cases(post: Up) -> Callable[..., dict[str, Any]]:
    """Runs cases of a program, in a process of its own, as an identity."""

    def run(identity: str, command: list[str], *names: str, fails: bool = False) -> dict[str, Any]:
        done = post.run(identity, *command, *names, seconds=150)
        assert done.returncode == (1 if fails else 0), done.stdout + done.stderr
        return printed(done.stdout)

    return run


@pytest.fixture(scope="session")
def node_client() -> list[str]:
    """The command that runs the cases with Google's client for Node.js; skipped, saying why, where it cannot be had."""
    return node_program(NODE, "cases.js")
