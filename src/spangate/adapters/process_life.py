"""Whether a process still runs, told by the kernel.

Rules: a process is known by its number and the moment of its start, so that another one under the same number is not
taken for it; both mean something within one run of one machine, and within one namespace of numbers. It has ended when
the last of its threads has, not with the first one. Where the kernel does not tell, or /proc does not show it, nothing
is known, and nobody is taken for dead.
Not here: whose number it is (unix_server.py), what ends with it (authority/peers.py).
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from spangate.authority.ledger import Life

# In /proc/<pid>/stat, counted from behind the command's name (proc_pid_stat(5): 3 is the first there).
_THREADS_FIELD, _STARTED_FIELD = 20 - 3, 22 - 3
# The line has some 50 numbers, and a name of 64 bytes at most.
_STAT_BYTES_MAX = 4096
# Tests look at one that shows nobody.
_PROC = "/proc"


def life_of(pid: int) -> Life | None:
    """The process that has this number now; None if that cannot be known."""
    try:
        started = _started(pid) if pid > 0 else None
    except OSError:
        return None
    system = this_system()
    return None if started is None or system is None else Life(system, pid, started)


def ended(life: Life) -> bool:
    """Whether that process has certainly ended."""
    if life.system != this_system():
        return False
    try:
        return _started(life.pid) != life.started
    except OSError:
        # It could not be looked at: that says nothing.
        return False


@cache
def this_system() -> str | None:
    """This run of this machine, and the namespace of this process's numbers; None where the kernel does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return None
    return f"{boot} {namespace}"


def _started(pid: int) -> str | None:
    """Clock ticks after boot; None if there is no such process, or it has ended and only waits for its parent. Raises
    OSError.
    """
    try:
        # Plain reads: this is asked for every process that comes, and again and again of who does not listen.
        descriptor = os.open(f"{_PROC}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            line = os.read(descriptor, _STAT_BYTES_MAX)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        # Others' processes may be hidden (proc(5), hidepid), also one that was not before: a signal would find it.
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        raise
    fields = line.rpartition(b")")[2].split()
    # A first thread that has ended looks like a process that has, as long as others run.
    if fields[0] == b"X" or (fields[0] == b"Z" and fields[_THREADS_FIELD] in (b"0", b"1")):
        return None
    return fields[_STARTED_FIELD].decode("ascii")
