"""Says what others cause, and not as often as they do.

Rules: one sentence, then silence for SILENCE_SECONDS, whoever tries meanwhile. What must not get lost is written down
elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Whoever tries again and again fills no log; a person who looks still sees that it goes on.
SILENCE_SECONDS = 10.0


class Seldom:
    """Any thread may use it."""

    def __init__(self, say: Callable[[str], None], *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._seconds = seconds
        self._lock = threading.Lock()
        self._until = 0.0

    def say(self, text: str) -> None:
        """Says it, if it has been silent for long enough."""
        with self._lock:
            now = self._seconds()
            if now < self._until:
                return
            self._until = now + SILENCE_SECONDS
        self._say(text)
