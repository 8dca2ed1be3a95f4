"""Whether a process still runs, told by the kernel.

Rules: a process is known by its number and the moment of its start, so that another one under the same number is not
taken for it; both mean something within one run of one machine, and within one namespace of numbers. Where the kernel
does not tell, nothing is known, and nobody is taken for dead.
Not here: whose number it is (unix_server.py), what ends with it (authority/peers.py).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from spangate.authority.ledger import Life

# In /proc/<pid>/stat, counted from behind the command's name (proc_pid_stat(5): field 22, and 3 is the first there).
_STARTED_FIELD = 22 - 3


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
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[_STARTED_FIELD]
