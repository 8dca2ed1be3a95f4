"""Programs in Go, built once for a machine; tests that need them are skipped where Go or its modules cannot be had."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

# Where a distribution from go.dev is installed.
_USUAL = Path("/usr/local/go/bin/go")
# Some 30 modules, 60 MB.
DOWNLOAD_SECONDS_MAX = 180
# gRPC for Go is large; two loaded processors take two minutes.
BUILD_SECONDS_MAX = 260
_FILES = ("go.mod", "go.sum", "main.go")


def go_program(folder: Path) -> str:
    """The program whose source and modules stand in `folder`. Skips, saying why."""
    go = shutil.which("go") or (str(_USUAL) if _USUAL.exists() else None)
    if go is None:
        pytest.skip("needs go (Go 1.25)")
    # What stands in go.mod is what is used: no other toolchain, and no other version of a module.
    env = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
    version = subprocess.run([go, "version"], capture_output=True, check=True, timeout=30).stdout
    digest = hashlib.sha256(b"\0".join([version, *((folder / name).read_bytes() for name in _FILES)])).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    program = cache / "spangate" / "tests" / f"go-{digest[:16]}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(
                [go, "mod", "download"],
                cwd=folder,
                env=env,
                capture_output=True,
                text=True,
                check=False,
                timeout=DOWNLOAD_SECONDS_MAX,
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"go did not get the modules within {DOWNLOAD_SECONDS_MAX} s")
        if done.returncode:
            pytest.skip(f"go cannot get the modules: {done.stderr.strip()[-500:]}")
        half_done = program.with_name(f"{program.name}.{os.getpid()}")
        built = subprocess.run(
            [go, "build", "-o", str(half_done), "."],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_SECONDS_MAX,
        )
        assert built.returncode == 0, built.stderr
        half_done.replace(program)
    return str(program)
