"""Certificates that the Workload API has given out: to whom, and of whom it is still known.

Rules: everybody who has been given a certificate counts until it is seen that its process has ended. Who ends a
connection and lives has the certificate and is not heard of any more: it is lost, and nothing is said of it again.
Not here: giving it out, and telling the authority (workload_supply.py).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from spangate.adapters.grpc_connection import Call, Connection
from spangate.adapters.unix_peers import PeerProcess
from spangate.authority.workload_api import X509Svid

_HOLDER_BYTES = 16
# A process that ends closes its connections first; by then it is known to have ended.
ENDING_SECONDS = 3.0
# More than this are not waited for; each has a descriptor.
_LEAVING_MAX = 1024


def new_holder() -> str:
    """A name that is never met twice."""
    return secrets.token_hex(_HOLDER_BYTES)


@dataclass(slots=True)
class Held:
    """The certificate of an identity, how it is answered, and who waits for the next one."""

    svid: X509Svid
    # Who signed it, as far as it is known: asked just before, so that a change in between is a change.
    signer: str
    answer: bytes
    renew_at: datetime
    # The name under which its use is reported.
    holder: str
    failures: int = 0
    waiting: set[Call] = field(default_factory=set)
    # Connections, of processes that live, over which it has been given.
    takers: set[Connection] = field(default_factory=set)
    # Somebody has been given it, lives, and has gone.
    lost: bool = False

    def spoken_for(self) -> bool:
        """Whether everybody who has been given it listens, and has been given the latest."""
        listening = {call.connection for call in self.waiting if call.delivered}
        return not self.lost and len(self.waiting) > 0 and self.takers <= listening


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A connection that has ended, and perhaps its process: what it was given is `held`. `until`: the loop's time."""

    connection: Connection
    process: PeerProcess
    held: Held
    until: float


class Departures:
    """Connections that have ended, until it is known whether their processes have, too. `now`: of one clock."""

    def __init__(self) -> None:
        self._leaving: list[_Leaving] = []

    def left(self, connection: Connection, process: PeerProcess, held: Held, now: float) -> None:
        """The connection over which `held` was given has ended. Takes `process` over."""
        self._leaving.append(_Leaving(connection, process, held, now + ENDING_SECONDS))

    def let_go(self, held_now: Iterable[Held], now: float) -> None:
        """Whose process has ended has nothing any more; whose has not by now is lost."""
        staying = []
        for number, one in enumerate(self._leaving):
            ended = not one.process.alive()
            if not ended and now < one.until and number < _LEAVING_MAX:
                staying.append(one)
                continue
            # The same set as that of a certificate that has come in the place of this one.
            one.held.takers.discard(one.connection)
            if not ended:
                one.held.lost = True
                for held in held_now:
                    held.lost = held.lost or held.holder == one.held.holder
            one.process.close()
        self._leaving = staying

    def close(self) -> None:
        """Nobody is waited for any more."""
        for one in self._leaving:
            one.process.close()
