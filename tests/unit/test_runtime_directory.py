"""The directory of sockets: fresh, for the own user, gone at the end; and what killed processes left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from spangate.adapters.state import StateDirectory, runtime_directory

HOLDER = """
import os, signal
from spangate.adapters.state import runtime_directory
with runtime_directory() as directory:
    (directory / "a.sock").touch()
    print(directory, flush=True)
    signal.pause()
"""


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def left_behind() -> Path:
    """By a process that was killed."""
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        directory = Path(holder.stdout.readline().strip())
        with runtime_directory():
            assert directory.is_dir(), "that of a living process stays"
        os.kill(holder.pid, signal.SIGKILL)
    assert directory.is_dir()
    return directory


def test_it_is_for_the_own_user_and_gone_at_the_end(base: Path) -> None:
    with runtime_directory() as directory:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        with runtime_directory() as other:
            assert other != directory
            assert directory.is_dir()
    assert list(base.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_start(base: Path) -> None:
    left = left_behind()
    with runtime_directory():
        assert not left.exists()


def test_what_is_not_provably_ours_and_dead_stays(base: Path) -> None:
    open_to_others = left_behind()
    open_to_others.chmod(0o755)
    without_lock = base / "spangate-other"
    without_lock.mkdir(mode=0o700)
    file = base / "spangate-file"
    file.touch()
    elsewhere = base / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "lock").touch()
    link = base / "spangate-link"
    link.symlink_to(elsewhere)
    linked_lock = base / "spangate-linked"
    linked_lock.mkdir(mode=0o700)
    (linked_lock / "lock").symlink_to(elsewhere / "lock")
    with runtime_directory():
        pass
    for path in (open_to_others, without_lock, file, link, linked_lock, elsewhere):
        assert path.exists(), path


def test_a_log_begins_anew_with_each_start(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "spangate.yaml")
    state.make()
    state.fresh_log("gateway").write_text("Address already in use")
    assert not state.fresh_log("gateway").exists()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_nothing_is_made_where_others_may_write(tmp_path: Path, mode: int) -> None:
    """They could exchange the folder for one of theirs, and with it sockets and Envoy's configuration."""
    tmp_path.chmod(mode)
    with runtime_directory() as directory:
        assert directory.parent != tmp_path


@pytest.mark.skipif(os.getuid() != 0, reason="only root may make what is another user's")
def test_nothing_is_made_in_a_folder_of_another_user(tmp_path: Path) -> None:
    """`su` keeps the variable of the user from whom one comes."""
    os.chown(tmp_path, 12345, 12345)
    try:
        with runtime_directory() as directory:
            assert directory.parent != tmp_path
    finally:
        os.chown(tmp_path, os.getuid(), os.getgid())
