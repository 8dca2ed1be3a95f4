"""Sentences for the caller and for whoever keeps the policy; decisions written down and read back."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fakes import shop
from fakes.clock import NOON
from spangate.decision import (
    BadDecisionRecord,
    decide,
    decision_from_json,
    decision_to_json,
    denial_message,
    explain_json,
    explain_sentence,
    refuse,
)
from spangate.decision.explain import MESSAGE_BYTES_MAX
from spangate.model.access import Access, Operation
from spangate.model.decision import Decision, Reason
from spangate.model.identity import SpiffeId

READ, INSERT, DELETE = Operation.READ, Operation.INSERT, Operation.DELETE
POLICY = dataclasses.replace(shop.policy(), version="3f2a9c1b7d04")
ID = "mfrggzdfmztwq2lk"


def asked(*accesses: Access, who: SpiffeId = shop.REPORTS) -> Decision:
    return decide(POLICY, who, "ExecuteSql", shop.PATH, accesses, ID, NOON)


def refused(reason: Reason, detail: str = "", who: SpiffeId = shop.REPORTS) -> Decision:
    return refuse(POLICY, who, "ExecuteSql", shop.PATH, reason, detail, ID)


ALLOWED = asked(Access(READ, "Customers", ("CustomerId", "Name")), who=shop.CHECKOUT)
DENIED = asked(Access(READ, "Customers", ("CustomerId", "Email")))


def test_the_caller_hears_what_it_lacks_and_how_to_learn_more() -> None:
    assert denial_message(DENIED) == (
        "spangate: `reports` (spiffe://shop.example/ns/analytics/sa/reports) may not read Customers(Email) in shop "
        "[missing-grant, policy 3f2a9c1b7d04, decision mfrggzdfmztwq2lk; see: spangate explain mfrggzdfmztwq2lk]"
    )


def test_the_caller_hears_all_that_is_missing() -> None:
    text = denial_message(asked(Access(READ, "Customers", ("Email",)), Access(DELETE, "Orders")))
    assert "may not delete Orders, read Customers(Email) in shop [" in text


def test_the_caller_never_hears_where_the_policy_stands() -> None:
    for decision in (DENIED, asked(who=shop.COPILOT), asked(Access(DELETE, "Orders"))):
        assert decision.detail
        assert decision.detail not in denial_message(decision)
        assert shop.FILE not in denial_message(decision)


def test_an_unknown_identity_hears_nothing_but_that() -> None:
    assert denial_message(asked(Access(READ, "Orders", ("Total",)), who=shop.STRANGER)) == (
        "spangate: spiffe://shop.example/ns/shop/sa/stranger is not an identity of the policy "
        "[unknown-identity, policy 3f2a9c1b7d04, decision mfrggzdfmztwq2lk; see: spangate explain mfrggzdfmztwq2lk]"
    )


def test_an_identity_without_grants_hears_that_it_has_none_here() -> None:
    text = denial_message(asked(who=shop.COPILOT))
    assert "`copilot` (spiffe://shop.example/ns/tools/sa/copilot) holds no grant in shop [missing-grant," in text


def test_the_caller_hears_the_analysers_own_sentence() -> None:
    text = denial_message(refused(Reason.UNREADABLE_STATEMENT, "Syntax error: Unexpected end of statement [at 1:8]"))
    assert "cannot be analysed: Syntax error: Unexpected end of statement [at 1:8] [unreadable-statement," in text


def test_line_breaks_in_a_detail_become_blanks_and_controls_question_marks() -> None:
    assert "analysed: a b?[31m [unreadable" in denial_message(refused(Reason.UNREADABLE_STATEMENT, "a\n\n\tb\x1b[31m"))


def test_an_allow_has_no_denial() -> None:
    with pytest.raises(ValueError, match="no denial"):
        denial_message(ALLOWED)


RICH = shop.policy(
    shop.INTENT.replace("\naccess:", "\nroles: {clerk: {shop: {read: [Orders]}}}\naccess:").replace(
        "      read: [Orders, OrderItems, Customers(CustomerId, Region)]",
        "      read: [Orders(Total), OrderItems]\n      ddl: {until: 2026-12-31T18:00Z}\n"
        "      deny: {delete: [Orders], read: [Customers]}\n    roles: [clerk]",
    )
)


def rich(*accesses: Access) -> Decision:
    return dataclasses.replace(
        decide(RICH, shop.REPORTS, "ExecuteSql", shop.PATH, accesses, ID, NOON), policy="3f2a9c1b7d04"
    )


def test_a_star_is_answered_with_the_way_out() -> None:
    columns = ("Item", "OrderId", "Quantity")
    policy = shop.policy(
        shop.INTENT.replace("read:   [Customers(CustomerId, Name), Orders, OrderItems]", "read: [OrderItems(Item)]")
    )
    star = Access(READ, "OrderItems", columns, every=True)
    decision = decide(policy, shop.CHECKOUT, "ExecuteSql", shop.PATH, (star,), ID, NOON)
    assert " may not read OrderItems(*) in shop; name the columns instead of `*` [missing-grant," in denial_message(
        decision
    )
    assert (
        "no grant gives it; name the columns instead of `*`, or add `OrderItems` under access.checkout.shop.read "
        "(spangate.yaml:15:14) to allow it"
    ) in explain_sentence(decision)


def test_an_exception_is_named_to_whoever_keeps_the_policy_and_not_to_the_caller() -> None:
    decision = rich(Access(READ, "Customers", ("Name",)), Access(DELETE, "Orders"))
    text = denial_message(decision)
    assert " may not delete Orders, read Customers(Name) in shop: an exception denies it [denied," in text
    assert shop.FILE not in text
    assert explain_sentence(decision) == (
        "reports may not delete Orders, read Customers(Name) in shop: denied by access.reports.shop.deny.delete at "
        "spangate.yaml:23:23 and access.reports.shop.deny.read at spangate.yaml:23:39 (policy 3f2a9c1b7d04)."
    )


def test_a_grant_by_a_role_is_named_where_it_stands() -> None:
    assert "because of roles.clerk.shop.read at spangate.yaml:12:" in explain_sentence(rich(Access(READ, "Orders")))


def test_a_grant_that_has_ended_is_named_with_its_end() -> None:
    later = decide(
        RICH, shop.REPORTS, "X", shop.PATH, (Access(Operation.DDL, ""),), ID, datetime(2026, 12, 31, 18, tzinfo=UTC)
    )
    assert "may not change the schema in shop [missing-grant," in denial_message(later)
    assert "no grant gives it; extend the grant that ended at 2026-12-31T18:00Z (spangate.yaml:22:12) to allow it" in (
        explain_sentence(later)
    )


WORDS = {
    Access(Operation.SCHEMA, ""): "read the schema",
    Access(Operation.DDL, ""): "change the schema",
    Access(Operation.INFORMATION_SCHEMA, ""): "read INFORMATION_SCHEMA",
    Access(Operation.SPANNER_SYS, ""): "read SPANNER_SYS",
    Access(Operation.EXCLUDE_FROM_CHANGE_STREAMS, ""): "leave writes out of change streams",
    Access(Operation.PARTITIONED_DML, ""): "run partitioned DML",
    Access(Operation.PARTITIONED_DML, "Orders"): "run partitioned DML on Orders",
    Access(Operation.EXECUTE, "Embed"): "execute Embed",
    Access(Operation.SEND, "Jobs"): "send to Jobs",
    Access(Operation.ACK, "Jobs"): "acknowledge messages of Jobs",
}


@pytest.mark.parametrize("access", WORDS, ids=str)
def test_every_operation_is_told_in_words(access: Access) -> None:
    assert f" may not {WORDS[access]} in shop [missing-grant," in denial_message(asked(access))


def test_every_reason_has_a_sentence_for_both_readers() -> None:
    for reason in Reason:
        if reason is not Reason.GRANTED:
            assert f"[{reason}, " in denial_message(refused(reason))
            assert explain_sentence(refused(reason)).endswith("(policy 3f2a9c1b7d04).")


def test_a_denial_is_one_bounded_line_whatever_was_asked() -> None:
    wide = tuple(f"{'c' * 120}{n:04}" for n in range(1000))
    deep = SpiffeId.workload("t" * 255, "n" * 800, "s" * 800)
    decisions = [
        asked(*(Access(READ, f"{'t' * 120}{n}", wide) for n in range(100))),
        asked(*(Access(DELETE, f"T{n:05}") for n in range(5000))),
        asked(Access(READ, "x" * 257, ("é" * 400,))),
        refused(Reason.UNREADABLE_STATEMENT, "é" * 5000),
        refused(Reason.UNREADABLE_STATEMENT, "a\n\n\tb\x1b[31m\ud800"),
        refused(Reason.MISSING_GRANT, who=deep),
        refused(Reason.UNKNOWN_IDENTITY, who=deep),
        dataclasses.replace(DENIED, identity="é" * 2000, name="n" * 500, database="d" * 500),
    ]
    for decision in decisions:
        text = denial_message(decision)
        assert len(text.encode()) <= MESSAGE_BYTES_MAX
        assert text.isprintable()
        assert text.endswith(f"see: spangate explain {ID}]")


def test_what_does_not_fit_is_counted() -> None:
    columns = tuple(f"Column{n:03}" for n in range(200))
    text = denial_message(asked(Access(READ, "Customers", columns)))
    shown = text.count("Column")
    assert f"and {200 - shown} more) in shop" in text
    assert shown > 20
    tables = denial_message(asked(*(Access(DELETE, f"Table{n:03}") for n in range(200))))
    assert f", and {200 - tables.count('Table')} more in shop" in tables


def test_an_allow_is_explained_by_its_grants_and_their_places() -> None:
    assert explain_sentence(ALLOWED) == (
        "checkout may read Customers(CustomerId, Name) in shop because of access.checkout.shop.read at "
        "spangate.yaml:15:16 (policy 3f2a9c1b7d04)."
    )
    both = asked(Access(READ, "Orders", ("Total",)), Access(INSERT, "OrderItems", ("Item",)), who=shop.CHECKOUT)
    assert explain_sentence(both) == (
        "checkout may insert OrderItems(Item), read Orders(Total) in shop because of access.checkout.shop.insert at "
        "spangate.yaml:16:24 and access.checkout.shop.read at spangate.yaml:15:45 (policy 3f2a9c1b7d04)."
    )


def test_a_request_without_tables_is_explained_too() -> None:
    assert explain_sentence(asked()) == (
        "reports may do this in shop because it touches no table (policy 3f2a9c1b7d04)."
    )


def test_a_denial_is_explained_by_what_to_add_and_where() -> None:
    assert explain_sentence(DENIED) == (
        "reports may not read Customers(Email) in shop: no grant gives it; add `Email` to `Customers(...)` under "
        "access.reports.shop.read (spangate.yaml:20:34) to allow it (policy 3f2a9c1b7d04)."
    )
    assert explain_sentence(asked(who=shop.COPILOT)) == (
        "copilot may do nothing in shop: it holds no grant there; add grants under access.copilot.shop to allow it "
        "(policy 3f2a9c1b7d04)."
    )
    assert explain_sentence(asked(who=shop.STRANGER)) == (
        "spiffe://shop.example/ns/shop/sa/stranger is not an identity of the policy (policy 3f2a9c1b7d04)."
    )


def test_an_explanation_is_one_bounded_line_too() -> None:
    wide = Access(READ, "Orders", tuple(f"Column{n}" for n in range(5000)))
    many = dataclasses.replace(ALLOWED, grants=ALLOWED.grants * 100, accesses=(wide,) * 100)
    for decision in (many, dataclasses.replace(DENIED, missing=(wide,) * 100, detail="a\nb\x1b")):
        assert len(explain_sentence(decision)) < 3000
        assert explain_sentence(decision).isprintable()
    assert "and 94 more (policy" in explain_sentence(many)


def test_for_programs_the_sentence_stands_beside_the_record() -> None:
    found = explain_json(DENIED)
    assert found.pop("sentence") == explain_sentence(DENIED)
    assert decision_from_json(found) == DENIED


@pytest.mark.parametrize(
    "decision",
    [
        ALLOWED,
        DENIED,
        asked(),
        asked(who=shop.STRANGER),
        rich(Access(DELETE, "Orders")),
        rich(Access(Operation.DDL, "")),
        rich(Access(READ, "Orders", ("Total",), every=True)),
        replace(asked(), presented="spiffe://old.example/ns/shop/sa/checkout"),
    ],
)
def test_a_decision_survives_being_written_down(decision: Decision) -> None:
    back = decision_from_json(json.loads(json.dumps(decision_to_json(decision))))
    assert back == decision
    # Grants compare without them, explanations need them.
    assert [(g.text, g.position) for g in back.grants] == [(g.text, g.position) for g in decision.grants]
    assert explain_sentence(back) == explain_sentence(decision)


def damaged() -> list[object]:
    good = decision_to_json(ALLOWED)
    grant = good["grants"][0]  # type: ignore[index]
    found: list[object] = [None, [], "x", {}, {**good, "more": 1}]
    for key in good:
        found += [{k: v for k, v in good.items() if k != key}, {**good, key: 1}, {**good, key: [1]}, {**good, key: {}}]
    found += [
        {**good, "allowed": "true"},
        {**good, "reason": "because"},
        {**good, "id": None},
        {**good, "policy": None},
    ]
    access = {"operation": "read", "table": "T", "columns": [], "every": False}
    assert decision_from_json({**good, "accesses": [access]})
    for key, value in {"operation": "drop", "columns": [1], "every": 0}.items():
        found.append({**good, "accesses": [{**access, key: value}]})
    for key, value in {"every": 1, "deny": None, "until": "soon", "role": 1}.items():
        found.append({**good, "grants": [{**grant, key: value}]})
    found += [{**good, "grants": [{**grant, "until": "2030-01-01T00:00:00"}]}]
    found += [{**good, "grants": [{**grant, "position": {"file": "f", "line": True, "column": 1}}]}]
    found += [{**good, "grants": [{**grant, "position": None}]}, {**good, "grants": [{**grant, "columns": "ab"}]}]
    return found


@pytest.mark.parametrize("values", damaged())
def test_a_damaged_record_is_no_decision(values: object) -> None:
    with pytest.raises(BadDecisionRecord):
        decision_from_json(values)
