"""Watches child processes and starts them again when they end.

Rules: each part comes back on the socket or port that it had, by its own `start`; when, says restarts.py. One that is
not to be started again, or that is given up, is an error with the end of its log. Every end is told.
Not here: which parts there are (up_steps.py, run.py), processes (adapters/process.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from spangate.adapters.process import Child
from spangate.app import restarts
from spangate.errors import PeersFault, SpangateError, YourFault

# Ends are noticed at most this much later; a look costs some microseconds.
POLL_SECONDS = 0.05


class Part:
    """One child process, and whoever takes its place."""

    def __init__(
        self, child: Child, start: Callable[[], Child] | None, now: Callable[[], float] = time.monotonic
    ) -> None:
        """`start` starts it again; None for a part whose end is the end."""
        self.name = child.name
        self.child = child
        self._start = start
        self._now = now
        self._state: restarts.Running | restarts.Waiting = restarts.Running()

    def look(self, notice: Callable[[str], None]) -> None:
        """Starts it again if it has ended and its time has come. Raises PeersFault when it does not come back."""
        if isinstance(self._state, restarts.Running):
            code = self.child.exit_code()
            if code is not None:
                # What somebody has to mend, another start does not; a token may even lock itself.
                if self._start is None or code == YourFault.exit_code:
                    self.child.check()
                self._failed(f"ended ({how(code)})", notice)
        if isinstance(self._state, restarts.Waiting) and self._now() >= self._state.due and self._start is not None:
            try:
                self.child = self._start()
            except SpangateError as error:
                self._failed(f"cannot start ({error.message})", notice)
            else:
                self._state = restarts.started(self._state)

    def stop(self) -> None:
        """Ends it. Safe to call twice."""
        self.child.stop()

    def _failed(self, what: str, notice: Callable[[str], None]) -> None:
        now = self._now()
        following = restarts.ended(self._state, now)
        if isinstance(following, restarts.GivenUp):
            raise PeersFault(
                f"the {self.name} {what}, for the {len(following.ends)}th time within "
                f"{restarts.WINDOW_SECONDS:.0f} s{self.child.last_words()}"
            )
        self._state = following
        pause = following.due - now
        again = f"started again in {pause:g} s" if pause else "started again"
        notice(f"the {self.name} {what}; {again}")


class Relay:
    """Passes on what a part prints for people: complete lines, each once, across its restarts."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._offset = 0

    def lines(self) -> Iterator[str]:
        """Those that came since the last time."""
        try:
            with self._log.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        yield from complete.decode("utf-8", "replace").splitlines()


def how(code: int) -> str:
    """How a process ended, by its exit code."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"
