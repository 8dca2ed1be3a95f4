"""Turns: fair among callers, bounded for each and altogether."""

from __future__ import annotations

import threading

import pytest

from spangate.adapters.turns import Turns
from spangate.errors import TryAgain


def turns(count: int = 1, *, waiting_max: int = 10, waiting_each_max: int = 5) -> Turns[int]:
    return Turns(range(count), waiting_max=waiting_max, waiting_each_max=waiting_each_max)


class Waiting:
    """Callers that wait, in the order in which they came, and the order in which they were served."""

    def __init__(self, tested: Turns[int]) -> None:
        self.served: list[str] = []
        self._tested = tested
        self._threads: list[threading.Thread] = []

    def add(self, who: str) -> None:
        def wait() -> None:
            thing = self._tested.take(who, 10)
            self.served.append(who)
            self._tested.give(who, thing)

        before = self.count()
        self._threads.append(threading.Thread(target=wait))
        self._threads[-1].start()
        while self.count() == before:
            pass

    def count(self) -> int:
        with self._tested._lock:
            return sum(map(len, self._tested._waiting.values()))

    def join(self) -> None:
        for thread in self._threads:
            thread.join(10)


def test_what_is_idle_is_taken_at_once_and_given_back() -> None:
    tested = turns()
    thing = tested.take("a", 0)
    with pytest.raises(TryAgain, match="too many new statements"):
        tested.take("a", 0.01)
    tested.give("a", thing)
    assert tested.take("b", 0) == thing


def test_callers_are_served_by_turns_however_many_times_one_asks() -> None:
    tested = turns()
    thing = tested.take("first", 0)
    waiting = Waiting(tested)
    for who in ("storm", "storm", "storm", "a", "b", "a"):
        waiting.add(who)
    tested.give("first", thing)
    waiting.join()
    assert waiting.served == ["storm", "a", "b", "storm", "a", "storm"]


def test_one_caller_never_holds_everything() -> None:
    tested = turns(3)
    assert {tested.take("storm", 0), tested.take("storm", 0)} <= {0, 1, 2}
    with pytest.raises(TryAgain):
        tested.take("storm", 0.01)
    assert tested.take("other", 0) in {0, 1, 2}


def test_waiting_is_bounded_for_each_and_altogether() -> None:
    tested = turns(waiting_max=3, waiting_each_max=2)
    thing = tested.take("first", 0)
    waiting = Waiting(tested)
    waiting.add("storm")
    waiting.add("storm")
    with pytest.raises(TryAgain):
        tested.take("storm", 10)
    waiting.add("other")
    with pytest.raises(TryAgain):
        tested.take("another", 10)
    tested.give("first", thing)
    waiting.join()
    assert sorted(waiting.served) == ["other", "storm", "storm"]


def test_who_gave_up_waiting_is_forgotten() -> None:
    tested = turns()
    thing = tested.take("a", 0)
    for _ in range(10):
        with pytest.raises(TryAgain):
            tested.take("b", 0.001)
    tested.give("a", thing)
    assert tested.take("c", 0) == thing
    assert not tested._waiting
    assert tested._held == {"c": 1}
