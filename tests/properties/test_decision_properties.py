"""The decision rule against a slow oracle, and its properties as sentences.

The oracle shares no code with the rule: it asks for every single column whether any grant of the whole policy gives it.
"""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import shop
from spangate.decision import (
    decide,
    decision_from_json,
    decision_id,
    decision_to_json,
    denial_message,
    explain_sentence,
    standing,
)
from spangate.decision.explain import MESSAGE_BYTES_MAX
from spangate.intent.canonical import canonical_form, policy_version
from spangate.model.access import Access, Operation
from spangate.model.database import DatabasePath
from spangate.model.decision import Decision, Reason
from spangate.model.identity import SpiffeId
from spangate.model.policy import Grant, Policy, PolicyDatabase, Position

TABLES = {table.name: table.column_names for table in shop.SCHEMA.tables}
NAMES = {"checkout": shop.CHECKOUT, "reports": shop.REPORTS}
PATHS = {"shop": shop.PATH, "logs": DatabasePath("p", "i", "logs")}


def policy_of(grants: list[Grant]) -> Policy:
    """A policy of just these grants, in just this order."""
    databases = {alias: PolicyDatabase(alias, path, shop.SCHEMA, "schema.sql") for alias, path in PATHS.items()}
    canonical = canonical_form("shop.example", databases, NAMES, grants)
    return Policy("shop.example", databases, NAMES, tuple(grants), canonical, policy_version(canonical))


@st.composite
def columns_of(draw: st.DrawFn, table: str, least: int) -> frozenset[str]:
    return draw(st.frozensets(st.sampled_from(TABLES[table]), min_size=least))


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    table = draw(st.sampled_from(sorted(TABLES)))
    operation = draw(st.sampled_from(Operation))
    columns = frozenset() if operation is Operation.DELETE else draw(columns_of(table, 1))
    text = f"{table}({', '.join(sorted(columns))})" if columns else table
    position = Position("f", draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    name, alias = draw(st.sampled_from(sorted(NAMES))), draw(st.sampled_from(sorted(PATHS)))
    return Grant(name, alias, operation, table, columns, text, position)


@st.composite
def accesses(draw: st.DrawFn) -> Access:
    table = draw(st.sampled_from(sorted(TABLES)))
    operation = draw(st.sampled_from(Operation))
    columns = frozenset() if operation is Operation.DELETE else draw(columns_of(table, 0))
    return Access(operation, table, tuple(sorted(columns)))


@st.composite
def covered(draw: st.DrawFn, held: list[Grant]) -> Access:
    """An access that has a chance: random ones are hardly ever granted."""
    grant = draw(st.sampled_from(held))
    columns = draw(st.frozensets(st.sampled_from(sorted(grant.columns)))) if grant.columns else frozenset()
    return Access(grant.operation, grant.table, tuple(sorted(columns)))


Case = tuple[list[Grant], SpiffeId, DatabasePath, list[Access]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    held = draw(st.lists(grants(), max_size=10))
    who, path = draw(st.sampled_from([*NAMES.values(), shop.STRANGER])), draw(st.sampled_from([*PATHS.values()]))
    own = [grant for grant in held if NAMES[grant.identity] == who and PATHS[grant.database] == path]
    access = st.one_of(covered(own), covered(own), covered(own), accesses()) if own else accesses()
    return held, who, path, draw(st.lists(access, max_size=4))


def asked(held: list[Grant], who: SpiffeId, path: DatabasePath, wanted: list[Access]) -> Decision:
    return decide(policy_of(held), who, "ExecuteSql", path, wanted, "id")


def oracle_lacks(
    held: list[Grant], who: SpiffeId, path: DatabasePath, wanted: list[Access]
) -> set[tuple[str, str, str]]:
    """(operation, table, column) for every single thing that nothing gives; `*` for the table as such."""

    def given_by_any(operation: Operation, table: str, column: str | None) -> bool:
        for grant in held:
            same_identity = NAMES[grant.identity] == who
            same_database = PATHS[grant.database] == path
            same_object = grant.operation == operation and grant.table == table
            if same_identity and same_database and same_object and (column is None or column in grant.columns):
                return True
        return False

    lacks = set()
    for access in wanted:
        for column in access.columns:
            if not given_by_any(access.operation, access.table, column):
                lacks.add((access.operation.value, access.table, column))
        if not access.columns and not given_by_any(access.operation, access.table, None):
            lacks.add((access.operation.value, access.table, "*"))
    return lacks


def oracle_stands(held: list[Grant], who: SpiffeId, path: DatabasePath) -> bool:
    return any(NAMES[grant.identity] == who and PATHS[grant.database] == path for grant in held)


@given(cases())
@settings(max_examples=300)
def test_the_rule_says_what_the_oracle_says(case: Case) -> None:
    held, who, path, wanted = case
    expected = oracle_stands(held, who, path) and not oracle_lacks(held, who, path, wanted)
    assert asked(*case).allowed == expected


@given(cases())
def test_what_is_missing_is_exactly_what_the_oracle_lacks(case: Case) -> None:
    held, who, path, wanted = case
    decision = asked(*case)
    if oracle_stands(held, who, path):
        lacks = oracle_lacks(held, who, path, wanted)
        # Columns of a table speak for the table as such.
        with_columns = {lack[:2] for lack in lacks if lack[2] != "*"}
        expected = {lack for lack in lacks if lack[2] != "*" or lack[:2] not in with_columns}
        assert {(a.operation.value, a.table, c) for a in decision.missing for c in a.columns or ("*",)} == expected


@given(cases())
def test_default_is_deny(case: Case) -> None:
    _, who, path, wanted = case
    assert not asked([], who, path, wanted).allowed
    assert not asked([], who, path, []).allowed


@given(cases())
def test_nobody_unknown_is_ever_allowed_anything(case: Case) -> None:
    held, _, path, wanted = case
    decision = asked(held, shop.STRANGER, path, wanted)
    assert (decision.allowed, decision.reason) == (False, Reason.UNKNOWN_IDENTITY)


@given(cases(), st.randoms(use_true_random=False))
def test_order_never_matters(case: Case, random: object) -> None:
    held, who, path, wanted = case
    shuffled_grants, shuffled_accesses = list(held), list(wanted)
    random.shuffle(shuffled_grants)  # type: ignore[attr-defined]
    random.shuffle(shuffled_accesses)  # type: ignore[attr-defined]
    one, other = asked(*case), asked(shuffled_grants, who, path, shuffled_accesses)
    assert (one.allowed, one.missing, one.accesses, one.policy) == (
        other.allowed,
        other.missing,
        other.accesses,
        other.policy,
    )


@given(cases(), grants())
def test_adding_a_grant_never_turns_allow_into_deny(case: Case, more: Grant) -> None:
    held, who, path, wanted = case
    assert asked([*held, more], who, path, wanted).allowed >= asked(*case).allowed


@given(cases(), st.data())
def test_removing_a_grant_never_turns_deny_into_allow(case: Case, data: st.DataObject) -> None:
    held, who, path, wanted = case
    left = [grant for grant in held if data.draw(st.booleans())]
    assert asked(left, who, path, wanted).allowed <= asked(*case).allowed


@given(cases(), accesses())
def test_asking_for_more_never_turns_deny_into_allow(case: Case, more: Access) -> None:
    held, who, path, wanted = case
    assert asked(held, who, path, [*wanted, more]).allowed <= asked(*case).allowed


@given(cases(), grants())
def test_a_grant_of_another_identity_or_database_changes_nothing(case: Case, more: Grant) -> None:
    held, who, path, wanted = case
    if NAMES[more.identity] != who or PATHS[more.database] != path:
        one, other = asked(*case), asked([*held, more], who, path, wanted)
        assert replace(one, policy="") == replace(other, policy="")


@given(cases())
@settings(max_examples=300)
def test_a_decision_names_exactly_the_grants_it_rests_on(case: Case) -> None:
    _, who, path, wanted = case
    decision = asked(*case)
    named = list(decision.grants)
    if not decision.allowed or not wanted:
        assert named == []
        return
    assert asked(named, who, path, wanted).allowed
    for place in range(len(named)):
        assert not asked(named[:place] + named[place + 1 :], who, path, wanted).allowed


@given(cases())
def test_granting_what_is_missing_is_enough(case: Case) -> None:
    held, who, path, wanted = case
    decision = asked(*case)
    if decision.missing and decision.name is not None:
        alias = str(decision.database)
        more = [
            Grant(decision.name, alias, a.operation, a.table, frozenset(a.columns), str(a), Position("f", 1, 1))
            for a in decision.missing
        ]
        assert asked([*held, *more], who, path, wanted).allowed


@given(cases())
def test_standing_refuses_only_what_decide_refuses_too(case: Case) -> None:
    held, who, path, _ = case
    refused = standing(policy_of(held), who, "ExecuteSql", path, "id")
    assert (refused is None) == oracle_stands(held, who, path)
    if refused is not None:
        assert refused == asked(*case)


@given(cases())
def test_every_decision_can_be_written_down_read_back_and_explained(case: Case) -> None:
    decision = asked(*case)
    back = decision_from_json(json.loads(json.dumps(decision_to_json(decision))))
    assert back == decision
    sentence = explain_sentence(back)
    assert sentence == explain_sentence(decision)
    assert sentence.endswith(f"(policy {decision.policy}).")
    if not decision.allowed:
        text = denial_message(decision)
        assert len(text.encode()) <= MESSAGE_BYTES_MAX
        assert text.isprintable()


@given(st.tuples(st.text(max_size=5), st.binary(max_size=5)), st.tuples(st.text(max_size=5), st.binary(max_size=5)))
def test_decision_ids_are_equal_only_for_equal_requests(one: tuple[str, bytes], other: tuple[str, bytes]) -> None:
    ids = [decision_id(version, shop.CHECKOUT, shape) for version, shape in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)
