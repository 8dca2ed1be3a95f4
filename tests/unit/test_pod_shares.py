"""One pod takes no more than its share, and what it does not use any more comes back."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from fakes.clock import FakeClock
from spangate.authority import pod_shares
from spangate.authority.pod_shares import GIVEN_AT_ONCE_MAX, GIVEN_EVERY, NAMES_OF_POD_MAX, PodShares
from spangate.authority.template import SVID_LIFETIME_MAX
from spangate.errors import TryAgain


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def shares(clock: FakeClock) -> PodShares:
    return PodShares(clock.now, threading.Lock())


def test_a_name_is_free_when_nobody_can_hold_anything_under_it(shares: PodShares, clock: FakeClock) -> None:
    for number in range(NAMES_OF_POD_MAX):
        assert shares.takes_name("pod", str(number))
    assert not shares.takes_name("pod", "one more")
    clock.advance(SVID_LIFETIME_MAX / 2)
    assert shares.takes_name("pod", "0")
    clock.advance(SVID_LIFETIME_MAX / 2 + timedelta(seconds=1))
    # All the others have not been heard of for as long as a certificate may live.
    found = [shares.takes_name("pod", f"another {number}") for number in range(NAMES_OF_POD_MAX)]
    assert found == [True] * (NAMES_OF_POD_MAX - 1) + [False]
    assert shares.takes_name("pod", "0")


def test_what_was_given_at_once_is_made_up_for_with_time(shares: PodShares, clock: FakeClock) -> None:
    def given(asked: int) -> int:
        for count in range(asked):
            try:
                shares.give("pod")
            except TryAgain:
                return count
        return asked

    assert given(1000) == GIVEN_AT_ONCE_MAX
    clock.advance(10 * GIVEN_EVERY)
    assert given(1000) == 10
    # Who asks for nothing meanwhile has no more than that to come.
    clock.advance(timedelta(days=1))
    assert given(1000) == GIVEN_AT_ONCE_MAX


def test_a_clock_that_is_set_back_shuts_nobody_out(shares: PodShares, clock: FakeClock) -> None:
    shares.give("pod")
    clock.advance(timedelta(hours=-1))
    with pytest.raises(TryAgain):
        shares.give("pod")
    clock.advance(GIVEN_EVERY)
    shares.give("pod")


def test_pods_have_a_limit_and_those_who_use_nothing_make_room(
    shares: PodShares, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_shares, "PODS_MAX", 2)
    shares.give("one")
    shares.takes_name("two", "name")
    with pytest.raises(TryAgain, match="more than 2 pods"):
        shares.give("three")
    clock.advance(GIVEN_EVERY)
    shares.give("three")
    with pytest.raises(TryAgain, match="more than 2 pods"):
        shares.takes_name("four", "name")
    shares.gone("two", "name")
    assert shares.takes_name("four", "name")
    shares.gone("nobody", "name")
