"""A process is taken for dead when the kernel says so, and not before."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from spangate.adapters import process_life
from spangate.adapters.process_life import ended, life_of

# Ends its first thread and goes on in another one, as a program in C may.
OUTLIVED = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_lives_until_it_has_ended_also_before_anybody_has_waited_for_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        life = life_of(process.pid)
        assert life is not None
        assert not ended(life)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert ended(life)
        assert life_of(process.pid) is None
    assert ended(life)
    assert life_of(process.pid) is None
    assert life_of(0) is None


def test_another_process_under_the_same_number_is_another_one() -> None:
    life = life_of(os.getpid())
    assert life is not None
    assert ended(replace(life, started=str(int(life.started) - 1)))


def test_of_another_machine_another_run_of_it_or_other_numbers_nobody_is_taken_for_dead() -> None:
    life = life_of(os.getpid())
    assert life is not None
    assert not ended(replace(life, system="another", started="1"))


def test_a_process_whose_first_thread_has_ended_lives() -> None:
    with subprocess.Popen([sys.executable, "-c", OUTLIVED], stdin=subprocess.PIPE) as process:
        life = life_of(process.pid)
        end = time.monotonic() + 10
        while f"{process.pid} (" in (stat := Path(f"/proc/{process.pid}/stat").read_text()) and ") Z " not in stat:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert life is not None
        assert not ended(life)
        assert life_of(process.pid) == life
        process.communicate()
    assert ended(life)


def test_a_process_that_is_not_shown_may_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As /proc hides those of others with `hidepid=2`, and a program can make itself such a one."""
    life = life_of(os.getpid())
    assert life is not None
    monkeypatch.setattr(process_life, "_PROC", str(tmp_path))
    assert not ended(life)
    assert life_of(os.getpid()) is None


def test_a_process_that_cannot_be_looked_at_is_not_taken_for_dead() -> None:
    life = life_of(os.getpid())
    assert life is not None
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
        assert not ended(replace(life, started="1"))
        assert life_of(life.pid) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
