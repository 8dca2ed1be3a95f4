"""Whether a process still runs, told by the kernel.

Rules: a process is known by its number and the moment of its start, so that another one under the same number is not
taken for it. Where the kernel does not tell (another namespace), nothing is known, and nobody is taken for dead.
Not here: whose number it is (unix_server.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

# In /proc/<pid>/stat, counted from behind the command's name (proc_pid_stat(5): field 22, and 3 is the first there).
_STARTED_FIELD = 22 - 3


def life_of(pid: int) -> Callable[[], bool] | None:
    """A function that tells whether the process that has this number now still runs; None if that cannot be known."""
    started = _started(pid) if pid > 0 else None
    return None if started is None else lambda: _started(pid) == started


def _started(pid: int) -> str | None:
    """Clock ticks after boot; None if there is no such process, or it has ended and only waits for its parent."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[_STARTED_FIELD]
