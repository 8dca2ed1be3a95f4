"""The system's clock, for everything that takes a clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """The wall clock of this machine."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""
        return datetime.now(UTC)


def running_seconds() -> float:
    """Seconds of a clock that is never set back, and that goes on while the machine sleeps: tokens do not sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
