"""Which processes have a certificate that is given out no more; and, for whoever comes after this process, any at all.

Rules: a process is written down before it is given anything, with the number of its streams. Nobody has what is given
out no more once it has ended itself, or each of its processes has ended, or has waited here: on as many streams as it
did where it was given it, so that each part of it has been given what is new; once all had the time to come back, also
on fewer, or has asked. What a process took and closed its stream itself is its own affair: if it waits on another one,
or asked again, it is taken to use what it was given so.
Many that come at once are written down at once. What cannot be written down now is tried again.
Not here: who has what is given out now (workload_audience.py), giving it out (workload_supply.py), the file
(authority_store.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from spangate.authority.ledger import Life, Taker, Takings
from spangate.authority.template import SVID_LIFETIME_MAX

# Clients connect anew within this: the longest pause of gRPC's between two tries.
BACK_SECONDS = 120.0
# Written down for each name, whoever has it: one of which nobody is known would be waited for by whoever comes after.
_NOBODY = Life("", 0, "")


@dataclass(slots=True)
class _Former:
    """Who has what is given out no more, and on how many streams each must wait here; until that has ended (UTC)."""

    lives: dict[Life, int]
    until: datetime


class Takers:
    """All but the constructor runs on one event loop."""

    def __init__(
        self,
        kept: Takings | None,
        now: Callable[[], datetime],
        in_worker: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        """Reads what there is; without `kept` nothing is written down. `in_worker` runs what may block. Raises what
        Takings raises.
        """
        self._kept = kept
        self._now = now
        self._in_worker = in_worker
        # By holder.
        self._former: dict[str, _Former] = {}
        until = now() + SVID_LIFETIME_MAX
        for one in kept.takers(now()) if kept is not None else ():
            lives = self._former.setdefault(one.holder, _Former({}, until)).lives
            if one.life != _NOBODY:
                lives[one.life] = one.streams
        # From then on (the event loop's time) who has not come back will not.
        self._back_by: float | None = None
        # Names that are written down, or about to be.
        self._named: set[str] = set()
        # None: it has nothing any more.
        self._pending: dict[tuple[str, Life], int | None] = {}
        self._next: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()

    @property
    def former(self) -> tuple[str, ...]:
        """Holders under whose names nothing is given out any more, and somebody may have something."""
        return tuple(self._former)

    def waited_for(self) -> set[Life]:
        """Everybody who may have something of these."""
        return {life for one in self._former.values() for life in one.lives}

    async def note(self, streams: Mapping[tuple[str, Life], int | None]) -> None:
        """What is so of holders and processes from now on. Returns when that is written down, and whatever was to be
        before. Raises what Takings raises.
        """
        if self._kept is None:
            return
        self._pending.update(streams)
        for holder, _ in streams:
            if holder not in self._named:
                self._named.add(holder)
                self._pending[holder, _NOBODY] = 0
        if not self._pending and not self._turn.locked():
            return
        if self._next is None:
            self._next = asyncio.ensure_future(self._write_pending(self._kept))
        await asyncio.shield(self._next)

    def succeeded(self, holder: str, had: Mapping[Life, int], others: Iterable[Life], until: datetime) -> None:
        """Nothing is given out under that name any more, and what was ends at `until`. Those who `had` it, and wait,
        are being given something else, stream for stream; of `others` it may be written down.
        """
        self._former[holder] = _Former(dict.fromkeys(had, 0), until)
        # Until that has arrived, all streams are to be back, for whoever comes after.
        self._noted_later({(holder, life): streams for life, streams in had.items()})
        self._noted_later({(holder, life): None for life in others})

    def settle(self, ended: Collection[Life], listening: Mapping[Life, int], up_to_date: Collection[Life]) -> list[str]:
        """The former holders of which nobody has anything. `listening`: on how many streams each process has been given
        the latest; `up_to_date`: those that were given that last, also if they listen no more.
        """

        seconds = asyncio.get_running_loop().time()
        if self._back_by is None:
            self._back_by = seconds + BACK_SECONDS
        wanted: dict[Life, int] = {}
        for one in self._former.values():
            for life, streams in one.lives.items():
                # Which part of it is back is not known: what one took between two kills another may not have.
                wanted[life] = max(streams, wanted.get(life, 0)) if seconds < self._back_by else 0

        def has_nothing(life: Life) -> bool:
            # Where it listened, a part of it that only asks says nothing of those that have not connected anew yet.
            asked_again = not wanted[life] and life in up_to_date
            return life in ended or asked_again or listening.get(life, 0) >= max(wanted[life], 1)

        for holder, one in self._former.items():
            found = [life for life in one.lives if has_nothing(life)]
            for life in found:
                del one.lives[life]
            if one.lives:
                # Else `gone` is next.
                self._noted_later({(holder, life): None for life in found})
        now = self._now()
        return [holder for holder, one in self._former.items() if not one.lives or one.until <= now]

    def gone(self, holder: str) -> None:
        """Nobody has it: nothing is written down of it any more."""
        self._former.pop(holder, None)
        self._named.discard(holder)
        self._pending = {key: count for key, count in self._pending.items() if key[0] != holder}

    def _noted_later(self, streams: Mapping[tuple[str, Life], int | None]) -> None:
        if self._kept is not None:
            self._pending.update(streams)

    async def _write_pending(self, kept: Takings) -> None:
        # What comes while something is being written waits for the next time.
        async with self._turn:
            rows, self._pending, self._next = self._pending, {}, None
            if not rows:
                return
            takers = tuple(Taker(holder, life, count) for (holder, life), count in rows.items() if count is not None)
            gone = tuple(key for key, count in rows.items() if count is None)
            try:
                await self._in_worker(partial(kept.taken, takers, gone))
            except BaseException:
                # With what comes next, but for what is known better by now.
                self._pending = rows | self._pending
                raise
