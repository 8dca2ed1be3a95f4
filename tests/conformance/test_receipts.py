"""The commit timestamp of a receipt, read from Spanner's answer to Commit."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.spanner_v1 import types
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.checkpoint import FakeCheckpoint
from fakes.envoy import Stream, Worker
from fakes.spanner_oracle import framed, message, path

MOMENT = {"seconds": 1_893_585_600, "nanos": 123_456_000}
RECEIPT = b"1893585600.123456000"


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker()


def response(**fields: Any) -> bytes:
    answer = types.CommitResponse
    data: bytes = answer.pb(answer(**fields)).SerializeToString()
    return data


def answered(worker: Worker, body: bytes | None, method: str = "Commit") -> Stream:
    stream = worker.send(path(method), framed(message(method).SerializeToString()), FakeCheckpoint())
    assert stream.admitted
    stream.spanner_answers(body)
    assert not stream.failed, stream.log
    return stream


def receipt(worker: Worker, body: bytes | None) -> bytes | None:
    return answered(worker, body).metadata.get(b"commit")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"commit_stats": {"mutation_count": 7}},
        {"snapshot_timestamp": {"seconds": 1, "nanos": 2}},
        {"isolation_level": 2, "read_lock_mode": 1},
        {"cache_update": {"database_id": 5}},
        {"commit_stats": {"mutation_count": 7}, "snapshot_timestamp": {"seconds": 1}, "cache_update": {}},
    ],
)
def test_a_commit_has_a_receipt_with_its_timestamp(worker, fields):
    assert receipt(worker, framed(response(commit_timestamp=MOMENT, **fields))) == RECEIPT


def test_with_a_precommit_token_nothing_is_committed_yet(worker):
    token = {"precommit_token": b"token", "seq_num": 3}
    assert receipt(worker, framed(response(commit_timestamp=MOMENT, precommit_token=token))) is None
    assert receipt(worker, framed(response(precommit_token={}))) is None


def test_fields_that_spanner_adds_one_day_are_passed_over(worker):
    data = response(commit_timestamp=MOMENT)
    assert receipt(worker, framed(data + b"\x4a\x01x" + b"\x50\x05")) == RECEIPT
    assert receipt(worker, framed(b"\x4a\x01x\x4a\x00" + data)) == RECEIPT


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"\0\0\0",
        framed(b""),
        framed(response(commit_stats={"mutation_count": 1})),
        framed(response(commit_timestamp=MOMENT))[:-1],
        b"\x01" + framed(response(commit_timestamp=MOMENT))[1:],
        framed(b"\xff\xff\xff"),
        framed(response(commit_timestamp=MOMENT) * 2),
        framed(b"\x0a\x03\x08\x01\x08"),
        framed(response(commit_timestamp=MOMENT) + b"\x53"),
    ],
)
def test_an_answer_without_a_readable_timestamp_gives_none_and_no_error(worker, body):
    assert receipt(worker, body) is None


def test_only_commits_have_receipts(worker):
    stream = answered(worker, framed(response(commit_timestamp=MOMENT)), method="ExecuteSql")
    assert b"commit" not in stream.metadata
    assert b"answer" not in stream.metadata


def test_a_refused_commit_has_no_receipt():
    body = framed(message("Commit").SerializeToString())
    stream = Worker().send(path("Commit"), body, FakeCheckpoint(allows=False))
    assert stream.refusal is not None
    stream.spanner_answers(framed(response(commit_timestamp=MOMENT)))
    assert b"commit" not in stream.metadata
    assert not stream.failed


def test_a_commit_has_the_mark_by_which_its_answer_is_read(worker):
    stream = worker.send(path("Commit"), framed(message("Commit").SerializeToString()), FakeCheckpoint())
    assert stream.metadata[b"answer"] == b"commit"


@given(st.integers(0, 253_402_300_799), st.integers(0, 999_999_999), st.integers(0, 2**63 - 1))
@settings(max_examples=150, deadline=None)
def test_any_timestamp_is_read_to_the_nanosecond(worker, seconds, nanos, count):
    data = response(commit_timestamp={"seconds": seconds, "nanos": nanos}, commit_stats={"mutation_count": count})
    assert receipt(worker, framed(data)) == b"%d.%09d" % (seconds, nanos)


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_answer_makes_the_filter_fail(worker, data):
    answered(worker, data)
    answered(worker, framed(data))
