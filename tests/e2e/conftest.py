"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.harness import Site, Up, shop_folder, site
from spangate.adapters.emulator import EmulatorKind, emulator_command, find_emulator, free_port
from spangate.adapters.spanner import wait_until_ready
from spangate.adapters.zetasql_engine import precompile
from spangate.errors import SpangateError


@pytest.fixture(scope="session")
def emulator() -> None:
    """Without Spanner there is nothing to test, and that is a failure: the product's own message says what to do."""
    try:
        find_emulator(os.environ)
    except SpangateError as error:
        pytest.fail(f"{error.message}\n{error.help or ''}", pytrace=False)
    precompile()


@pytest.fixture(scope="session")
def emulator_address(emulator: None) -> Iterator[str]:
    """An emulator alone, without a gateway: the one that runs already, or one of these tests' own."""
    found = find_emulator(os.environ)
    if found.kind is EmulatorKind.RUNNING:
        yield found.address
        return
    port = free_port()
    with subprocess.Popen(
        emulator_command(found, port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until_ready(f"127.0.0.1:{port}", found.start_seconds_max)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=10)


@pytest.fixture(scope="session")
def shop(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`spangate up` in a copy of the example, with its customers loaded, and the lab beside it."""
    up = Up(shop_folder(tmp_path_factory.mktemp("up") / "shop", lab=True)).wait_until_up()
    try:
        up.program("loader", "load.py")
        yield up
    finally:
        code = up.end()
    assert code == 0, up.printed


@pytest.fixture
def start_up(emulator: None) -> Iterator[Callable[..., Up]]:
    """Starts further `up`s, which end with the test."""
    started: list[Up] = []

    def start(folder: Path, *arguments: str, **env: str) -> Up:
        started.append(Up(folder, *arguments, **env))
        return started[-1]

    yield start
    for up in started:
        up.end()


@pytest.fixture(scope="module")
def own_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Everything for gateways of one's own, in front of a Spanner that remembers."""
    precompile()
    with site(tmp_path_factory.mktemp("site")) as found:
        yield found
