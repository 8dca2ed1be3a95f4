"""`up` with the intent of this folder, and Google's client for Node.js, installed once for a machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Up
from e2e.other_clients.parts import printed

HERE = Path(__file__).parent
NODE = HERE / "node"
# Some 200 packages, 110 MB. A registry that answers gives them in half a minute.
INSTALL_SECONDS_MAX = 240


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


def _cached(folder: Path, program: str) -> Path:
    """Where this machine keeps what these very files, installed for this very program, come to."""
    version = subprocess.run([program, "--version"], capture_output=True, check=True, timeout=30).stdout
    files = [folder / name for name in ("package.json", "package-lock.json", ".npmrc")]
    digest = hashlib.sha256(b"\0".join([version, *(file.read_bytes() for file in files)])).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "spangate" / "tests" / f"node-{digest[:16]}"


@pytest.fixture(scope="session")
def node_client() -> list[str]:
    """The command that runs the cases with Google's client for Node.js; skipped, with the reason, where it cannot be."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs node and npm (Node.js 20)")
    installed = _cached(NODE, node)
    if not installed.is_dir():
        half_done = installed.with_name(f"{installed.name}.{os.getpid()}")
        half_done.mkdir(parents=True)
        try:
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copy(NODE / name, half_done)
            try:
                done = subprocess.run(
                    [npm, "ci"], cwd=half_done, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS_MAX
                )
            except subprocess.TimeoutExpired:
                pytest.skip(f"npm did not install Google's client within {INSTALL_SECONDS_MAX} s")
            if done.returncode:
                pytest.skip(f"npm cannot install Google's client: {done.stderr.strip()[-500:]}")
            if not installed.is_dir():
                half_done.rename(installed)
        finally:
            shutil.rmtree(half_done, ignore_errors=True)
    # Node.js looks for packages beside the program.
    shutil.copy(NODE / "cases.js", installed)
    return [node, str(installed / "cases.js")]
