"""Certificates that the Workload API has given out: to whom, and of whom it is still known.

Rules: everybody who has been given a certificate counts until it is seen that its process has ended. A process is taken
to use what it was given last: one that listens on a stream follows, and so does one that asks again and again, as long
as nothing is newer than what it got. One that lives, listens on none and was given less is lost until it asks again.
One that the kernel does not tell apart has to listen on each of its connections.
Not here: giving it out, and telling the authority (workload_supply.py).
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from spangate.adapters.grpc_connection import Call, Connection
from spangate.adapters.unix_peers import PeerProcess
from spangate.adapters.workload_takers import UNKNOWN
from spangate.authority.ledger import Life
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
    """The certificate of an identity, how it is answered, and who waits for the next one. All those of one holder share
    `takers` and `lost`.
    """

    svid: X509Svid
    # Who signed it, as far as it is known: asked just before, so that a change in between is a change.
    signer: str
    answer: bytes
    renew_at: datetime
    # The name under which its use is reported.
    holder: str
    failures: int = 0
    waiting: set[Call] = field(default_factory=set)
    # Connections over which it has been given, each with its process, which lives.
    takers: dict[Connection, Life] = field(default_factory=dict)
    # Processes that have been given it, live, and do not listen.
    lost: set[Life] = field(default_factory=set)
    # The answer that each process was given last, as far as it has certainly reached its socket.
    last: dict[Life, bytes] = field(default_factory=dict)

    def tell(self, call: Call) -> None:
        """Gives the answer to one who waits."""
        call.send(self.answer)
        life = self.takers[call.connection]
        if life != UNKNOWN and call.delivered:
            self.last[life] = self.answer

    def spoken_for(self) -> bool:
        """Whether everybody who has been given it has been given the latest, or listens and so has."""
        if not (self.takers or self.lost) or not all(call.delivered for call in self.waiting):
            return False
        waiting = {call.connection for call in self.waiting}
        follow = (self._waiting().keys() - {UNKNOWN}) | self.up_to_date()
        return self.lost <= follow and all(
            connection in waiting or life in follow for connection, life in self.takers.items()
        )

    def up_to_date(self) -> set[Life]:
        """Processes that were given the latest last, whether they go on to listen or not."""
        return {life for life, answer in self.last.items() if answer == self.answer}

    def forget(self) -> None:
        """Who has nothing any more was given nothing."""
        lives = self.lost | set(self.takers.values())
        for life in self.last.keys() - lives:
            del self.last[life]

    def listening(self) -> dict[Life, int]:
        """On how many streams each process waits that has been given the latest on all of them."""
        slow = {self.takers[call.connection] for call in self.waiting if not call.delivered}
        return {life: streams for life, streams in self._waiting().items() if life not in slow}

    def streams(self, coming: Iterable[Life]) -> dict[Life, int]:
        """On how many streams each process waits that has it, or will be given it as those that are `coming`."""
        found = self._waiting()
        found.update(coming)
        return {life: found[life] for life in found.keys() | self.lost | set(self.takers.values())}

    def _waiting(self) -> Counter[Life]:
        return Counter(self.takers[call.connection] for call in self.waiting)


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

    def let_go(self, now: float) -> bool:
        """Whose process has ended has nothing any more; whose has not by now is lost. Whether there was anybody."""
        staying = []
        for number, one in enumerate(self._leaving):
            ended = not one.process.alive()
            if not ended and now < one.until and number < _LEAVING_MAX:
                staying.append(one)
                continue
            life = one.held.takers.pop(one.connection, None)
            if not ended and life is not None:
                one.held.lost.add(life)
            one.process.close()
        changed = len(staying) < len(self._leaving)
        self._leaving = staying
        return changed

    def close(self) -> None:
        """Nobody is waited for any more."""
        for one in self._leaving:
            one.process.close()
