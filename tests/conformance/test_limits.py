"""The filter states the limits and intervals of settings.py, and fits where it must go."""

from __future__ import annotations

import pytest

from fakes.envoy import Worker
from spangate.dataplane import FILTER_BYTES_MAX, filter_source
from spangate.decision.explain import MESSAGE_BYTES_MAX
from spangate.settings import INTERVALS, LIMITS


@pytest.fixture(scope="module")
def limits():
    return {name.decode(): value for name, value in Worker().internals[b"limits"].items()}


@pytest.mark.parametrize("name", ["request_bytes_max", "commit_bytes_max", "entries_max", "distinct_max"])
def test_the_filter_has_the_limit_of_the_settings(limits, name):
    assert limits[name] == getattr(LIMITS, name)


TIMES = ["epoch_check_ms", "grace_ms", "checkpoint_timeout_ms", "epoch_timeout_ms", "token_check_ms", "token_retry_ms"]


@pytest.mark.parametrize("name", [*TIMES, "token_margin_ms", "broker_timeout_ms", "broker_renewal_timeout_ms"])
def test_the_filter_has_the_interval_of_the_settings(limits, name):
    assert limits[name] == getattr(INTERVALS, name)


def test_the_filter_has_room_for_the_longest_sentence_of_the_checkpoint(limits):
    assert limits["message_bytes_max"] == MESSAGE_BYTES_MAX


def test_the_script_fits_into_istios_resources():
    assert len(filter_source().encode()) < FILTER_BYTES_MAX
