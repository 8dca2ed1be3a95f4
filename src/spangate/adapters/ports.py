"""TCP ports of 127.0.0.1 that stay one process's while it is started again.

Rules: the port is bound here and never listened on, which Linux allows beside a listener that sets SO_REUSEADDR (Envoy
does). So the kernel gives it to nobody as the port of an outgoing connection while the listener is away, and whoever
connects then is refused at once.
Not here: sockets that are handed over whole (handover.py): Envoy takes none.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from spangate.errors import TryAgain

LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def reserved_port(port: int, owner: str) -> Iterator[int]:
    """`port`, or one that the kernel chooses if it is 0. Raises TryAgain if somebody else has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((LOOPBACK, port))
        except OSError as error:
            raise TryAgain(f"the port for the {owner} is taken", help="choose another with --port") from error
        yield int(holder.getsockname()[1])
