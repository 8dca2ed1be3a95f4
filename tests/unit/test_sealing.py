"""Sealing keys: known before they seal, replaced daily, accepted as long as what they sealed can live."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spangate.checkpoint.sealing import ACCEPTANCE, RENEWAL, ROTATION, SETTLING, SealKey, SealKeys, due, in_use
from spangate.errors import PeersFault

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)


class FakeStore:
    """In memory, and able to fail."""

    def __init__(self, *keys: SealKey) -> None:
        self.keys = {key.id: key for key in keys}
        self.fails = False

    def load(self) -> tuple[SealKey, ...]:
        if self.fails:
            raise PeersFault("away")
        return tuple(self.keys.values())

    def add(self, key: SealKey) -> None:
        self.keys[key.id] = key

    def remove(self, ids: Iterable[str]) -> None:
        for one in ids:
            self.keys.pop(one, None)


class Checkpoints:
    """Several of them, with one store and one clock."""

    def __init__(self, count: int = 1, *keys: SealKey) -> None:
        self.now = NOON
        self.made = 0
        self.store = FakeStore(*keys)
        self.all = [SealKeys(self.store, self._make, lambda: self.now) for _ in range(count)]

    def _make(self, now: datetime) -> SealKey:
        self.made += 1
        return key(self.made, now)


def key(number: int, created: datetime) -> SealKey:
    return SealKey(f"{number:08x}", f"{number:032x}", created)


def ids(header: str) -> list[int]:
    return [int(one.split(":")[0], 16) for one in header.split(",")]


def test_the_first_key_is_made_and_in_use_at_once():
    checkpoints = Checkpoints()
    (one,) = checkpoints.all
    assert one.header == ""
    one.renew()
    assert one.header == f"{1:08x}:{1:032x}"


def test_a_new_key_is_known_before_it_seals():
    checkpoints = Checkpoints(2)
    one, two = checkpoints.all
    for each in (one, two):
        each.renew()
    checkpoints.now += ROTATION
    one.renew()
    assert ids(one.header) == [1, 2]
    checkpoints.now += RENEWAL
    two.renew()
    assert ids(two.header) == [1, 2]
    checkpoints.now += SETTLING
    for each in (one, two):
        each.renew()
        assert ids(each.header) == [2, 1]
    assert checkpoints.made == 2


def test_a_key_is_accepted_until_nothing_lives_that_it_has_sealed_and_then_forgotten():
    checkpoints = Checkpoints()
    (one,) = checkpoints.all
    for _ in range(ACCEPTANCE // ROTATION + 5):
        one.renew()
        checkpoints.now += ROTATION
    assert len(ids(one.header)) == len(checkpoints.store.keys) <= ACCEPTANCE // ROTATION + 1
    assert 1 not in ids(one.header)


def test_after_a_long_pause_there_is_a_fresh_key_and_no_old_one():
    checkpoints = Checkpoints(1, key(99, NOON - 2 * ACCEPTANCE))
    (one,) = checkpoints.all
    one.renew()
    assert ids(one.header) == [1]


def test_what_a_store_that_fails_once_gave_stays_in_use():
    checkpoints = Checkpoints()
    (one,) = checkpoints.all
    one.renew()
    before = one.header
    checkpoints.store.fails = True
    checkpoints.now += 2 * ROTATION
    with pytest.raises(PeersFault):
        one.renew()
    assert one.header == before


def test_a_key_says_no_secret_when_it_is_shown():
    shown = repr(key(7, NOON))
    assert f"{7:032x}" not in shown
    assert "00000007" in shown


@given(st.lists(st.integers(-40 * 24 * 60, 60), max_size=12, unique=True))
def test_the_sealing_key_is_the_newest_settled_one_and_everyone_accepts_it(minutes):
    keys = [key(number, NOON + timedelta(minutes=at)) for number, at in enumerate(minutes)]
    used = in_use(keys, NOON)
    assert {one.id for one in used} == {one.id for one in keys if one.created > NOON - ACCEPTANCE}
    settled = [one for one in used if one.created <= NOON - SETTLING]
    if settled:
        assert used[0] == max(settled, key=lambda one: one.created)
    elif used:
        assert used[0] == min(used, key=lambda one: one.created)
    assert due(keys, NOON) == (not any(one.created > NOON - ROTATION for one in keys))
