"""Carries a rotation through: begins when it is due or asked for, and takes each step when its gate is open.

Rules: one step at a time, each kept before it is in force; there is nothing else to remember, so that a rotation goes
on after whatever interrupted it. What a gate is judged by and the step are one turn of the authority's: nobody signs in
between. After a start nothing is concluded until those who live have had time to say so.
Not here: the table (rotation.py), the gates (gate.py), what runs this again and again (app/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from spangate.authority.ca import Authority, Clock
from spangate.authority.gate import Usage, Wait, waits
from spangate.authority.generations import AuthorityState, LetGo, common_name
from spangate.authority.ledger import Ledger
from spangate.authority.peers import Peers
from spangate.authority.rotation import AWAITED, REPLACING, Abandoned, Phase, RootStaged
from spangate.errors import YourFault

# A root lives five years. Rotating long before it has to be done keeps it a thing that is known to work.
EVERY = timedelta(days=90)
# Often enough that whoever watches sees it move; a look costs a query.
LOOK = timedelta(seconds=1)
# After a start: some reports of everybody who lives (peers.AGAIN).
SETTLE = timedelta(seconds=10)
# In each phase: a report that was on its way when the phase began must not be taken for one about it.
DWELL = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Root:
    """A root that is trusted. `signs`: whether certificates are made under it now. Times are aware, in UTC."""

    number: int
    fingerprint: str
    name: str
    not_before: datetime
    not_after: datetime
    signs: bool
    pem: str


@dataclass(frozen=True, slots=True)
class Status:
    """Where the rotation stands. `next`: when the next one begins by itself, None if never or one is under way.

    `stores`: the trust stores elsewhere that are to be changed in this phase, and whether somebody said that they were.
    """

    phase: Phase
    since: datetime
    revision: int
    roots: tuple[Root, ...]
    let_go: tuple[LetGo, ...]
    waits: tuple[Wait, ...]
    peers: int
    next: datetime | None
    stores: tuple[tuple[str, bool], ...]


class Rotator:
    """Any thread may use it, if the authority has a lock for threads; one calls `tick` every LOOK."""

    def __init__(
        self,
        authority: Authority,
        peers: Peers,
        ledger: Ledger,
        clock: Clock,
        *,
        every: timedelta | None = EVERY,
        required: Iterable[str] = (),
        stores: Iterable[str] = (),
        usage: Callable[[], Usage] | None = None,
        readers_until: Callable[[AuthorityState], datetime | None] = lambda _: None,
        settle: timedelta = SETTLE,
        moved: Callable[[AuthorityState], None] = lambda _: None,
    ) -> None:
        """`every`: the life of a root until it is rotated; None for never by itself. `moved` is told of each step.

        `required`, `stores`, `usage`, `readers_until`: see gate.waits.
        """
        self._authority = authority
        self._peers = peers
        self._ledger = ledger
        self._clock = clock
        self._every = every
        self._required = tuple(required)
        self._stores = tuple(stores)
        self._usage = usage
        self._readers_until = readers_until
        self._moved = moved
        self._from = clock.now() + settle

    def tick(self) -> None:
        """The next step, if its time has come. Raises SpangateError; then nothing has changed."""
        self._peers.tend()
        with self._authority.turn:
            state, now = self._authority.state, self._clock.now()
            if state.phase is Phase.STEADY:
                due = self._next(state)
                if due is not None and due <= now:
                    self.begin()
            elif not self._waits(state, now):
                self._moved(self._authority.step(AWAITED[state.phase]))

    def begin(self) -> None:
        """A new root, to be trusted. Raises IllegalStep while a rotation is under way."""
        self._moved(self._authority.step(RootStaged()))

    def abandon(self) -> None:
        """Back to the old root. Raises IllegalStep when it is retired already, or nothing is under way."""
        self._moved(self._authority.step(Abandoned()))

    def confirm(self, name: str) -> None:
        """Somebody says that the trust store `name` is right. Raises YourFault if nobody waits for that."""
        with self._authority.turn:
            if name not in self._stores:
                known = ", ".join(self._stores) or "none is configured"
                raise YourFault(f"there is no trust store `{name}` to confirm", help=f"trust stores: {known}")
            if not self._asks(self._authority.state):
                raise YourFault(f"nothing is to be changed in the trust store `{name}` now")
            self._authority.confirm(name)

    def status(self) -> Status:
        """Where it stands now."""
        with self._authority.turn:
            state, now = self._authority.state, self._clock.now()
            found = self._waits(state, now)
        roots = tuple(
            Root(
                one.number,
                one.fingerprint,
                common_name(one.root),
                one.root.not_valid_before_utc,
                one.root.not_valid_after_utc,
                one.number == state.signing,
                one.root_pem,
            )
            for one in state.generations
        )
        asked = [(name, name in state.confirmed) for name in self._stores if self._asks(state)]
        return Status(
            phase=state.phase,
            since=state.since,
            revision=state.revision,
            roots=roots,
            let_go=state.let_go,
            waits=found,
            peers=sum(one.connected(now) for one in self._peers.all()),
            next=self._next(state),
            stores=tuple(asked),
        )

    def _waits(self, state: AuthorityState, now: datetime) -> tuple[Wait, ...]:
        if state.phase is Phase.STEADY:
            return ()
        found = waits(
            state,
            self._peers.all(),
            self._ledger.held(now),
            now,
            required=self._required,
            stores=self._stores,
            usage=self._usage() if self._usage else None,
            readers_until=self._readers_until(state),
        )
        ready = max(self._from, state.since + DWELL)
        if now < ready and not found:
            return (Wait("authority", "gives those who live time to say what they hold", ready),)
        return found

    def _next(self, state: AuthorityState) -> datetime | None:
        if self._every is None or state.phase is not Phase.STEADY:
            return None
        return state.signer.root.not_valid_before_utc + self._every

    @staticmethod
    def _asks(state: AuthorityState) -> bool:
        """Whether trust stores are to be changed in this phase."""
        return state.phase is not Phase.STEADY and state.phase not in REPLACING
