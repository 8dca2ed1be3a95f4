"""A worker's cache of decisions: asked once, dropped with its policy, bounded, and never a way past the checkpoint."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

from fakes.checkpoint import AWAY, OWNER, ROLE, TAG, FakeCheckpoint
from fakes.envoy import IDENTITY, Reply, Stream, Tls, Worker
from fakes.seals import seal_name
from fakes.spanner_oracle import DATABASE, RAW_SESSION, SESSION, framed, message, path
from spangate.settings import INTERVALS

PERMISSION_DENIED, UNAVAILABLE = b"7", b"14"
NOT_DECIDED = (UNAVAILABLE, b"checkpoint-unavailable")
OTHER = b"spiffe://shop.example/ns/analytics/sa/reports"
OLD, NEW = b"000000000001", b"000000000002"


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def checkpoint() -> FakeCheckpoint:
    return FakeCheckpoint(epoch=OLD)


def body(sql: str = "SELECT 1", session: str = SESSION) -> bytes:
    return framed(message("ExecuteSql", sql=sql, session=session).SerializeToString())


def query(
    worker: Worker, checkpoint: FakeCheckpoint, sql: str = "SELECT 1", identity: bytes = IDENTITY, **options: Any
) -> Stream:
    session = seal_name(RAW_SESSION, identity, DATABASE)
    return worker.send(path("ExecuteSql"), body(sql, session), checkpoint, tls=Tls(uris=(identity,)), **options)


def begin(worker: Worker, sql: str = "SELECT 1") -> Stream:
    return worker.open(path("ExecuteSql"), body(sql))


def state(worker: Worker) -> dict[bytes, Any]:
    return dict(worker.internals[b"state"].items())


# Remembering ----------------------------------------------------------------------------------------------------------


def test_a_decision_is_not_asked_for_twice(worker, checkpoint):
    streams = [query(worker, checkpoint) for _ in range(10)]
    assert [stream.metadata for stream in streams] == [{b"allow": b"d1"}] * 10
    assert len({stream.body for stream in streams}) == 1
    assert len(checkpoint.asked) == 1


def test_a_decision_that_must_not_be_remembered_is_asked_for_each_time(worker, checkpoint):
    checkpoint.more = {b"x-spangate-remember": b"0"}
    assert [query(worker, checkpoint).metadata for _ in range(3)] == [{b"allow": b"d%d" % n} for n in (1, 2, 3)]
    checkpoint.more = {b"x-spangate-remember": b"1"}
    assert [query(worker, checkpoint).metadata for _ in range(3)] == [{b"allow": b"d4"}] * 3


def test_a_denial_is_not_asked_for_twice_and_says_the_same(worker, checkpoint):
    checkpoint.allows = False
    checkpoint.message = "spangate: `checkout` may not read Kunden; 100 % größer\n".encode()
    for _ in range(3):
        stream = query(worker, checkpoint)
        assert stream.refusal == (PERMISSION_DENIED, b"missing-grant d1")
        assert not stream.admitted
        assert b"detail" not in stream.metadata  # the recorded decision has it
        assert stream.answered[b"grpc-message"] == (
            b"spangate: `checkout` may not read Kunden; 100 %25 gr%C3%B6%C3%9Fer%0A"
        )
    assert len(checkpoint.asked) == 1


@pytest.mark.parametrize("status", [b"3", b"5", b"7"])
def test_a_denial_has_the_status_that_the_checkpoint_says_also_from_memory(worker, checkpoint, status):
    checkpoint.allows, checkpoint.status, checkpoint.reason = False, status, b"unreadable-statement"
    refusals = [query(worker, checkpoint).refusal for _ in range(2)]
    assert refusals == [(status, b"unreadable-statement d1")] * 2


@pytest.mark.parametrize("status", [b"", b"0", b"1", b"4", b"8", b"10", b"13", b"14", b"16", b"03", b"3 ", b"x", b"-3"])
def test_a_denial_with_any_other_status_is_permission_denied(worker, checkpoint, status):
    checkpoint.allows, checkpoint.status = False, status
    assert query(worker, checkpoint).refusal == (PERMISSION_DENIED, b"missing-grant d1")


def test_a_long_sentence_is_cut_between_characters(worker, checkpoint):
    checkpoint.allows = False
    checkpoint.message = b"x" + "ä".encode() * 5000
    message = query(worker, checkpoint).answered[b"grpc-message"].decode("ascii")
    assert unquote(message, errors="strict") == "x" + "ä" * 511


def test_another_statement_is_another_decision(worker, checkpoint):
    for sql in ("SELECT 1", "SELECT 2", "SELECT 1 "):
        query(worker, checkpoint, sql)
    assert len(checkpoint.asked) == 3


def test_identities_do_not_share_decisions(worker, checkpoint):
    assert query(worker, checkpoint).admitted
    checkpoint.allows = False
    assert not query(worker, checkpoint, identity=OTHER).admitted
    assert [identity for identity, _ in checkpoint.asked] == [IDENTITY, OTHER]
    assert query(worker, checkpoint).admitted


def test_methods_and_databases_do_not_share_decisions(worker, checkpoint):
    database = "projects/p/instances/i/databases/other"
    session = seal_name(f"{database}/sessions/s", IDENTITY, database)
    elsewhere = message("ExecuteSql", sql="SELECT 1", session=session)
    query(worker, checkpoint)
    worker.send(path("ExecuteStreamingSql"), body(), checkpoint)
    worker.send(path("ExecuteSql"), framed(elsewhere.SerializeToString()), checkpoint)
    assert len(checkpoint.asked) == 3


def test_workers_share_nothing(checkpoint):
    for _ in range(2):
        query(Worker(), checkpoint)
    assert len(checkpoint.asked) == 2


# Epochs ---------------------------------------------------------------------------------------------------------------


def test_the_epoch_is_checked_at_most_each_interval(worker, checkpoint):
    for _ in range(20):
        query(worker, checkpoint)
        worker.now_ms += INTERVALS.epoch_check_ms // 10
    assert checkpoint.epochs_asked == 2
    assert len(checkpoint.asked) == 1


def test_a_new_policy_takes_effect_with_the_next_check(worker, checkpoint):
    assert query(worker, checkpoint).admitted
    checkpoint.epoch, checkpoint.allows = NEW, False
    worker.now_ms += INTERVALS.epoch_check_ms - 1
    assert query(worker, checkpoint).admitted
    worker.now_ms += 1
    assert not query(worker, checkpoint).admitted


def test_a_new_policy_drops_denials_too(worker, checkpoint):
    checkpoint.allows = False
    assert not query(worker, checkpoint).admitted
    checkpoint.epoch, checkpoint.allows = NEW, True
    worker.now_ms += INTERVALS.epoch_check_ms
    assert query(worker, checkpoint).admitted


def test_one_request_pays_for_the_check_and_the_others_go_on(worker, checkpoint):
    query(worker, checkpoint)
    worker.now_ms += INTERVALS.epoch_check_ms
    paying = begin(worker)
    assert paying.call is not None
    assert paying.call.path == b"/epoch"
    assert begin(worker).admitted
    paying.reply(checkpoint(paying.call))
    assert paying.admitted


def test_a_decision_under_another_epoch_serves_its_request_and_is_not_kept(worker, checkpoint):
    query(worker, checkpoint, "SELECT 0")
    stream = begin(worker, "SELECT 1")
    assert stream.call is not None
    checkpoint.epoch = NEW
    before = checkpoint.epochs_asked
    stream.reply(checkpoint(stream.call))
    # It is reason enough to look at once which policy is the newer one.
    assert stream.call.path == b"/epoch"
    stream.reply(checkpoint(stream.call))
    assert stream.admitted
    assert checkpoint.epochs_asked == before + 1
    query(worker, checkpoint, "SELECT 1")
    assert checkpoint.epochs_asked == before + 1
    assert len(checkpoint.asked) == 3


def test_a_decision_under_another_epoch_is_void_while_nobody_says_which_is_the_newer_one(worker, checkpoint):
    query(worker, checkpoint, "SELECT 0")
    checkpoint.epoch, checkpoint.replies = NEW, {b"/epoch": AWAY}
    assert query(worker, checkpoint, "SELECT 1").refusal == NOT_DECIDED
    checkpoint.comes_back()
    assert query(worker, checkpoint, "SELECT 1").admitted


def test_an_answer_of_the_old_policy_that_comes_late_is_void_and_not_kept_under_the_new(worker, checkpoint):
    query(worker, checkpoint, "SELECT 0")
    late = begin(worker, "SELECT 1")
    assert late.call is not None
    allowed = checkpoint(late.call)
    checkpoint.epoch, checkpoint.allows = NEW, False
    worker.now_ms += INTERVALS.epoch_check_ms
    assert not query(worker, checkpoint, "SELECT 0").admitted
    late.reply(allowed)
    while late.call is not None:
        late.reply(checkpoint(late.call))
    assert late.refusal == NOT_DECIDED
    assert b"policy has changed" in late.answered[b"grpc-message"]
    assert not query(worker, checkpoint, "SELECT 1").admitted


MESH = IDENTITY.replace(b"shop.example", b"mesh.example")
ALIASED = {b"x-spangate-aliases": b"mesh.example=shop.example"}


@pytest.mark.parametrize(("before", "after"), [(ALIASED, {}), ({}, ALIASED)])
def test_who_opened_the_session_and_whom_the_decision_is_about_must_be_the_same(worker, checkpoint, before, after):
    """An alias comes or goes, and until its next look at the epoch the worker does not know."""
    checkpoint.told = before
    assert query(worker, checkpoint, "SELECT 0").admitted
    checkpoint.epoch, checkpoint.told = NEW, after
    session = seal_name(RAW_SESSION, IDENTITY if before else MESH, DATABASE)
    stream = worker.send(path("ExecuteSql"), body("SELECT 1", session), checkpoint, tls=Tls(uris=(MESH,)))
    assert stream.refusal == NOT_DECIDED
    assert b"policy has changed" in stream.answered[b"grpc-message"]
    assert checkpoint.asked[-1][0] == MESH
    # The next one is looked at under the new policy, at once.
    stream = worker.send(path("ExecuteSql"), body("SELECT 1", session), checkpoint, tls=Tls(uris=(MESH,)))
    assert stream.refusal == (PERMISSION_DENIED, b"foreign-session")
    session = seal_name(RAW_SESSION, IDENTITY if after else MESH, DATABASE)
    assert worker.send(path("ExecuteSql"), body("SELECT 1", session), checkpoint, tls=Tls(uris=(MESH,))).admitted


def test_a_decision_about_somebody_else_is_not_used_even_under_the_same_epoch(worker, checkpoint):
    checkpoint.more = {b"x-spangate-subject": OTHER}
    before = 0
    for _ in range(2):
        stream = query(worker, checkpoint)
        assert stream.refusal == NOT_DECIDED
        assert stream.body == body(session=seal_name(RAW_SESSION, IDENTITY, DATABASE))
        # Remembered or not, each is reason to look at once.
        assert checkpoint.epochs_asked > before
        before = checkpoint.epochs_asked


def test_a_request_that_waited_for_the_check_is_decided_by_the_new_policy(worker, checkpoint):
    query(worker, checkpoint)
    worker.now_ms += INTERVALS.epoch_check_ms
    waiting = begin(worker)
    checkpoint.epoch, checkpoint.allows = NEW, False
    while waiting.call is not None:
        waiting.reply(checkpoint(waiting.call))
    assert not waiting.admitted


# The checkpoint is away -----------------------------------------------------------------------------------------------


def test_without_a_checkpoint_nothing_new_passes(worker, checkpoint):
    checkpoint.goes_away()
    stream = query(worker, checkpoint)
    assert stream.refusal == NOT_DECIDED
    assert not stream.admitted


def test_a_known_decision_outlives_the_checkpoint_for_the_grace_and_no_longer(worker, checkpoint):
    query(worker, checkpoint)
    checkpoint.goes_away()
    worker.now_ms += INTERVALS.grace_ms
    assert query(worker, checkpoint).admitted
    assert query(worker, checkpoint, "SELECT 2").refusal == NOT_DECIDED
    worker.now_ms += 1
    stream = query(worker, checkpoint)
    assert stream.refusal == NOT_DECIDED
    assert not stream.admitted


def test_use_does_not_prolong_the_grace(worker, checkpoint):
    query(worker, checkpoint)
    checkpoint.goes_away()
    admitted = []
    for _ in range(12):
        worker.now_ms += INTERVALS.grace_ms // 10
        admitted.append(query(worker, checkpoint).admitted)
    assert admitted == [True] * 10 + [False] * 2


def test_time_spent_waiting_for_the_checkpoint_counts(worker, checkpoint):
    query(worker, checkpoint)
    checkpoint.goes_away()
    worker.now_ms += INTERVALS.grace_ms
    stream = begin(worker)
    worker.now_ms += INTERVALS.checkpoint_timeout_ms
    while stream.call is not None:
        stream.reply(AWAY)
    assert stream.refusal == NOT_DECIDED


def test_a_checkpoint_that_comes_back_with_the_same_policy_finds_the_cache_good(worker, checkpoint):
    query(worker, checkpoint)
    checkpoint.goes_away()
    worker.now_ms += 10 * INTERVALS.grace_ms
    assert query(worker, checkpoint).refusal == NOT_DECIDED
    checkpoint.comes_back()
    worker.now_ms += INTERVALS.epoch_check_ms
    asked = len(checkpoint.asked)
    assert query(worker, checkpoint).admitted
    assert len(checkpoint.asked) == asked


GOOD = {
    b":status": b"200",
    b"x-spangate-decision": b"allow",
    b"x-spangate-id": b"d",
    b"x-spangate-epoch": OLD,
    b"x-spangate-role": ROLE,
    b"x-spangate-tag": TAG,
    b"x-spangate-owner": OWNER,
    b"x-spangate-subject": IDENTITY,
}
BAD = {b":status": b"200", b"x-spangate-decision": b"deny", b"x-spangate-id": b"d", b"x-spangate-epoch": OLD}
GARBAGE: dict[str, dict[bytes, bytes]] = {
    "nothing": {},
    "only a status": {b":status": b"200"},
    "an error": {b":status": b"500"},
    "an error with a good answer": {**GOOD, b":status": b"500"},
    "another success": {**GOOD, b":status": b"204"},
    "a strange verdict": {**GOOD, b"x-spangate-decision": b"maybe"},
    "a verdict in capitals": {**GOOD, b"x-spangate-decision": b"ALLOW"},
    "two verdicts": {**GOOD, b"x-spangate-decision": b"allow,deny"},
    "a denial without a reason": BAD,
    "a denial with an empty reason": {**BAD, b"x-spangate-reason": b""},
    **{f"no {name.decode()}": {k: v for k, v in GOOD.items() if k != name} for name in GOOD},
    **{f"an empty {name.decode()}": {**GOOD, name: b""} for name in GOOD},
}


@pytest.mark.parametrize("case", GARBAGE)
def test_an_answer_that_is_not_whole_is_no_decision(worker, checkpoint, case):
    checkpoint.replies = {b"/decide": Reply(GARBAGE[case], b"garbage")}
    for _ in range(2):
        stream = query(worker, checkpoint)
        assert stream.refusal == NOT_DECIDED
        assert not stream.admitted
        assert not stream.failed
    assert len(checkpoint.asked) == 2


def test_the_whole_answer_of_those_cases_is_a_decision(worker, checkpoint):
    checkpoint.replies = {b"/decide": Reply(GOOD)}
    assert query(worker, checkpoint).admitted
    checkpoint.replies = {b"/decide": Reply({**BAD, b"x-spangate-reason": b"missing-grant"})}
    assert query(worker, checkpoint, "SELECT 2").refusal == (PERMISSION_DENIED, b"missing-grant d")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b":status": b"200"},
        {b":status": b"200", b"x-spangate-epoch": b""},
        {b":status": b"500", b"x-spangate-epoch": OLD},
    ],
)
def test_an_epoch_that_is_not_told_confirms_nothing(worker, checkpoint, headers):
    query(worker, checkpoint)
    checkpoint.goes_away()
    checkpoint.replies[b"/epoch"] = Reply(headers)
    worker.now_ms += INTERVALS.grace_ms + 1
    assert query(worker, checkpoint).refusal == NOT_DECIDED


# Clocks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back_ms", [1, 400, 4_999, 5_001, 3_600_000])
def test_a_clock_that_is_set_back_prolongs_nothing(worker, checkpoint, back_ms):
    query(worker, checkpoint)
    checkpoint.goes_away()
    worker.now_ms -= back_ms
    stream = query(worker, checkpoint)
    assert stream.refusal == NOT_DECIDED


@pytest.mark.parametrize("back_ms", [1_000, 4_999, 3_600_000])
def test_a_new_policy_takes_effect_at_once_when_the_clock_was_set_back(worker, checkpoint, back_ms):
    query(worker, checkpoint)
    checkpoint.epoch, checkpoint.allows = NEW, False
    worker.now_ms -= back_ms
    assert not query(worker, checkpoint).admitted


def test_a_clock_that_was_set_back_costs_one_check(worker, checkpoint):
    query(worker, checkpoint)
    worker.now_ms -= 3_600_000
    before = checkpoint.epochs_asked
    for _ in range(5):
        assert query(worker, checkpoint).admitted
    assert checkpoint.epochs_asked == before + 1


# Bounds ---------------------------------------------------------------------------------------------------------------


def cached(worker: Worker) -> tuple[int, int]:
    """Entries and key bytes of both generations."""
    keys = [key for generation in (b"young", b"old") for key in state(worker)[generation]]
    return len(keys), sum(map(len, keys))


@pytest.mark.thorough
def test_the_cache_holds_two_generations_of_entries_at_most(worker, checkpoint):
    limit = worker.internals[b"limits"][b"cache_entries_max"]
    for number in range(2 * limit + limit // 2):
        query(worker, checkpoint, f"SELECT {number}")
    entries, _ = cached(worker)
    assert limit <= entries <= 2 * limit
    # The newest are there, the oldest are gone.
    asked = len(checkpoint.asked)
    query(worker, checkpoint, f"SELECT {2 * limit}")
    assert len(checkpoint.asked) == asked
    query(worker, checkpoint, "SELECT 1")
    assert len(checkpoint.asked) == asked + 1


def test_the_cache_holds_two_generations_of_bytes_at_most(worker, checkpoint):
    limit = worker.internals[b"limits"][b"cache_key_bytes_max"]
    filler = "x" * 900_000
    for number in range(60):
        query(worker, checkpoint, f"SELECT {number} {filler}")
        checkpoint.asked.clear()
    entries, key_bytes = cached(worker)
    assert entries > 10
    assert key_bytes <= 2 * limit


def test_a_decision_that_is_used_survives_the_generations(worker, checkpoint):
    filler = "x" * 900_000
    for number in range(60):
        query(worker, checkpoint, f"SELECT {number} {filler}")
        query(worker, checkpoint, "SELECT 'often'")
    assert sum(b"often" in shape for _, shape in checkpoint.asked) == 1


def test_a_statement_too_long_to_remember_is_decided_each_time(worker, checkpoint):
    sql = "SELECT '" + "x" * 2_000_000 + "'"
    for _ in range(2):
        assert query(worker, checkpoint, sql).admitted
    assert len(checkpoint.asked) == 2
    assert cached(worker) == (0, 0)


# Too much to do -------------------------------------------------------------------------------------------------------

BUSY_SENTENCE = b"spangate: the checkpoint has too many new statements to analyse; try again"
AWAY_SENTENCE = b"spangate: the checkpoint does not answer, so nothing can be decided; try again"


@pytest.mark.parametrize("word", [{b"x-spangate-busy": b"1"}, {b"x-envoy-overloaded": b"true"}])
def test_a_checkpoint_with_too_much_to_do_refuses_and_the_client_is_told(worker, checkpoint, word):
    checkpoint.replies[b"/decide"] = Reply({b":status": b"503", **word}, b"too much")
    stream = query(worker, checkpoint)
    assert stream.refusal == NOT_DECIDED
    assert stream.answered[b"grpc-message"] == BUSY_SENTENCE
    assert cached(worker) == (0, 0)


def test_no_answer_while_the_epoch_is_told_means_too_much_to_do(worker, checkpoint):
    query(worker, checkpoint)
    waiting = begin(worker, "SELECT 2")
    assert waiting.call.path == b"/decide"
    worker.now_ms += INTERVALS.epoch_check_ms
    assert query(worker, checkpoint).admitted
    waiting.reply(Reply({b":status": b"504"}, b"upstream request timeout"))
    assert waiting.refusal == NOT_DECIDED
    assert waiting.answered[b"grpc-message"] == BUSY_SENTENCE


def test_a_checkpoint_that_is_away_is_not_called_busy(worker, checkpoint):
    query(worker, checkpoint)
    waiting = begin(worker, "SELECT 2")
    waiting.reply(Reply({b":status": b"504"}, b"upstream request timeout"))
    assert waiting.refusal == NOT_DECIDED
    assert waiting.answered[b"grpc-message"] == AWAY_SENTENCE


def test_a_question_whose_connection_ends_is_asked_once_more_of_the_successor(worker, checkpoint):
    query(worker, checkpoint)
    waiting = begin(worker, "SELECT 2")
    first = waiting.call
    waiting.reply(AWAY)
    assert waiting.refusal is None
    assert (waiting.call.path, waiting.call.body) == (b"/decide", first.body)
    assert waiting.call.headers == first.headers
    waiting.reply(checkpoint.decision())
    assert waiting.admitted


def test_it_is_not_asked_a_third_time(worker, checkpoint):
    query(worker, checkpoint)
    waiting = begin(worker, "SELECT 2")
    waiting.reply(AWAY)
    waiting.reply(AWAY)
    assert waiting.refusal == NOT_DECIDED
    assert waiting.answered[b"grpc-message"] == AWAY_SENTENCE


@pytest.mark.parametrize("status", [b"400", b"500", b"504"])
def test_what_the_checkpoint_says_or_does_not_say_in_time_is_not_asked_again(worker, checkpoint, status):
    query(worker, checkpoint)
    waiting = begin(worker, "SELECT 2")
    waiting.reply(Reply({b":status": status}, b""))
    assert waiting.refusal == NOT_DECIDED


def test_a_question_that_is_asked_again_may_be_denied(worker, checkpoint):
    query(worker, checkpoint)
    checkpoint.allows = False
    waiting = begin(worker, "SELECT 2")
    waiting.reply(AWAY)
    waiting.reply(checkpoint.decision())
    assert waiting.refusal == (b"7", b"missing-grant d%d" % len(checkpoint.asked))


def test_the_epoch_is_asked_for_past_the_queue_of_new_statements(worker, checkpoint):
    # Envoy's clusters are connections and queues of their own.
    asked = worker.open(path("ExecuteSql"), body()).call
    assert (asked.path, asked.headers[b":authority"]) == (b"/epoch", b"spangate_epoch")
    assert_not_let_through(query(Worker(clusters=(b"spangate_checkpoint",)), checkpoint))
    assert_not_let_through(query(Worker(clusters=(b"spangate_epoch",)), checkpoint))


# Failures of the script -----------------------------------------------------------------------------------------------


def assert_not_let_through(stream: Stream) -> None:
    assert stream.failed
    assert stream.log
    assert b"allow" not in stream.metadata
    assert not stream.admitted


def test_a_call_that_fails_leaves_no_mark(checkpoint):
    assert_not_let_through(query(Worker(clusters=()), checkpoint))


def test_a_body_that_cannot_be_replaced_leaves_no_mark(worker, checkpoint):
    query(worker, checkpoint)
    assert_not_let_through(query(worker, checkpoint, set_bytes_fails=True))


def test_a_defect_in_reading_is_a_refusal_that_says_so(worker, checkpoint):
    # A table that a defect has damaged: the statement's spec is gone.
    worker.internals[b"paths"][path("ExecuteSql")][b"spec"] = None
    stream = query(worker, checkpoint)
    assert stream.refusal == (PERMISSION_DENIED, b"filter-failed")
    assert not stream.admitted
    assert stream.log
    assert checkpoint.asked == []
