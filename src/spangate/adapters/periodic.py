"""Something that is done again and again, in a thread of its own.

Rules: a failure is reported and does not end it; `stop` waits for what is under way.
Not here: what is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta


class Periodic:
    """Calls `action` every `pause` from `start` to `stop`; `problem` gets a sentence for each failure."""

    def __init__(
        self, action: Callable[[], None], pause: timedelta, *, name: str, problem: Callable[[str], None]
    ) -> None:
        self._action = action
        self._pause = pause.total_seconds()
        self._problem = problem
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"spangate-{name}", daemon=True)

    def start(self) -> None:
        """The first call comes after the first pause."""
        self._thread.start()

    def stop(self) -> None:
        """Safe to call twice."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._pause):
            try:
                self._action()
            # The thread must outlive any defect, or what it tends would end unexplained.
            except Exception as error:  # noqa: BLE001
                self._problem(str(error) or type(error).__name__)
