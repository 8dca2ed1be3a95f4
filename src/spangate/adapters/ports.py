"""TCP ports of 127.0.0.1 that stay one user's while the process that listens on them is started again.

Rules: the port is bound here and never listened on; whoever connects while the listener is away is refused at once. Who
has it already is found out by a bind of the usual kind. After it the socket says SO_REUSEPORT and nothing else: Linux
then lets another socket on the port only if it says so too and belongs to the same user (socket(7)), as Envoy's does
(compiler/envoy_parts.py). No other user can take it meanwhile, nor the kernel give it away for an outgoing connection.
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
        # Connections of a listener before that are in their last minute do not stand in the way.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((LOOPBACK, port))
        except OSError as error:
            raise TryAgain(f"the port for the {owner} is taken", help="choose another with --port") from error
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield int(holder.getsockname()[1])
