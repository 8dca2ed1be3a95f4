"""Whether a part that has ended is started again, and when."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from spangate.app.restarts import PAUSES_SECONDS, WINDOW_SECONDS, GivenUp, Running, Waiting, ended, started

# How long a part lived, or took to be started, each time.
LIVES = st.lists(st.floats(min_value=0, max_value=3 * WINDOW_SECONDS), max_size=40)


def lived(lives: list[float]) -> tuple[list[float], Running | Waiting | GivenUp]:
    """When it ended, and what became of it."""
    now, moments = 0.0, []
    state: Running | Waiting | GivenUp = Running()
    for life in lives:
        if isinstance(state, GivenUp):
            break
        if isinstance(state, Waiting):
            now = max(now, state.due)
            state = started(state)
        now += life
        moments.append(now)
        state = ended(state, now)
    return moments, state


def test_a_first_end_is_followed_by_a_start_at_once() -> None:
    assert ended(Running(), 1000.0) == Waiting((1000.0,), 1000.0)


def test_ends_in_a_row_get_growing_pauses_and_are_given_up_in_the_end() -> None:
    state: Running | Waiting | GivenUp = Running()
    for pause in PAUSES_SECONDS:
        assert isinstance(state, Running)
        state = ended(state, 5.0)
        assert isinstance(state, Waiting)
        assert state.due == 5.0 + pause
        state = started(state)
    assert isinstance(state, Running)
    assert isinstance(ended(state, 5.0), GivenUp)
    assert all(first < second for first, second in pairwise(PAUSES_SECONDS))


def test_a_start_that_fails_counts_like_an_end() -> None:
    waiting = ended(Running(), 1.0)
    assert isinstance(waiting, Waiting)
    assert ended(waiting, 1.0) == Waiting((1.0, 1.0), 1.0 + PAUSES_SECONDS[1])


@given(LIVES)
def test_it_is_given_up_exactly_when_there_are_too_many_ends_within_the_window(lives: list[float]) -> None:
    moments, state = lived(lives)
    crowded = [
        last
        for last in range(len(moments))
        if sum(moments[last] - moment < WINDOW_SECONDS for moment in moments[: last + 1]) > len(PAUSES_SECONDS)
    ]
    assert isinstance(state, GivenUp) == bool(crowded)
    # And at the first such end.
    assert crowded in ([], [len(moments) - 1])


@given(LIVES)
def test_what_ended_long_ago_does_not_count_and_is_not_remembered(lives: list[float]) -> None:
    moments, state = lived(lives)
    if moments:
        assert all(moments[-1] - moment < WINDOW_SECONDS for moment in state.ends)
    assert len(state.ends) <= len(PAUSES_SECONDS) + 1


@given(LIVES)
def test_a_start_is_never_due_before_the_end(lives: list[float]) -> None:
    moments, state = lived(lives)
    if isinstance(state, Waiting):
        assert moments[-1] <= state.due <= moments[-1] + max(PAUSES_SECONDS)
