"""The error tree, split by what the caller can do about it.

    SpangateError
    ├── YourFault        the input is wrong: fix the file, the flag, the name (exit code 2)
    │   └── IntentErrors several errors of one intent file, each with its place
    ├── PeersFault       somebody else answered wrongly: an emulator, an Envoy, a client
    ├── TryAgain         not now: a port is taken, a process still starts
    └── Broken           ours: please report it

Messages are lower case, without a full stop, user input in backticks; `help` says what to do next.
"""

from __future__ import annotations


class SpangateError(Exception):
    """Root of all errors that Spangate raises on purpose."""

    exit_code = 1

    # Which of several steps failed, where a caller has to know.
    step = ""

    def __init__(self, message: str, *, help: str | None = None) -> None:  # noqa: A002 - the field's own word
        super().__init__(message)
        self.message = message
        self.help = help

    @property
    def in_one_line(self) -> str:
        """Message and help, where there is one line for both."""
        return self.message + (f"; {self.help}" if self.help else "")


class YourFault(SpangateError):
    """The caller can mend it: a file, a flag, a name."""

    exit_code = 2


class PeersFault(SpangateError):
    """A program or service that Spangate depends on did not do its part."""


class TryAgain(SpangateError):
    """The same call may succeed later."""


class Broken(SpangateError):
    """A defect of Spangate itself."""
