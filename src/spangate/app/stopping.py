"""The signals that end `spangate up`, and what they interrupt.

Rules: SIGINT, SIGTERM and SIGHUP mean the same. Whatever waits asks `check`; the tear-down is not interrupted.
Not here: what is ended, and in which order (up.py).
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP came. Not an Exception: nothing on the way may take it for an error."""


class Stop:
    """Whether a signal asked for the end.

    Its handler raises Stopped at once, wherever the program is; but an exception raised in a callback of C code or in
    a finaliser gets lost, so whatever waits also asks here.
    """

    def __init__(self) -> None:
        self.asked = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """The signals' handler."""
        self.asked = True
        raise Stopped

    def check(self) -> None:
        """Raises Stopped if it has been asked for."""
        if self.asked:
            raise Stopped


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Signals that mean stop become Stopped."""
    stop = Stop()
    before = {number: signal.signal(number, stop.handle) for number in _STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """From now on, until `stoppable` ends."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
