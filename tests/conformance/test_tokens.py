"""A worker's tokens: each identity's own, never past their end, never shown, and a broker that may be away."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.broker import REFUSED, FakeBroker
from fakes.envoy import IDENTITY, Reply, Stream, Tls, Worker
from fakes.seals import seal_name
from fakes.spanner_oracle import DATABASE, RAW_SESSION, framed, message, path
from spangate.settings import INTERVALS

OTHER = b"spiffe://shop.example/ns/analytics/sa/reports"
FIRST = b"Bearer spangate-standin.1.checkout"
PERMISSION_DENIED, UNAVAILABLE = b"7", b"14"


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


def open_(worker: Worker, sql: str = "SELECT 1", identity: bytes = IDENTITY, **options: Any) -> Stream:
    session = seal_name(RAW_SESSION, identity, DATABASE)
    body = framed(message("ExecuteSql", sql=sql, session=session).SerializeToString())
    return worker.open(path("ExecuteSql"), body, tls=Tls(uris=(identity,)), **options)


def query(worker: Worker, broker: FakeBroker, *args: Any, **options: Any) -> Stream:
    stream = open_(worker, *args, **options)
    while stream.call is not None:
        stream.reply(broker(stream.call))
    assert not stream.failed, stream.log
    return stream


def sent(stream: Stream) -> bytes | None:
    """The `authorization` that goes on."""
    assert stream.admitted, stream.answered
    return stream.headers.get(b"authorization")


def shown(stream: Stream) -> bytes:
    """All that a client or a log gets to see."""
    return repr((stream.metadata, stream.answered, stream.log, stream.body)).encode()


def test_an_allowed_request_goes_on_with_the_token_of_its_identity(worker, broker):
    assert sent(query(worker, broker)) == FIRST
    assert sent(query(worker, broker, identity=OTHER)) == b"Bearer spangate-standin.2.reports"
    assert sent(query(worker, broker)) == FIRST
    assert broker.asked == [IDENTITY, OTHER]
    assert broker.timeouts_ms == [INTERVALS.broker_timeout_ms] * 2


def test_without_a_broker_there_is_none_and_nobody_asks(worker, broker):
    broker.checkpoint.more = {}
    assert sent(query(worker, broker)) is None
    assert broker.asked == []


def test_a_denied_request_costs_no_token(worker, broker):
    broker.checkpoint.allows = False
    assert not query(worker, broker).admitted
    assert broker.asked == []


@pytest.mark.parametrize("claimed", [[b"Bearer own"], [b"Bearer own", b"Basic own"], [b""]])
def test_what_a_client_claims_is_replaced_even_where_envoy_has_not_removed_it(worker, broker, claimed):
    stream = query(worker, broker, more_headers=[(b"authorization", value) for value in claimed])
    assert sent(stream) == FIRST


def test_a_token_is_remembered_and_asked_for_again_after_a_while(worker, broker):
    for _ in range(5):
        query(worker, broker)
    worker.now_ms += INTERVALS.token_check_ms - 1
    query(worker, broker)
    assert len(broker.asked) == 1
    worker.now_ms += 1
    assert sent(query(worker, broker)) == b"Bearer spangate-standin.2.checkout"
    assert broker.timeouts_ms[1] == INTERVALS.broker_renewal_timeout_ms


def test_one_request_pays_for_the_renewal_and_the_others_go_on(worker, broker):
    query(worker, broker)
    worker.now_ms += INTERVALS.token_check_ms
    paying = open_(worker)
    while paying.call.path != b"/authorize":
        paying.reply(broker(paying.call))
    assert sent(query(worker, broker)) == FIRST
    paying.reply(broker(paying.call))
    assert sent(paying) == b"Bearer spangate-standin.2.checkout"


@pytest.mark.parametrize("ttl_ms", [30_000, 60_000, 3_600_000])
def test_a_token_is_never_used_in_its_last_seconds(worker, broker, ttl_ms):
    broker.ttl_ms = ttl_ms
    query(worker, broker)
    broker.goes_away()
    worker.now_ms += ttl_ms - INTERVALS.token_margin_ms - 1
    assert sent(query(worker, broker)) == FIRST
    worker.now_ms += 1
    assert query(worker, broker).refusal == (UNAVAILABLE, b"token-unavailable")


def test_a_short_token_is_asked_for_again_soon(worker, broker):
    broker.ttl_ms = 30_000
    query(worker, broker)
    worker.now_ms += 7_500
    query(worker, broker)
    assert len(broker.asked) == 2


def test_a_broker_that_is_away_stops_only_who_has_no_token(worker, broker):
    query(worker, broker)
    broker.goes_away()
    worker.now_ms += INTERVALS.token_check_ms
    assert sent(query(worker, broker)) == FIRST
    stream = query(worker, broker, identity=OTHER)
    assert stream.refusal == (UNAVAILABLE, b"token-unavailable")
    assert b"broker does not answer" in stream.answered[b"grpc-message"]
    broker.comes_back()
    assert query(worker, broker, identity=OTHER).admitted
    worker.now_ms += INTERVALS.token_retry_ms
    assert sent(query(worker, broker)) not in (None, FIRST)


def test_while_the_broker_is_away_it_is_asked_once_in_a_while(worker, broker):
    query(worker, broker)
    broker.goes_away()
    worker.now_ms += INTERVALS.token_check_ms
    for _ in range(10):
        query(worker, broker)
    assert len(broker.asked) == 2
    worker.now_ms += INTERVALS.token_retry_ms
    query(worker, broker)
    assert len(broker.asked) == 3


def test_a_refusal_is_told_remembered_for_a_moment_and_ends_the_old_token(worker, broker):
    query(worker, broker)
    broker.reply = REFUSED
    worker.now_ms += INTERVALS.token_check_ms
    for _ in range(5):
        stream = query(worker, broker)
        assert stream.refusal == (PERMISSION_DENIED, b"token-refused")
        assert stream.answered[b"grpc-message"] == b"spangate: no binding; run this"
        assert stream.metadata[b"detail"] == b"spangate: no binding; run this"
    assert len(broker.asked) == 2
    broker.comes_back()
    worker.now_ms += INTERVALS.token_retry_ms
    assert query(worker, broker).admitted


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"x-spangate-authorization": b"Bearer t"},
        {b"x-spangate-ttl-ms": b"9"},
        {b"x-spangate-authorization": b"", b"x-spangate-ttl-ms": b"9"},
        {b"x-spangate-authorization": b"Bearer ", b"x-spangate-ttl-ms": b"9"},
        {b"x-spangate-authorization": b"Basic t", b"x-spangate-ttl-ms": b"9"},
        {b"x-spangate-authorization": b"Bearer a b", b"x-spangate-ttl-ms": b"9"},
        {b"x-spangate-authorization": b"Bearer a\r\nx: 1", b"x-spangate-ttl-ms": b"9"},
        {b"x-spangate-authorization": b"Bearer a,Bearer b", b"x-spangate-ttl-ms": b"9"},
        {b"x-spangate-authorization": b"Bearer t", b"x-spangate-ttl-ms": b"soon"},
    ],
)
@pytest.mark.parametrize("status", [b"200", b"500", b"503", b"204"])
def test_half_an_answer_is_none(worker, broker, headers, status):
    broker.reply = Reply({b":status": status, **headers})
    assert query(worker, broker).refusal == (UNAVAILABLE, b"token-unavailable")


def test_a_whole_answer_with_another_status_is_none(worker, broker):
    headers = {b"x-spangate-authorization": b"Bearer t", b"x-spangate-ttl-ms": b"60000"}
    broker.reply = Reply({b":status": b"503", **headers})
    stream = query(worker, broker)
    assert stream.refusal == (UNAVAILABLE, b"token-unavailable")
    assert b"Bearer" not in shown(stream)


def test_a_clock_that_was_set_back_prolongs_no_token(worker, broker):
    query(worker, broker)
    worker.now_ms -= 3_600_000
    assert sent(query(worker, broker)) == b"Bearer spangate-standin.2.checkout"


def test_another_policy_has_other_tokens(worker, broker):
    query(worker, broker)
    broker.checkpoint.epoch = b"00000000000f"
    worker.now_ms += INTERVALS.epoch_check_ms
    assert sent(query(worker, broker)) == b"Bearer spangate-standin.2.checkout"


def waiting_for_a_token(worker: Worker, broker: FakeBroker, **options: Any) -> Stream:
    stream = open_(worker, **options)
    while stream.call.path != b"/authorize":
        stream.reply(broker(stream.call))
    return stream


def finish(stream: Stream, broker: FakeBroker) -> Stream:
    while stream.call is not None:
        stream.reply(broker(stream.call))
    assert not stream.failed, stream.log
    return stream


def test_whoever_waited_for_a_token_is_looked_at_again(worker, broker):
    """The grant may have gone meanwhile, and nobody else may have asked."""
    waiting = waiting_for_a_token(worker, broker)
    broker.checkpoint.epoch, broker.checkpoint.allows = b"00000000000f", False
    worker.now_ms += INTERVALS.broker_timeout_ms - 1
    assert finish(waiting, broker).refusal == (UNAVAILABLE, b"checkpoint-unavailable")
    assert b"policy has changed" in waiting.answered[b"grpc-message"]
    assert b"authorization" not in waiting.headers
    assert finish(open_(worker), broker).refusal == (PERMISSION_DENIED, b"missing-grant d2")


def test_so_is_whoever_waited_for_a_renewal(worker, broker):
    query(worker, broker)
    worker.now_ms += INTERVALS.token_check_ms
    for away in (False, True):
        waiting = waiting_for_a_token(worker, broker)
        broker.checkpoint.epoch += b"f"
        worker.now_ms += INTERVALS.broker_renewal_timeout_ms
        if away:
            broker.goes_away()
        assert not finish(waiting, broker).admitted
        broker.comes_back()
        assert sent(query(worker, broker))
        worker.now_ms += INTERVALS.token_check_ms


def test_whoever_waited_for_a_token_under_the_same_policy_goes_on(worker, broker):
    waiting = waiting_for_a_token(worker, broker)
    worker.now_ms += INTERVALS.broker_timeout_ms - 1
    assert sent(finish(waiting, broker)) == FIRST


def test_a_root_that_was_retired_while_a_request_waited_is_retired_for_it(worker, broker):
    waiting = waiting_for_a_token(worker, broker)
    root = Tls().issuer.removeprefix(b"CN=").removesuffix(b",O=spangate")
    broker.checkpoint.told = {b"x-spangate-leaving": b"", b"x-spangate-refused": root}
    worker.now_ms += INTERVALS.broker_timeout_ms - 1
    assert finish(waiting, broker).refusal == (UNAVAILABLE, b"retired-certificate")


def test_a_certificate_that_ended_while_its_request_waited_has_ended(worker, broker):
    session = seal_name(RAW_SESSION, IDENTITY, DATABASE)
    body = framed(message("ExecuteSql", sql="SELECT 1", session=session).SerializeToString())
    waiting = worker.open(path("ExecuteSql"), body, tls=Tls(expires=worker.now_ms // 1000 + 5))
    while waiting.call.path != b"/authorize":
        waiting.reply(broker(waiting.call))
    worker.now_ms += 5_000
    assert finish(waiting, broker).refusal == (PERMISSION_DENIED, b"untrusted-certificate")


def test_a_request_that_waited_is_counted_once_under_a_root_on_its_way_out(worker, broker):
    root = Tls().issuer.removeprefix(b"CN=").removesuffix(b",O=spangate")
    broker.checkpoint.told = {b"x-spangate-leaving": root, b"x-spangate-refused": b""}
    waiting = waiting_for_a_token(worker, broker)
    assert finish(waiting, broker).counters == {b"spangate_leaving": 1}


def test_nobody_gets_the_token_of_an_alias_that_is_none_any_more(worker, broker):
    broker.checkpoint.told = {b"x-spangate-aliases": b"mesh.example=shop.example"}
    query(worker, broker)
    broker.checkpoint.epoch, broker.checkpoint.told = b"00000000000f", {}
    body = framed(
        message("ExecuteSql", sql="SELECT 2", session=seal_name(RAW_SESSION, IDENTITY, DATABASE)).SerializeToString()
    )
    mesh = Tls(uris=(IDENTITY.replace(b"shop.example", b"mesh.example"),))
    stream = finish(worker.open(path("ExecuteSql"), body, tls=mesh), broker)
    assert stream.refusal == (UNAVAILABLE, b"checkpoint-unavailable")
    assert broker.asked == [IDENTITY]


def test_a_token_of_the_old_policy_that_comes_late_is_neither_used_nor_kept(worker, broker):
    late = waiting_for_a_token(worker, broker)
    broker.checkpoint.epoch = b"00000000000f"
    worker.now_ms += INTERVALS.epoch_check_ms
    query(worker, broker, "SELECT 2", OTHER)
    assert finish(late, broker).refusal == (UNAVAILABLE, b"checkpoint-unavailable")
    assert sent(query(worker, broker)) == b"Bearer spangate-standin.3.checkout"


def test_many_identities_keep_their_own_and_memory_is_bounded(worker, broker):
    identities = [b"spiffe://shop.example/ns/shop/sa/w%d" % n for n in range(300)]
    first = {one: sent(query(worker, broker, identity=one)) for one in identities}
    assert all(first[one].endswith(one.rpartition(b"/")[2]) for one in identities)
    assert len(set(first.values())) == len(identities)
    assert {one: sent(query(worker, broker, identity=one)) for one in identities} == first


def test_large_tokens_push_others_out_and_nobody_gets_a_wrong_one(worker, broker):
    def reply_for(number: int) -> Reply:
        token = b"Bearer " + b"%05d" % number + b"x" * 12_000
        return Reply({b":status": b"200", b"x-spangate-authorization": token, b"x-spangate-ttl-ms": b"3600000"})

    for number in range(3000):
        broker.reply = reply_for(number)
        identity = b"spiffe://shop.example/ns/shop/sa/w%d" % number
        assert sent(query(worker, broker, identity=identity))[7:12] == b"%05d" % number
    worker.lua.execute(b"collectgarbage()")
    assert worker.lua.eval(b"collectgarbage('count')") < 64 * 1024


def test_tokens_are_in_nothing_that_is_told(worker, broker):
    streams = [query(worker, broker), query(worker, broker)]
    broker.reply = REFUSED
    worker.now_ms += INTERVALS.token_check_ms
    streams.append(query(worker, broker))
    for stream in streams:
        assert b"spangate-standin" not in shown(stream)


def test_a_request_that_cannot_be_rewritten_goes_nowhere(worker, broker):
    stream = open_(worker, set_bytes_fails=True)
    while stream.call is not None:
        stream.reply(broker(stream.call))
    assert not stream.admitted
    assert b"spangate-standin" not in shown(stream)
