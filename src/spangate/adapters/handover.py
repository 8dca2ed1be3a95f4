"""What a child process is handed beside its arguments: listening sockets, a secret, a way to say that it is ready.

Rules: everything goes by inherited file descriptors; their numbers stand in the arguments. A secret goes by a pipe:
never in an argument, the environment or a file. A listening socket stays open in the parent, so that whoever connects
while the child is away waits for its successor instead of being refused.
Not here: starting processes (process.py), which descriptor means what (app/).
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator

from spangate.errors import Broken

# A pipe takes this much without a reader (Linux: 64 KiB; POSIX promises 512 bytes, which would do for a passphrase).
SECRET_BYTES_MAX = 4096
_READY = b"ready"


# The parent's side.


@contextlib.contextmanager
def secret_pipe(secret: bytes) -> Iterator[int]:
    """A descriptor from which a child, started meanwhile, reads `secret` once."""
    if len(secret) > SECRET_BYTES_MAX:
        raise Broken(f"a secret of {len(secret)} bytes does not fit into a pipe")
    reading, writing = os.pipe()
    try:
        try:
            os.write(writing, secret)
        finally:
            os.close(writing)
        yield reading
    finally:
        os.close(reading)


class ReadyPipe:
    """`writing` is for the child; `wait` tells whether it has said that it is ready."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()

    def wait(self, seconds: float) -> bool:
        """True if it has; False after `seconds`, or at once if it never will."""
        if not select.select([self._reading], [], [], seconds)[0]:
            return False
        return os.read(self._reading, len(_READY)) == _READY

    def started(self) -> None:
        """The child is started and holds the other end: from now on its end is noticed."""
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def close(self) -> None:
        """Safe to call twice."""
        self.started()
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1


# The child's side.


def taken_secret(descriptor: int) -> bytes:
    """What `secret_pipe` was given."""
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read(SECRET_BYTES_MAX)


def taken_socket(descriptor: int) -> socket.socket:
    """The listening socket under that number. None of our own children gets it."""
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


def say_ready(descriptor: int) -> None:
    """Tells `ReadyPipe.wait`. A parent that does not listen any more is no error."""
    try:
        with contextlib.suppress(BrokenPipeError):
            os.write(descriptor, _READY)
    finally:
        os.close(descriptor)
