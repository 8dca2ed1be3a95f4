"""Renewal in time: halfway, spread out, never given up, over within an instant when told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.clock import NOON, FakeClock
from fakes.keys import FakeKeys
from spangate.adapters import renewer as module
from spangate.adapters.renewer import RETRY_SECONDS_MAX, Renewer, renew_at, retry_after
from spangate.adapters.sds_door import SecretSource
from spangate.adapters.svid_client import Svid, sign_here
from spangate.authority.ca import Authority
from spangate.errors import Broken, TryAgain, YourFault
from spangate.model.identity import SpiffeId

CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake clock stands still, so the thread must look at it often."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(module, "PAUSE_SECONDS_MIN", 0.005)


class Issuer:
    """Counts, and fails when told to."""

    def __init__(self, clock: FakeClock) -> None:
        self._authority = Authority.create("shop.example", clock, FakeKeys())
        self.failure: Exception | None = None
        self.asked = 0

    def __call__(self) -> Svid:
        self.asked += 1
        if self.failure:
            raise self.failure
        return sign_here(self._authority, FakeKeys(), CHECKOUT)


def soon(probe: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not probe() and time.monotonic() < deadline:
        time.sleep(0.002)
    return probe()


class Running:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.issuer = Issuer(self.clock)
        self.source = SecretSource()
        self.problems: list[str] = []
        self.renewer = Renewer(
            self.issuer, self.source, clock=self.clock, problem=self.problems.append, jitter=lambda: 0.5
        )

    def __enter__(self) -> Running:
        self.renewer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.renewer.stop()


def test_the_first_certificate_is_in_place_when_start_returns() -> None:
    with Running() as running:
        secrets = running.source.current()
        assert secrets is not None
        assert running.issuer.asked == 1


def test_the_next_certificate_is_fetched_halfway_and_not_before() -> None:
    with Running() as running:
        first = running.source.current()
        running.clock.advance(timedelta(minutes=29, seconds=59))
        time.sleep(0.05)
        assert running.source.current() == first
        running.clock.advance(timedelta(seconds=1))
        assert soon(lambda: running.source.current() != first)
        assert running.problems == []


def test_a_failure_is_reported_with_the_time_that_is_left_and_tried_again() -> None:
    with Running() as running:
        first = running.source.current()
        running.issuer.failure = TryAgain("no authority listens")
        running.clock.advance(timedelta(minutes=30))
        assert soon(lambda: len(running.problems) == 1)
        assert running.problems == [
            f"cannot renew the certificate of `{CHECKOUT}`, which ends in 1800 s: no authority listens"
        ]
        assert running.source.current() == first
        running.clock.advance(timedelta(hours=1))
        assert soon(lambda: len(running.problems) == 2)
        assert "which has ended" in running.problems[1]
        running.issuer.failure = None
        running.clock.advance(timedelta(minutes=1))
        assert soon(lambda: running.source.current() != first)


def test_what_to_do_about_a_failure_is_said_with_it() -> None:
    with Running() as running:
        running.issuer.failure = YourFault("the token was first shown from another address", help="delete the pod")
        running.clock.advance(timedelta(minutes=30))
        assert soon(lambda: len(running.problems) == 1)
        assert running.problems[0].endswith(": the token was first shown from another address; delete the pod")


def test_even_an_unforeseen_defect_does_not_end_the_renewing() -> None:
    with Running() as running:
        first = running.source.current()
        running.issuer.failure = ZeroDivisionError()
        running.clock.advance(timedelta(minutes=30))
        assert soon(lambda: len(running.problems) == 1)
        assert running.problems[0].endswith("ZeroDivisionError")
        running.issuer.failure = None
        running.clock.advance(timedelta(minutes=1))
        assert soon(lambda: running.source.current() != first)


def test_a_failure_at_the_start_is_the_caller_s_to_see() -> None:
    running = Running()
    running.issuer.failure = TryAgain("no authority listens")
    with pytest.raises(TryAgain, match="no authority listens"):
        running.renewer.start()
    running.renewer.stop()
    assert running.source.current() is None


def test_it_stops_at_once_and_twice_and_is_not_started_twice() -> None:
    before = threading.active_count()
    with Running() as running:
        with pytest.raises(Broken, match="started twice"):
            running.renewer.start()
        began = time.monotonic()
        running.renewer.stop()
        assert time.monotonic() - began < 1
    assert threading.active_count() == before


@given(st.timedeltas(timedelta(days=-2), timedelta(days=2)), st.floats(0, 1))
def test_renewal_is_never_in_the_past_and_leaves_at_least_two_fifths_of_the_life(
    left: timedelta, jitter: float
) -> None:
    due = renew_at(NOON, NOON + left, jitter)
    assert due >= NOON
    if left > timedelta(0):
        assert 0.399 * left <= due - NOON <= 0.601 * left


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_pauses_after_failures_are_bounded_at_both_ends(failures: int, jitter: float) -> None:
    assert 0.5 <= retry_after(failures, jitter) <= RETRY_SECONDS_MAX
    assert retry_after(failures, jitter) <= retry_after(failures + 1, jitter)
