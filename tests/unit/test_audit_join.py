"""Joining a line of the gateway with its decision: every line gives one record, with the right reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spangate.audit.facts import DecisionFacts, facts_of
from spangate.audit.join import join, join_raw
from spangate.audit.record import GRPC_STATUS_NAMES, OUTCOME_OF, Outcome
from spangate.decision.record import decision_to_json
from spangate.model.access import Access, Operation
from spangate.model.decision import Decision, Reason

CHECKOUT = "spiffe://shop.example/ns/shop/sa/checkout"
READ = Access(Operation.READ, "Orders", ("OrderId", "Total"))
INSERT = Access(Operation.INSERT, "Orders", ("OrderId",))


def decision(**changes: Any) -> dict[str, object]:
    facts: dict[str, Any] = {
        "id": "d1",
        "allowed": True,
        "reason": Reason.GRANTED,
        "identity": CHECKOUT,
        "name": "checkout",
        "rpc": "Commit",
        "database": "shop",
        "accesses": (INSERT, READ),
        "missing": (),
        "grants": (),
        "policy": "0123456789ab",
        "detail": "",
    }
    return decision_to_json(Decision(**(facts | changes)))


DENIAL = decision(id="d2", allowed=False, reason=Reason.MISSING_GRANT, missing=(READ,), detail="add `Total`")
DECISIONS = {"d1": facts_of(decision()), "d2": facts_of(DENIAL)}


def line(**changes: object) -> dict[str, object]:
    """An allowed commit, as the gateway writes it."""
    return {
        "time": "2030-01-02T12:00:00.123Z",
        "identity": CHECKOUT,
        "path": "/google.spanner.v1.Spanner/Commit",
        "allow": "d1",
        "deny": None,
        "detail": None,
        "grpc_status": 0,
        "commit": "1893585600.123456789",
        "total_us": 5100,
        "gateway_us": 90,
        "spanner_us": 4900,
        "request_id": "r-1",
        "response_flags": None,
        "response_code_details": "via_upstream",
    } | changes


def undecided(**changes: object) -> dict[str, object]:
    return line(**({"allow": None, "commit": None, "grpc_status": None} | changes))


def find(decision_id: str) -> DecisionFacts | None:
    return DECISIONS.get(decision_id)


def test_an_allowed_write_is_a_receipt_with_identity_policy_accesses_and_commit_timestamp() -> None:
    assert json.loads(join(line(), find).to_json()) == {
        "time": "2030-01-02T12:00:00.123Z",
        "decision": "allow",
        "reason": "granted",
        "identity": CHECKOUT,
        "claimed_identity": None,
        "presented_identity": None,
        "name": "checkout",
        "rpc": "Commit",
        "database": "shop",
        "accesses": ["insert Orders(OrderId)", "read Orders(OrderId, Total)"],
        "missing": [],
        "policy": "0123456789ab",
        "decision_id": "d1",
        "grpc_status": "OK",
        "grpc_code": 0,
        "commit_timestamp": "2030-01-02T12:00:00.123456789Z",
        "duration_us": {"total": 5100, "gateway": 90, "spanner": 4900},
        "request_id": "r-1",
        "detail": None,
        "problem": None,
    }


def test_a_denial_tells_what_is_missing_and_what_would_help() -> None:
    record = join(line(allow=None, deny="missing-grant d2", commit=None, grpc_status=7), find)
    assert (record.decision, record.reason, record.problem) == (Outcome.DENY, Reason.MISSING_GRANT, None)
    assert record.missing == ("read Orders(OrderId, Total)",)
    assert record.detail == "add `Total`"
    assert record.grpc_status == "PERMISSION_DENIED"
    assert record.decision_id == "d2"


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("unsupported-rpc", Outcome.REFUSE),
        ("compressed-message", Outcome.REFUSE),
        ("checkpoint-unavailable", Outcome.ERROR),
        ("filter-failed", Outcome.ERROR),
        ("unknown-identity", Outcome.DENY),
    ],
)
def test_a_denial_without_a_decision_has_the_reason_of_the_filter(reason: str, outcome: Outcome) -> None:
    record = join(line(allow=None, deny=reason, detail="said so"), find)
    assert (record.decision, record.reason, record.detail) == (outcome, Reason(reason), "said so")
    assert record.identity == CHECKOUT
    assert record.problem is None


def test_every_reason_has_an_outcome_and_only_a_grant_allows() -> None:
    assert set(OUTCOME_OF) == set(Reason)
    assert [reason for reason, outcome in OUTCOME_OF.items() if outcome is Outcome.ALLOW] == [Reason.GRANTED]


@pytest.mark.parametrize("reason", ["no-certificate", "untrusted-certificate", "retired-certificate"])
def test_an_identity_in_a_certificate_that_was_not_accepted_is_only_claimed(reason: str) -> None:
    record = join(line(allow=None, deny=reason), find)
    assert (record.identity, record.claimed_identity) == (None, CHECKOUT)


@pytest.mark.parametrize(
    ("details", "reason", "outcome"),
    [
        ("rbac_access_denied_matched_policy[none]", Reason.FILTER_FAILED, Outcome.ERROR),
        ("request_payload_too_large", Reason.REQUEST_TOO_LARGE, Outcome.REFUSE),
        ("http2.too_many_headers", Reason.REQUEST_TOO_LARGE, Outcome.REFUSE),
        ("http2.remote_reset", Reason.MALFORMED_REQUEST, Outcome.REFUSE),
        ("downstream_remote_disconnect", Reason.MALFORMED_REQUEST, Outcome.REFUSE),
        ("stream_idle_timeout", Reason.MALFORMED_REQUEST, Outcome.REFUSE),
        ("route_not_found", Reason.FILTER_FAILED, Outcome.ERROR),
        ("lua_response", Reason.FILTER_FAILED, Outcome.ERROR),
    ],
)
def test_a_line_without_a_mark_gets_its_reason_from_envoy_s_own_words(
    details: str, reason: Reason, outcome: Outcome
) -> None:
    record = join(undecided(response_code_details=details), find)
    assert (record.decision, record.reason, record.detail) == (outcome, reason, details)
    assert (record.identity, record.claimed_identity) == (None, CHECKOUT)
    assert record.problem is None


def test_a_line_without_a_mark_and_without_any_words_is_a_failed_filter() -> None:
    record = join(undecided(response_code_details=None), find)
    assert (record.decision, record.reason) == (Outcome.ERROR, Reason.FILTER_FAILED)


def test_a_request_that_reached_spanner_without_a_decision_is_called_just_that() -> None:
    record = join(undecided(response_code_details="via_upstream"), find)
    assert (record.decision, record.reason) == (Outcome.ERROR, Reason.FILTER_FAILED)
    assert record.problem == "the request reached Spanner without a decision"


def test_an_unknown_decision_keeps_what_the_gateway_did_and_says_what_is_lacking() -> None:
    record = join(line(allow="gone"), find)
    assert (record.decision, record.reason, record.decision_id) == (Outcome.ALLOW, Reason.GRANTED, "gone")
    assert record.problem == "there is no readable record of the decision"
    assert record.commit_timestamp == "2030-01-02T12:00:00.123456789Z"
    record = join(line(allow=None, deny="missing-grant gone"), find)
    assert (record.decision, record.reason) == (Outcome.DENY, Reason.MISSING_GRANT)
    assert record.problem == "there is no readable record of the decision"


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (decision(identity="spiffe://shop.example/ns/shop/sa/admin"), "made for another identity"),
        (decision(id="d9"), "has another id"),
        (decision(allowed=False, reason=Reason.MISSING_GRANT), "was another one: missing-grant"),
    ],
)
def test_a_decision_that_does_not_fit_the_line_is_a_problem_and_lends_it_no_facts(
    found: dict[str, object], problem: str
) -> None:
    record = join(line(), lambda _: facts_of(found))
    assert record.problem is not None
    assert problem in record.problem
    assert (record.accesses, record.policy, record.name) == ((), None, None)


@pytest.mark.parametrize(
    ("changes", "decided", "reason", "problem"),
    [
        ({"deny": "missing-grant d2"}, Outcome.ERROR, Reason.FILTER_FAILED, "marked both allowed and denied"),
        ({"allow": None, "deny": "because d2"}, Outcome.ERROR, None, "a reason that there is not: because"),
        ({"allow": None, "deny": "granted d1"}, Outcome.ERROR, Reason.GRANTED, "denied the request with the reason"),
        ({"allow": None, "deny": "unknown-table d2"}, Outcome.ERROR, Reason.UNKNOWN_TABLE, "was another one"),
    ],
)
def test_marks_that_contradict_one_another_are_errors(
    changes: dict[str, object], decided: Outcome, reason: Reason | None, problem: str
) -> None:
    record = join(line(**changes), find)
    assert (record.decision, record.reason) == (decided, reason)
    assert record.problem is not None
    assert problem in record.problem


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"hello", b"[" * 100_000, b'{"a": 1}{"b": 2}'])
def test_a_line_that_is_no_json_object_is_a_record_that_shows_its_beginning(raw: bytes) -> None:
    record = join_raw(raw, find)
    assert (record.decision, record.reason) == (Outcome.ERROR, None)
    assert record.problem == "the gateway's line cannot be read"
    assert record.detail == raw[:200].decode()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("time", None),
        ("time", "yesterday"),
        ("time", 5),
        ("identity", ["a"]),
        ("grpc_status", "seven"),
        ("grpc_status", True),
        ("total_us", -1),
        ("total_us", float("nan")),
        ("total_us", 10**400),
        ("commit", "1893585600"),
        ("commit", "-1.000000000"),
        ("commit", "999999999999.000000000"),
        ("commit", "1.0000000000"),
        ("commit", "١.000000000"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named_and_does_not_stand_in_the_way_of_the_others(
    key: str, value: object
) -> None:
    record = join(line(**{key: value}), find)
    assert record.problem is not None
    assert f"no readable {key}" in record.problem
    assert record.rpc == "Commit"
    assert record.decision in (Outcome.ALLOW, Outcome.ERROR)


@pytest.mark.parametrize("nothing", [None, "", "-"])
def test_envoy_s_ways_of_saying_nothing_are_nothing(nothing: str | None) -> None:
    record = join(
        line(grpc_status=nothing, spanner_us=nothing, commit=nothing, detail=nothing, request_id=nothing), find
    )
    assert record.problem is None
    assert (record.grpc_code, record.grpc_status, record.commit_timestamp) == (None, None, None)
    assert (record.duration_us.spanner, record.detail, record.request_id) == (None, None, None)


def test_a_call_of_another_service_keeps_its_whole_path_and_a_long_one_is_shortened() -> None:
    assert join(line(path="/grpc.health.v1.Health/Check"), find).rpc == "/grpc.health.v1.Health/Check"
    shortened = join(line(path="/" + "x" * 100_000), find).rpc
    assert shortened is not None
    assert len(shortened) == 2048


def test_status_numbers_that_grpc_does_not_know_have_no_name() -> None:
    assert join(line(grpc_status=99), find).grpc_status is None
    assert [join(line(grpc_status=code), find).grpc_status for code in range(17)] == list(GRPC_STATUS_NAMES)


def test_a_path_that_is_no_utf8_or_holds_newlines_gives_one_line_of_ascii() -> None:
    raw = b'{"time": "2030-01-02T12:00:00Z", "path": "/a\xff\\nb\\u001b[2J\\ud800"}'
    text = join_raw(raw, find).to_json()
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["rpc"] == "/a\ufffd\nb\x1b[2J\ud800"


OLD = CHECKOUT.replace("shop.example", "old.example")


def test_an_identity_under_an_alias_is_itself_and_the_record_says_what_was_presented() -> None:
    facts = facts_of(decision(presented=OLD))
    record = join(line(identity=OLD), lambda _: facts)
    assert (record.identity, record.presented_identity, record.problem) == (CHECKOUT, OLD, None)


@pytest.mark.parametrize(("presented", "identity"), [(OLD, CHECKOUT), ("", OLD)])
def test_a_decision_for_another_name_of_the_identity_is_a_contradiction(presented: str, identity: str) -> None:
    facts = facts_of(decision(presented=presented))
    record = join(line(identity=identity), lambda _: facts)
    assert record.problem == f"the decision was made for another identity: {presented or CHECKOUT}"
    assert (record.decision, record.identity) == (Outcome.ERROR, identity)
