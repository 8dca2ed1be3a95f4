"""While a root is on its way out, whoever speaks under it is served and asked to connect anew; once gone, nobody is."""

from __future__ import annotations

import pytest

from fakes.checkpoint import FakeCheckpoint
from fakes.envoy import IDENTITY, Stream, Tls, Worker
from fakes.seals import seal_name
from fakes.spanner_oracle import DATABASE, RAW_SESSION, framed, message, path
from spangate.authority.template import CA_ORGANIZATION
from spangate.dataplane import module_source
from spangate.settings import INTERVALS

OLD, NEW, OTHER = (b"spangate intermediate %d %s" % (n, d * 16) for n, d in ((1, b"a"), (2, b"b"), (3, b"c")))
REFUSED = (b"14", b"retired-certificate")
COUNTER = b"spangate_leaving"


def under(name: bytes) -> Tls:
    return Tls(issuer=b"CN=%s,O=spangate" % name)


def query(worker: Worker, checkpoint: FakeCheckpoint, *, tls: Tls) -> Stream:
    session = seal_name(RAW_SESSION, IDENTITY, DATABASE)
    body = framed(message("ExecuteSql", sql="SELECT 1", session=session).SerializeToString())
    return worker.send(path("ExecuteSql"), body, checkpoint, tls=tls)


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def checkpoint() -> FakeCheckpoint:
    return FakeCheckpoint()


def tell(checkpoint: FakeCheckpoint, worker: Worker, leaving: bytes = b"", refused: bytes = b"") -> None:
    """The checkpoint tells these, and the next request asks."""
    checkpoint.told = {b"x-spangate-leaving": leaving, b"x-spangate-refused": refused}
    worker.now_ms += INTERVALS.epoch_check_ms


def test_as_long_as_no_root_changes_nothing_is_drained_counted_or_refused(worker, checkpoint):
    for told in ({}, {b"x-spangate-leaving": b"", b"x-spangate-refused": b""}):
        checkpoint.told = told
        worker.now_ms += INTERVALS.epoch_check_ms
        stream = query(worker, checkpoint, tls=under(OLD))
        assert stream.admitted
        assert not stream.drained
        assert stream.counters == {}


def test_under_a_root_on_its_way_out_requests_are_served_counted_and_their_connection_drained(worker, checkpoint):
    tell(checkpoint, worker, leaving=OLD)
    stream = query(worker, checkpoint, tls=under(OLD))
    assert stream.admitted
    assert stream.drained
    assert stream.counters == {COUNTER: 1}
    stream = query(worker, checkpoint, tls=under(NEW))
    assert stream.admitted
    assert not stream.drained
    assert stream.counters == {}


def test_under_a_root_that_is_gone_requests_are_refused_in_a_way_that_clients_try_again(worker, checkpoint):
    assert query(worker, checkpoint, tls=under(OLD)).admitted
    tell(checkpoint, worker, refused=OLD)
    for _ in range(2):
        stream = query(worker, checkpoint, tls=under(OLD))
        assert stream.refusal == REFUSED
        assert not stream.admitted
        assert stream.drained
        assert b"retired" in stream.answered[b"grpc-message"]
    assert query(worker, checkpoint, tls=under(NEW)).admitted


def test_the_question_of_the_request_itself_is_soon_enough(worker, checkpoint):
    """Not the next one: a worker that was idle for long knows nothing else."""
    assert query(worker, checkpoint, tls=under(OLD)).admitted
    checkpoint.told = {b"x-spangate-leaving": b"", b"x-spangate-refused": OLD}
    worker.now_ms += 3_600_000
    assert query(worker, checkpoint, tls=under(OLD)).refusal == REFUSED


def test_several_issuers_and_both_kinds_at_once(worker, checkpoint):
    tell(checkpoint, worker, leaving=NEW, refused=OLD + b"," + OTHER)
    assert query(worker, checkpoint, tls=under(OLD)).refusal == REFUSED
    assert query(worker, checkpoint, tls=under(OTHER)).refusal == REFUSED
    assert query(worker, checkpoint, tls=under(NEW)).drained


def test_what_was_refused_stays_so_while_the_checkpoint_is_away_or_knows_nothing(worker, checkpoint):
    tell(checkpoint, worker, refused=OLD)
    assert query(worker, checkpoint, tls=under(OLD)).refusal == REFUSED
    checkpoint.goes_away()
    worker.now_ms += INTERVALS.epoch_check_ms
    assert query(worker, checkpoint, tls=under(OLD)).refusal == REFUSED
    checkpoint.comes_back()
    checkpoint.told = {}
    worker.now_ms += INTERVALS.epoch_check_ms
    assert query(worker, checkpoint, tls=under(OLD)).refusal == REFUSED


def test_when_the_last_certificate_has_ended_nobody_looks_any_more(worker, checkpoint):
    tell(checkpoint, worker, refused=OLD)
    assert query(worker, checkpoint, tls=under(OLD)).refusal == REFUSED
    tell(checkpoint, worker)
    assert query(worker, checkpoint, tls=under(OLD)).admitted


def test_a_name_that_only_begins_alike_is_another_name(worker, checkpoint):
    tell(checkpoint, worker, refused=OLD)
    for issuer in (b"CN=" + OLD, b"CN=%s0,O=spangate" % OLD, b"O=spangate,CN=" + OLD, b""):
        assert query(worker, checkpoint, tls=Tls(issuer=issuer)).admitted


def test_the_filter_knows_the_authoritys_organization() -> None:
    assert f',O={CA_ORGANIZATION}"' in module_source("decisions")
