"""What was issued and may be in use, and the processes that it ends with: the same in memory and in the file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from fakes.clock import FakeClock
from spangate.adapters.authority_store import AuthorityFile
from spangate.authority.ledger import HeldLedger, Issued, Ledger, Life, Taker

LIFE, OTHER = Life("this run", 7, "100"), Life("this run", 8, "101")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["in memory", "in a file", "in a file that is opened again"])
def opened(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Callable[[], Ledger]:
    """The ledger, as it is found from now on."""

    def file() -> AuthorityFile:
        return AuthorityFile(tmp_path / "authority.sqlite", clock.now)

    if request.param == "in a file that is opened again":
        return file
    only = HeldLedger(clock.now) if request.param == "in memory" else file()
    return lambda: only


def leaf(clock: FakeClock, serial: int, holder: str, generation: int = 1) -> Issued:
    now = clock.now()
    return Issued("svid", "x", serial, now, now + timedelta(hours=1), generation=generation, holder=holder)


def holders(ledger: Ledger, clock: FakeClock) -> list[tuple[str, int]]:
    return sorted((one.holder, one.generation) for one in ledger.held(clock.now()))


def test_a_leaf_counts_until_it_is_replaced_given_up_or_has_ended(
    opened: Callable[[], Ledger], clock: FakeClock
) -> None:
    for serial, (holder, generation) in enumerate([("a", 1), ("a", 2), ("b", 1), ("", 1)], 1):
        opened().record(leaf(clock, serial, holder, generation))
    assert holders(opened(), clock) == [("", 1), ("a", 1), ("a", 2), ("b", 1)]
    opened().replaced("a", 2)
    assert holders(opened(), clock) == [("", 1), ("a", 2), ("b", 1)]
    opened().given_up("b")
    assert holders(opened(), clock) == [("", 1), ("a", 2)]
    clock.advance(timedelta(hours=1))
    assert holders(opened(), clock) == []


def test_a_process_is_known_until_its_holder_is_gone(opened: Callable[[], Ledger]) -> None:
    assert opened().lives() == {}
    opened().belongs("a", OTHER)
    opened().belongs("a", LIFE)
    opened().belongs("b", OTHER)
    assert opened().lives() == {"a": LIFE, "b": OTHER}
    opened().given_up("b")
    opened().given_up("nobody")
    assert opened().lives() == {"a": LIFE}


def test_who_has_been_given_a_leaf_is_known_until_it_is_out_of_use(
    opened: Callable[[], AuthorityFile], clock: FakeClock
) -> None:
    def takers() -> set[Taker]:
        return set(opened().takers(clock.now()))

    one, two, lost = Taker("a", LIFE, 1), Taker("a", OTHER, 2), Taker("b", LIFE, 0)
    for serial, holder in enumerate("ab", 1):
        opened().record(leaf(clock, serial, holder))
    opened().taken([one, two, lost])
    assert takers() == {one, two, lost}
    # What is said last holds, and who has nothing is forgotten.
    more = Taker("a", LIFE, 3)
    opened().taken([more], [("a", OTHER), ("c", OTHER)])
    assert takers() == {more, lost}
    opened().given_up("b")
    assert takers() == {more}
    opened().taken([lost, Taker("never signed for", LIFE, 1)])
    assert takers() == {more}
    clock.advance(timedelta(hours=1))
    assert takers() == set()
