"""A few things that many callers want for a moment, handed out by turns.

Rules: whoever asks for the first time comes before whoever had a turn just now; one caller holds all but one of the
things at most, so that somebody else's work never waits for all of his; what waits has a limit, for each caller and
altogether. Any thread may call.
Not here: what the things are (analysers.py).
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from spangate.errors import TryAgain

T = TypeVar("T")


class _Ticket(Generic[T]):
    """One wait; `given` is what it got."""

    __slots__ = ("given", "served")

    def __init__(self) -> None:
        self.served = threading.Event()
        self.given: list[T] = []


class Turns(Generic[T]):
    """`take` one, use it, `give` it back."""

    def __init__(self, things: Iterable[T], *, waiting_max: int, waiting_each_max: int) -> None:
        self._idle = list(things)
        self._share = max(1, len(self._idle) - 1)
        self._waiting_max = waiting_max
        self._waiting_each_max = waiting_each_max
        self._lock = threading.Lock()
        # Those who wait, by whose turn it is next.
        self._waiting: OrderedDict[str, deque[_Ticket[T]]] = OrderedDict()
        self._held: Counter[str] = Counter()

    def take(self, who: str, seconds: float) -> T:
        """One thing, within `seconds`. Raises TryAgain if too many wait already, or nothing comes free in time."""
        ticket: _Ticket[T] = _Ticket()
        with self._lock:
            mine = self._waiting.get(who, ())
            if len(mine) >= self._waiting_each_max or sum(map(len, self._waiting.values())) >= self._waiting_max:
                raise TryAgain("the checkpoint has too many new statements to analyse")
            self._waiting.setdefault(who, deque()).append(ticket)
            self._hand_out()
        if not ticket.served.wait(seconds):
            with self._lock:
                if not ticket.served.is_set():
                    self._forget(who, ticket)
                    raise TryAgain("the checkpoint has too many new statements to analyse")
        return ticket.given[0]

    def give(self, who: str, thing: T) -> None:
        """Gives back what `who` has taken."""
        with self._lock:
            self._held[who] -= 1
            if self._held[who] <= 0:
                del self._held[who]
            self._idle.append(thing)
            self._hand_out()

    def _hand_out(self) -> None:
        """Serves whose turn it is, as long as there is something to give."""
        while self._idle:
            who = next((one for one in self._waiting if self._held[one] < self._share), None)
            if who is None:
                return
            ticket = self._waiting[who].popleft()
            if self._waiting[who]:
                self._waiting.move_to_end(who)
            else:
                del self._waiting[who]
            self._held[who] += 1
            ticket.given.append(self._idle.pop())
            ticket.served.set()

    def _forget(self, who: str, ticket: _Ticket[T]) -> None:
        self._waiting[who].remove(ticket)
        if not self._waiting[who]:
            del self._waiting[who]
