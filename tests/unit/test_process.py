"""Children: watched, ended, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spangate.adapters.process import Child, shell_exit_code
from spangate.errors import PeersFault

WAIT_SECONDS_MAX = 10.0


def eventually(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_child_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    child = Child("helper", ["sh", "-c", "echo out of cheese; exit 3"], tmp_path / "log")
    assert eventually(lambda: child.exit_code() is not None)
    with pytest.raises(PeersFault, match=r"(?s)helper .* exit code 3.*out of cheese"):
        child.check()
    child.stop()


def test_a_killed_child_is_told_with_its_signal(tmp_path: Path) -> None:
    child = Child("helper", ["sleep", "60"], tmp_path / "log")
    child.check()
    os.kill(child.pid, signal.SIGKILL)
    assert eventually(lambda: child.exit_code() is not None)
    with pytest.raises(PeersFault, match="SIGKILL"):
        child.check()


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PeersFault, match="cannot start helper"):
        Child("helper", ["/nowhere/at-all"], tmp_path / "log")


# Takes the signal when it has been up for a while, and says so.
TAKES = "import signal, time; time.sleep(0.5); signal.sigwait({signal.SIGHUP}); print('taken', flush=True)"


def test_a_signal_that_waits_ends_no_child_that_is_only_starting(tmp_path: Path) -> None:
    child = Child("helper", [sys.executable, "-c", TAKES], tmp_path / "log", waiting=[signal.SIGHUP])
    # Of this process it is blocked no longer.
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child.send(signal.SIGHUP)
    assert eventually(lambda: child.exit_code() is not None)
    assert child.exit_code() == 0
    assert "taken" in child.tail()
    # It has ended, and its number may be somebody else's.
    child.send(signal.SIGHUP)


SIGNALLED = """
import os, signal, sys
from pathlib import Path
from spangate.adapters.process import Child

class Stopped(BaseException): pass
def stop(number, frame): raise Stopped

signal.signal(signal.SIGTERM, stop)
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))
try:
    Child("helper", ["sh", "-c", "echo $$; exec sleep 60"], Path(sys.argv[1]))
except Stopped:
    print("stopped")
"""


def test_a_signal_while_a_child_is_started_waits_and_ends_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(tmp_path / "log")], capture_output=True, text=True, timeout=30, check=True
    )
    assert (done.stdout, done.stderr) == ("stopped\n", "")
    pid = (tmp_path / "log").read_text().strip()
    assert not pid or eventually(lambda: gone(int(pid)))


def test_stop_ends_a_child_and_may_be_called_twice(tmp_path: Path) -> None:
    child = Child("helper", ["sleep", "60"], tmp_path / "log")
    child.stop()
    child.stop()
    assert child.exit_code() == -signal.SIGTERM


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spangate.adapters.process.STOP_SECONDS_MAX", 0.3)
    child = Child("helper", ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], tmp_path / "log")
    assert eventually(lambda: "ready" in child.tail())
    child.stop()
    assert child.exit_code() == -signal.SIGKILL


def test_a_child_dies_with_its_parent_however_that_dies(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from spangate.adapters.process import Child; "
        f"child = Child('helper', ['sleep', '60'], Path({str(tmp_path / 'log')!r})); "
        "print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        if parent.stdout is None:
            raise RuntimeError("no pipe")
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
        parent.wait()
        assert eventually(lambda: gone(pid))


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 3), (-signal.SIGTERM, 143), (-signal.SIGKILL, 137)])
def test_exit_codes_are_a_shells(code: int, expected: int) -> None:
    assert shell_exit_code(code) == expected
