"""What was issued, and of it what may still be in somebody's hands.

Rules: everything is recorded before it is handed out; keys never are. A leaf counts until it has ended, or its holder
was seen to have replaced it, or to be gone together with the key.
Not here: the ledger that outlives the process (adapters/authority_store.py), what is concluded (gate.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Issued:
    """What is recorded of a certificate or token: facts, never keys. `kind` is `root`, `intermediate`, `svid`, or
    `jwt`, whose `dns_names` are its audiences. `generation` and `revision` are the authority's when it signed; `holder`
    names who asked, empty if they did not say.
    """

    kind: str
    identity: str
    serial: int
    not_before: datetime
    not_after: datetime
    dns_names: tuple[str, ...] = ()
    generation: int = 0
    revision: int = 0
    holder: str = ""


Record = Callable[[Issued], None]


@dataclass(frozen=True, slots=True)
class Held:
    """Leaves of one generation and revision that one holder may use for `identity`, the last of them until `until`."""

    holder: str
    identity: str
    generation: int
    revision: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Life:
    """A process, as the kernel knows it: its number, and the moment of its start, in the kernel's own count. `system`
    tells one run of one machine, as one group of processes sees it; numbers of another one mean nothing.
    """

    system: str
    pid: int
    started: str


@dataclass(frozen=True, slots=True)
class Taker:
    """A process that has been given what `holder` has, and waits for what comes in its place on `streams` streams, if
    it does so at all.
    """

    holder: str
    life: Life
    streams: int


class Takings(Protocol):
    """Processes that share what one holder has. Any thread may use it. Every method may raise SpangateError."""

    def taken(self, takers: Iterable[Taker], gone: Iterable[tuple[str, Life]] = ()) -> None:
        """What is so of each of these holders and processes from now on; those that are `gone` have nothing."""
        ...

    def takers(self, now: datetime) -> tuple[Taker, ...]:
        """Of every holder whose leaves may be in use; others are forgotten."""
        ...


class Ledger(Protocol):
    """Any thread may use it. Every method may raise SpangateError."""

    def record(self, issued: Issued) -> None:
        """A Record. What it raises keeps the certificate from being handed out."""
        ...

    def held(self, now: datetime) -> tuple[Held, ...]:
        """The leaves that have not ended and are not known to be out of use, summed up by holder and generation."""
        ...

    def replaced(self, holder: str, generation: int) -> None:
        """`holder` uses a leaf of `generation`: its leaves of others are out of use."""
        ...

    def given_up(self, holder: str) -> None:
        """`holder` is gone, and its keys with it; its processes are of no interest any more."""
        ...

    def belongs(self, holder: str, life: Life) -> None:
        """What `holder` has ends with that process."""
        ...

    def lives(self) -> Mapping[str, Life]:
        """The processes that are known, by their holders."""
        ...


class HeldLedger:
    """In memory, for an authority that ends with its process: only the leaves that may be in use are remembered."""

    # Looked through for what has ended after this many, so that it cannot grow for ever.
    _PRUNE_EVERY = 1000

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._leaves: dict[int, Issued] = {}
        self._lives: dict[str, Life] = {}
        self._takers: dict[tuple[str, Life], Taker] = {}
        self._recorded = 0

    def record(self, issued: Issued) -> None:
        """See Ledger."""
        if issued.kind != "svid":
            return
        self._leaves[issued.serial] = issued
        self._recorded += 1
        if self._recorded % self._PRUNE_EVERY == 0:
            now = self._now()
            self._forget(lambda leaf: leaf.not_after <= now)

    def held(self, now: datetime) -> tuple[Held, ...]:
        """See Ledger."""
        return summed_up(leaf for leaf in tuple(self._leaves.values()) if leaf.not_after > now)

    def replaced(self, holder: str, generation: int) -> None:
        """See Ledger."""
        self._forget(lambda leaf: leaf.holder == holder and leaf.generation != generation)

    def given_up(self, holder: str) -> None:
        """See Ledger."""
        self._forget(lambda leaf: leaf.holder == holder)
        self._lives.pop(holder, None)
        self._forget_takers(lambda one: one == holder)

    def belongs(self, holder: str, life: Life) -> None:
        """See Ledger."""
        self._lives[holder] = life

    def lives(self) -> Mapping[str, Life]:
        """See Ledger."""
        return dict(self._lives)

    def taken(self, takers: Iterable[Taker], gone: Iterable[tuple[str, Life]] = ()) -> None:
        """See Takings."""
        for key in gone:
            self._takers.pop(key, None)
        self._takers.update(((one.holder, one.life), one) for one in takers)

    def takers(self, now: datetime) -> tuple[Taker, ...]:
        """See Takings."""
        holders = {one.holder for one in self.held(now)}
        self._forget_takers(lambda one: one not in holders)
        return tuple(self._takers.values())

    def _forget_takers(self, which: Callable[[str], bool]) -> None:
        for holder, life in tuple(self._takers):
            if which(holder):
                self._takers.pop((holder, life), None)

    def _forget(self, which: Callable[[Issued], bool]) -> None:
        for leaf in tuple(self._leaves.values()):
            if which(leaf):
                self._leaves.pop(leaf.serial, None)


def summed_up(leaves: Iterable[Issued]) -> tuple[Held, ...]:
    """One Held for all leaves that differ in their end only."""
    ends: dict[tuple[str, str, int, int], datetime] = {}
    for leaf in leaves:
        key = leaf.holder, leaf.identity, leaf.generation, leaf.revision
        ends[key] = max(ends.get(key, leaf.not_after), leaf.not_after)
    return tuple(Held(*key, until) for key, until in ends.items())
