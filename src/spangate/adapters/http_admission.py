"""Which connections a server of ours takes, before a byte is read from them.

Rules: whoever is not admitted is dropped without an answer, and costs no place. What a door says to those whom it knows
and refuses is its own business.
Not here: who a peer is (unix_server.py, tcp_peer.py).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping

from uvicorn.protocols.http.h11_impl import H11Protocol

# Whether a connection is admitted, besides so many others: what the application is to know of it, or None.
Admission = Callable[[socket.socket, int], Mapping[str, object] | None]


def admitting(admitted: Admission) -> type[H11Protocol]:
    """The protocol for uvicorn that serves who is `admitted`."""

    class Admitting(H11Protocol):
        """Drops a connection of anybody else, before anything is read from it."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            known = admitted(transport.get_extra_info("socket"), len(self.connections))
            self._refused = known is None
            if known is None:
                transport.abort()
                return
            self.app_state = {**self.app_state, **known}
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            if not self._refused:
                super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            if not self._refused:
                super().connection_lost(exc)

    return Admitting


def strangers_up_to(connections: int, is_own: Callable[[tuple[str, int], tuple[str, int]], bool]) -> type[H11Protocol]:
    """The protocol for a port that every user can reach: from so many `connections` on, new ones are for the own user.

    Until then others are heard, and told why they get nothing. `is_own`: by the addresses of both ends.
    """

    def admitted(connection: socket.socket, others: int) -> Mapping[str, object] | None:
        if others < connections:
            return {}
        try:
            client, server = connection.getpeername(), connection.getsockname()
        except OSError:
            return None
        return {} if is_own(client[:2], server[:2]) else None

    return admitting(admitted)
