"""A child that says when it serves: started, and waited for later, so that several start at the same time.

Rules: a child that ends instead is an error at once; one that takes too long, too. What it was told to be somebody's
fault stays theirs: a child's last words `error: ...` and `help: ...` with the exit code of YourFault are raised again.
Not here: what is started.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from spangate.adapters.handover import ReadyPipe
from spangate.adapters.process import Child
from spangate.app.stopping import Stop
from spangate.errors import PeersFault, YourFault

# Starting takes a second; a loaded machine gets patience.
START_SECONDS_MAX = 30.0
_LOOK_SECONDS = 0.05
_ERROR, _HELP = "error: ", "help: "


class Starting:
    """A child under way. Its end and the pipe's are registered in `stack`."""

    def __init__(self, stack: ExitStack, start: Callable[[ReadyPipe], Child]) -> None:
        """Starts it. Raises PeersFault if that cannot be done."""
        self._pipe = ReadyPipe()
        stack.callback(self._pipe.close)
        self.child = start(self._pipe)
        self._pipe.started()

    def wait(self, stop: Stop) -> Child:
        """Returns once it serves. Raises YourFault, PeersFault, Stopped."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._pipe.wait(_LOOK_SECONDS):
            stop.check()
            if self.child.exit_code() is not None:
                _raise_fault(self.child)
                self.child.check()
            if time.monotonic() > deadline:
                raise PeersFault(
                    f"the {self.child.name} did not start in {START_SECONDS_MAX:.0f} s{self.child.last_words()}"
                )
        self._pipe.close()
        return self.child


def _raise_fault(child: Child) -> None:
    """YourFault, if it is one and the child has said which."""
    if child.exit_code() != YourFault.exit_code:
        return
    _, found, text = child.tail().rpartition(f"  {_ERROR}")
    if not found:
        return
    message, *rest = [line.removeprefix("  ") for line in text.splitlines()]
    helps = [line.removeprefix(_HELP) for line in rest if line.startswith(_HELP)]
    raise YourFault(message, help=helps[0] if helps else None)
