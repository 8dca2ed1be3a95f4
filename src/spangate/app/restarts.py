"""Whether a part that has ended is started again, and when.

Rules: values in, values out; time is given, in seconds of a clock that never goes back. A part that runs for long and
ends once is started again at once. One that ends again and again gets longer pauses, and is given up in the end: what
ended long ago does not count.
Not here: processes (supervisor.py).
"""

from __future__ import annotations

from dataclasses import dataclass

# Before the first, second, ... new start within the window. The first is for a crash that comes from nowhere: every
# moment without the part is one in which somebody may be refused. The last ones are for something beside it that has to
# come back: a port, a disk, memory.
PAUSES_SECONDS = (0.0, 0.25, 1.0, 2.0, 4.0)
# All pauses and the slowest starts (the checkpoint, some 2 s) fit in twice, so that what cannot start is given up; a
# part that ends less than once in ten seconds lives on.
WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Running:
    """It runs. `ends`: when it ended within the window, oldest first."""

    ends: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """It has ended and is to be started at `due`."""

    ends: tuple[float, ...]
    due: float


@dataclass(frozen=True, slots=True)
class GivenUp:
    """It has ended once too often."""

    ends: tuple[float, ...]


def ended(state: Running | Waiting, now: float) -> Waiting | GivenUp:
    """It ended, or could not be started, at `now`."""
    ends = (*(moment for moment in state.ends if now - moment < WINDOW_SECONDS), now)
    if len(ends) > len(PAUSES_SECONDS):
        return GivenUp(ends)
    return Waiting(ends, now + PAUSES_SECONDS[len(ends) - 1])


def started(state: Waiting) -> Running:
    """It has been started again."""
    return Running(state.ends)
