"""Which processes have a certificate that is given out no more; and, for whoever comes after this process, any at all.

Rules: a process is written down before it is given anything, with the number of its streams. Nobody has what is given
out no more once each of its processes has ended, or waits here: on as many streams as it did where it was given it, so
that each part of it has been given what is new. What a process took and closed its stream itself is its own affair: if
it waits on another one, or asked again, it is taken to use what it was given so.
Many that come at once are written down at once.
Not here: giving it out (workload_supply.py), the file (authority_store.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
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
        kept: Takings | None,
        now: Callable[[], datetime],
        in_worker: Callable[[Callable[[], Any]], Awaitable[Any]],
        ended: Callable[[Life], bool],
    ) -> None:
        """Reads what there is; without `kept` nothing is written down. `in_worker` runs what may block; `ended` says
        whether a process has certainly ended.
        """
        self._kept = kept
        self._in_worker = in_worker
        self._ended = ended
        # The streams of each process, as they are written down, or about to be: by holder.
        self._now: dict[str, dict[Life, int]] = {}
        # Of holders under whose names nothing is given out any more.
        self._former: dict[str, dict[Life, int]] = {}
        for one in kept.takers(now()) if kept is not None else ():
            self._former.setdefault(one.holder, {})[one.life] = one.streams
        # None: it has nothing any more.
        self._pending: dict[tuple[str, Life], int | None] = {}
        self._next: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()

    @property
    def wait(self) -> bool:
        """Whether anything is left to be written, or to be seen to be out of use."""
        return bool(self._former or self._pending)

    async def comes(self, holder: str, life: Life) -> None:
        """One more stream of that process is about to be given what `holder` has."""
        streams = self._former[holder] if holder in self._former else self._now.setdefault(holder, {})
        streams[life] = streams.get(life, 0) + 1
        await self._write({(holder, life): streams[life]})

    async def are(self, holder: str, streams: Mapping[Life, int]) -> None:
        """Who has what `holder` has, or is about to be given it."""
        before = self._now.get(holder, {})
        changed: dict[tuple[str, Life], int | None] = {
            (holder, life): count for life, count in streams.items() if before.get(life) != count
        }
        changed.update(((holder, life), None) for life in before if life not in streams)
        self._now[holder] = dict(streams)
        if changed or self._pending:
            await self._write(changed)

    def succeeded(self, holder: str) -> None:
        """Nothing is given out under that name any more; who waits has been given something else, stream for stream."""
        self._former[holder] = dict.fromkeys(self._now.pop(holder, {}), 0)

    def gone(self, holder: str) -> None:
        """Nobody has it: nothing is written down of it any more."""
        self._now.pop(holder, None)
        self._former.pop(holder, None)

    async def out_of_use(self, listening: Mapping[Life, int], up_to_date: Set[Life] = frozenset()) -> list[str]:
        """The former holders of which nobody has anything. `listening`: on how many streams each process has been given
        the latest; `up_to_date`: those that were given it last, also if they listen no more.
        """
        if not self._former:
            return []
        away = {
            holder: tuple(life for life, count in streams.items() if not _is_back(life, count, listening, up_to_date))
            for holder, streams in self._former.items()
        }

        def unused() -> list[str]:
            return [holder for holder, lives in away.items() if all(map(self._ended, lives))]

        found: list[str] = await self._in_worker(unused)
        return found

    async def ended(self, lives: Iterable[Life]) -> set[Life]:
        """Those that have certainly ended."""
        asked = tuple(lives)
        found: set[Life] = await self._in_worker(lambda: {life for life in asked if self._ended(life)})
        return found

    async def _write(self, streams: Mapping[tuple[str, Life], int | None]) -> None:
        if self._kept is None:
            return
        self._pending.update(streams)
        if self._next is None:
            self._next = asyncio.ensure_future(self._write_pending(self._kept))
        await asyncio.shield(self._next)

    async def _write_pending(self, kept: Takings) -> None:
        # What comes while something is being written waits for the next time.
        async with self._turn:
            rows, self._pending, self._next = self._pending, {}, None
            takers = tuple(Taker(holder, life, count) for (holder, life), count in rows.items() if count is not None)
            gone = tuple(key for key, count in rows.items() if count is None)
            try:
                await self._in_worker(partial(kept.taken, takers, gone))
            except BaseException:
                # With what comes next, but for what is known better by now.
                self._pending = rows | self._pending
                raise


def _is_back(life: Life, streams: int, listening: Mapping[Life, int], up_to_date: Set[Life]) -> bool:
    # Where it listened, a part of it that only asks says nothing of those that have not connected anew yet.
    asked_again = not streams and life in up_to_date
    return life != UNKNOWN and (asked_again or listening.get(life, 0) >= max(streams, 1))
