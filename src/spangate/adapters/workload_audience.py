"""Who has a certificate of the Workload API: the processes of an identity, each with its streams.

Rules: a process counts from before it is given anything until it is seen to have ended. It is taken to use what it was
given last: it follows as long as it listens on a stream, and, idle, as long as nothing is newer than what it got. Else
it is waited for, until it listens or asks again, for whichever identity. What was sent counts once it has reached the
other end's socket; over a stream that has ended, if that was so at once.
A process that the kernel does not tell apart has to listen on each of its connections, as if each were one.
Not here: giving anything out, and telling the authority (workload_supply.py), writing it down (workload_takers.py).
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from spangate.adapters.grpc_connection import Call, Connection
from spangate.adapters.unix_peers import PeerProcess
from spangate.authority.ledger import Life

_HOLDER_BYTES = 16
# Who has not read news for so long will hardly do so; a client that is cut off comes back when it can.
SLOW_SECONDS = 60.0
# Each has a descriptor.
_WATCHED_MAX = 1024
# A certificate that was given before has ended by then (template.SVID_LIFETIME_MAX).
_WATCHED_SECONDS = 3600.0


def new_holder() -> str:
    """A name that is never met twice."""
    return secrets.token_hex(_HOLDER_BYTES)


@dataclass(slots=True)
class Audience:
    """Of one identity. Times are the event loop's, in seconds."""

    # The name under which the use of what they have is reported.
    holder: str = field(default_factory=new_holder)
    # That of the next certificate, if this one's cannot speak for everybody any more.
    following: str | None = None
    # Streams that have been given it, each with its process.
    waiting: dict[Call, Life] = field(default_factory=dict)
    # Those of them whose latest news has not been seen to arrive, since when.
    behind: dict[Call, float] = field(default_factory=dict)
    # How many streams of each process wait, and how many are about to be given it.
    streams: Counter[Life] = field(default_factory=Counter)
    coming: Counter[Life] = field(default_factory=Counter)
    # Processes that have it and wait on no stream.
    idle: set[Life] = field(default_factory=set)
    # Those of which something else is so than was written down.
    _changed: set[Life] = field(default_factory=set)

    @property
    def names(self) -> tuple[str, ...]:
        """Whatever may be given to who comes now is under one of these."""
        return (self.holder,) if self.following is None else (self.holder, self.following)

    @property
    def empty(self) -> bool:
        """Whether nobody waits, or will."""
        return not self.waiting and not self.coming

    def follows(self, up_to_date: Callable[[Life], bool]) -> bool:
        """Whether everybody who has it has been given the latest, or listens and so has."""
        return bool(self.waiting or self.idle) and not self.behind and all(map(up_to_date, self.idle))

    def comes(self, life: Life) -> None:
        """One more stream of that process is about to be given it."""
        self.coming[life] += 1
        self._changed.add(life)

    def comes_not(self, life: Life) -> None:
        """It will not be given it."""
        _one_less(self.coming, life)
        self._changed.add(life)

    def listens(self, call: Call, life: Life, now: float) -> None:
        """That came, and is given it now."""
        _one_less(self.coming, life)
        self.streams[life] += 1
        self.waiting[call] = life
        self.behind[call] = now
        self.idle.discard(life)

    def told(self, now: float) -> None:
        """All that wait are sent something now."""
        for call in self.waiting:
            self.behind.setdefault(call, now)

    def ended(self, call: Call) -> None:
        """That stream waits for nothing any more."""
        life = self.waiting.pop(call, None)
        if life is None:
            return
        self.behind.pop(call, None)
        _one_less(self.streams, life)
        self._changed.add(life)
        if life not in self.streams:
            self.idle.add(life)

    def catch_up(self, now: float) -> list[Call]:
        """Looks whose news has arrived. Those that have been behind for too long."""
        self.behind = {call: since for call, since in self.behind.items() if not call.delivered}
        return [call for call, since in self.behind.items() if now - since > SLOW_SECONDS]

    def settle(self, lives: Collection[Life]) -> None:
        """Those of these that are idle have ended, or use something else."""
        found = self.idle.intersection(lives)
        self.idle -= found
        self._changed |= found

    def merge(self, life: Life, into: Life) -> None:
        """It cannot be told any more from others that are idle, and never will."""
        if life in self.idle:
            self.idle.remove(life)
            self.idle.add(into)
            self._changed.update((life, into))

    def follow(self) -> None:
        """The next certificate has another name, which speaks only of those who listen."""
        if self.following is None:
            self.following = new_holder()
            self._changed.update(self.streams, self.coming)

    def succeed(self) -> tuple[str, dict[Life, int], set[Life]]:
        """All that wait are given what is under the other name. The name before, who has that and waits on how many
        streams, and who does not have it, though it may be written down.
        """
        before, had = self.holder, dict.fromkeys(self.idle, 0) | self.streams
        others = self._changed.union(self.coming).difference(had)
        if self.following is not None:
            self.holder, self.following = self.following, None
        self.idle = set()
        return before, had, others

    def changes(self) -> dict[tuple[str, Life], int | None]:
        """What is to be written down: for each name and process on how many streams it waits, or will; None if it has
        nothing of that name.
        """
        changed, self._changed = self._changed, set()
        found: dict[tuple[str, Life], int | None] = {}
        for life in changed:
            count = self.streams.get(life, 0) + self.coming.get(life, 0)
            found[self.holder, life] = count if count or life in self.idle else None
            if self.following is not None:
                found[self.following, life] = count or None
        return found


class Strangers:
    """Processes that the kernel does not tell apart: each connection of theirs is taken for one."""

    def __init__(self) -> None:
        # What they are called means nothing to another authority, nor to any system.
        self._name = secrets.token_hex(_HOLDER_BYTES)
        self._number = 0
        self._known: dict[Connection, Life] = {}
        self._left: dict[Life, tuple[PeerProcess, float]] = {}
        # All of whom nothing more is to be learned: one of them is as bad as a thousand, and takes less room.
        self.anybody = Life("", 0, self._name)

    def life(self, connection: Connection) -> Life:
        """Whoever is at the other end of that connection."""
        if connection not in self._known:
            self._number += 1
            self._known[connection] = Life("", self._number, self._name)
        return self._known[connection]

    def left(self, connection: Connection, process: PeerProcess, now: float) -> Life | None:
        """That connection has ended. Takes `process` over. Who it was, if its end will not be seen."""
        life = self._known.pop(connection, None)
        if life is None or process.pidfd < 0 or len(self._left) >= _WATCHED_MAX:
            process.close()
            return life
        self._left[life] = process, now + _WATCHED_SECONDS
        return None

    def ended(self, now: float) -> set[Life]:
        """Those whose process has been seen to end since the last time."""
        found = {life for life, (process, _) in self._left.items() if not process.alive()}
        for life in [life for life, (_, until) in self._left.items() if life in found or until <= now]:
            self._left.pop(life)[0].close()
        return found

    def close(self) -> None:
        """Nobody is of interest any more."""
        for process, _ in self._left.values():
            process.close()
        self._left.clear()


def _one_less(counter: Counter[Life], life: Life) -> None:
    counter[life] -= 1
    if counter[life] <= 0:
        del counter[life]
