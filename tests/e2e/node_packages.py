"""Packages for Node.js, installed once for a machine; tests that need them are skipped where they cannot be had."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

# Up to 200 packages, 110 MB. A registry that answers gives them in half a minute.
INSTALL_SECONDS_MAX = 240
_FILES = ("package.json", "package-lock.json", ".npmrc")


class CannotBeHad(Exception):
    """Why there is no Node.js, or no packages for it, on this machine."""


def node_program(folder: Path, program: str) -> list[str]:
    """The command that runs `program` of `folder` with the packages that stand there. Skips, saying why."""
    try:
        return node_command(folder, folder / program)
    except CannotBeHad as reason:
        pytest.skip(str(reason))


def node_command(folder: Path, program: Path) -> list[str]:
    """The command that runs `program` with the packages that stand in `folder`. Raises CannotBeHad."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise CannotBeHad("needs node and npm (Node.js 20)")
    installed = _cached(folder, node)
    if not installed.is_dir():
        half_done = installed.with_name(f"{installed.name}.{os.getpid()}")
        half_done.mkdir(parents=True)
        try:
            for name in _FILES:
                shutil.copy(folder / name, half_done)
            try:
                done = subprocess.run(
                    [npm, "ci"], cwd=half_done, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS_MAX
                )
            except subprocess.TimeoutExpired:
                raise CannotBeHad(f"npm did not install the packages within {INSTALL_SECONDS_MAX} s") from None
            if done.returncode:
                raise CannotBeHad(f"npm cannot install the packages: {done.stderr.strip()[-500:]}")
            if not installed.is_dir():
                half_done.rename(installed)
        finally:
            shutil.rmtree(half_done, ignore_errors=True)
    # Node.js looks for packages beside the program.
    shutil.copy(program, installed)
    return [node, str(installed / program.name)]


def _cached(folder: Path, program: str) -> Path:
    """Where this machine keeps what these very files, installed for this very program, come to."""
    version = subprocess.run([program, "--version"], capture_output=True, check=True, timeout=30).stdout
    digest = hashlib.sha256(b"\0".join([version, *((folder / name).read_bytes() for name in _FILES)])).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "spangate" / "tests" / f"node-{digest[:16]}"
