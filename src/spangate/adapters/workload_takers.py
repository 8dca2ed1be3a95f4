"""Which processes have been given a certificate, written down for whoever comes after this process.

Rules: a process is written down before it is given anything, with the number of its streams. Of what an earlier process
gave out it is known that nobody has it any more once each of its processes has ended, or waits here on as many streams
as there: over each it has been given what is new. Who had it in another way, too, must have ended.
Many that come at once are written down at once.
Not here: giving it out (workload_supply.py), the file (authority_store.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from spangate.authority.ledger import Life, Taker, Takings

# A process that the kernel does not tell apart: it is never seen to end, nor to be back.
UNKNOWN = Life("", 0, "")


class Takers:
    """All but the constructor runs on one event loop. Every method may raise what Takings raises."""

    def __init__(
        self,
        kept: Takings,
        now: Callable[[], datetime],
        in_worker: Callable[[Callable[[], Any]], Awaitable[Any]],
        ended: Callable[[Life], bool],
    ) -> None:
        """Reads what there is. `in_worker` runs what may block; `ended` says whether a process has certainly ended."""
        self._kept = kept
        self._in_worker = in_worker
        self._ended = ended
        # What is written down, or about to be: by holder and process.
        self._now: dict[str, dict[Life, Taker]] = {}
        # Of holders under whose names nothing is given out any more.
        self._former: dict[str, dict[Life, Taker]] = {}
        for one in kept.takers(now()):
            self._former.setdefault(one.holder, {})[one.life] = one
        self._pending: dict[tuple[str, Life], Taker] = {}
        self._next: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()

    @property
    def wait(self) -> bool:
        """Whether anything is left to be written, or to be seen to be out of use."""
        return bool(self._former or self._pending)

    async def comes(self, holder: str, life: Life) -> None:
        """One more stream of that process is about to be given what `holder` has."""
        takers = self._former[holder] if holder in self._former else self._now.setdefault(holder, {})
        before = takers.get(life, Taker(holder, life, 0))
        takers[life] = Taker(holder, life, before.streams + 1, before.lost)
        await self._write([takers[life]])

    async def are(self, holder: str, takers: Mapping[Life, Taker]) -> None:
        """Who has what `holder` has, or is about to be given it."""
        before = self._now.get(holder, {})
        changed = [one for life, one in takers.items() if before.get(life) != one]
        changed += [Taker(holder, life, 0) for life in before if life not in takers]
        self._now[holder] = dict(takers)
        if changed or self._pending:
            await self._write(changed)

    def gone(self, holder: str) -> None:
        """Nobody has it: nothing is written down of it any more."""
        self._now.pop(holder, None)
        self._former.pop(holder, None)

    def succeeded(self, holder: str) -> None:
        """Nothing is given out under that name any more."""
        if takers := self._now.pop(holder, None):
            self._former[holder] = takers

    async def out_of_use(self, listening: Mapping[Life, int]) -> list[str]:
        """The former holders of which nobody has anything. `listening`: on how many streams each process has been given
        the latest.
        """
        if not self._former:
            return []
        former = {holder: tuple(takers.values()) for holder, takers in self._former.items()}

        def unused() -> list[str]:
            return [
                holder
                for holder, takers in former.items()
                if all(_is_back(one, listening) or self._ended(one.life) for one in takers)
            ]

        found: list[str] = await self._in_worker(unused)
        return found

    async def ended(self, lives: Iterable[Life]) -> set[Life]:
        """Those that have certainly ended."""
        asked = tuple(lives)
        found: set[Life] = await self._in_worker(lambda: {life for life in asked if self._ended(life)})
        return found

    async def _write(self, rows: Iterable[Taker]) -> None:
        self._pending.update(((one.holder, one.life), one) for one in rows)
        if self._next is None:
            self._next = asyncio.ensure_future(self._write_pending())
        await asyncio.shield(self._next)

    async def _write_pending(self) -> None:
        # What comes while something is being written waits for the next time.
        async with self._turn:
            rows, self._pending, self._next = self._pending, {}, None
            try:
                await self._in_worker(partial(self._kept.taken, tuple(rows.values())))
            except BaseException:
                # With what comes next, but for what is known better by now.
                self._pending = rows | self._pending
                raise


def _is_back(one: Taker, listening: Mapping[Life, int]) -> bool:
    return one.life != UNKNOWN and not one.lost and listening.get(one.life, 0) >= one.streams
