"""The decision rule against a slow oracle, and its properties as sentences.

The oracle shares no code with the rule: it asks for every single column whether any grant of the whole policy gives it
and whether any exception takes it away.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import shop
from fakes.clock import NOON
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
from spangate.model.access import DATABASE_OPERATIONS, Access, Operation, merged
from spangate.model.database import DatabasePath
from spangate.model.decision import Decision, Reason
from spangate.model.identity import SpiffeId
from spangate.model.policy import Grant, Policy, PolicyDatabase, Position

TABLES = {table.name: table.column_names for table in shop.SCHEMA.tables}
NAMES = {"checkout": shop.CHECKOUT, "reports": shop.REPORTS}
PATHS = {"shop": shop.PATH, "logs": DatabasePath("p", "i", "logs")}
ON_COLUMNS = {Operation.READ, Operation.INSERT, Operation.UPDATE}
# Before, at and after the moments at which things end.
ENDS = [NOON, NOON + timedelta(hours=1)]
MOMENTS = [NOON - timedelta(minutes=1), NOON, NOON + timedelta(minutes=1), NOON + timedelta(hours=1)]


def policy_of(grants: list[Grant]) -> Policy:
    """A policy of just these grants, in just this order."""
    databases = {alias: PolicyDatabase(alias, path, shop.SCHEMA, "schema.sql") for alias, path in PATHS.items()}
    canonical = canonical_form("shop.example", databases, NAMES, grants)
    return Policy("shop.example", databases, NAMES, tuple(grants), canonical, policy_version(canonical))


@st.composite
def columns_of(draw: st.DrawFn, table: str, least: int) -> frozenset[str]:
    return draw(st.frozensets(st.sampled_from(TABLES[table]), min_size=least))


# One identity, database, table and operation is drawn most often: else grants, exceptions and accesses hardly meet.
OPERATIONS = st.sampled_from([Operation.READ] * 12 + [Operation.PARTITIONED_DML] * 3 + list(Operation))
OFTEN_CUSTOMERS = st.sampled_from(["Customers"] * 4 + sorted(TABLES))
OFTEN_CHECKOUT = st.sampled_from(["checkout"] * 6 + sorted(NAMES))
OFTEN_SHOP = st.sampled_from(["shop"] * 6 + sorted(PATHS))


@st.composite
def grants(draw: st.DrawFn, deny: bool | None = None) -> Grant:
    operation = draw(OPERATIONS)
    table = "" if operation in DATABASE_OPERATIONS else draw(OFTEN_CUSTOMERS)
    columns, every, text = frozenset[str](), True, table
    if operation in ON_COLUMNS:
        columns = draw(columns_of(table, 1))
        every = draw(st.booleans())
        text = f"{table}({', '.join(sorted(columns))})"
    return Grant(
        identity=draw(OFTEN_CHECKOUT),
        database=draw(OFTEN_SHOP),
        operation=operation,
        table=table,
        columns=columns,
        every=every,
        deny=draw(st.sampled_from([False, False, True])) if deny is None else deny,
        until=draw(st.sampled_from([None, None, *ENDS])),
        role=draw(st.sampled_from([None, "clerk"])),
        text=text,
        position=Position("f", draw(st.integers(1, 9)), draw(st.integers(1, 9))),
    )


@st.composite
def accesses(draw: st.DrawFn) -> Access:
    operation = draw(OPERATIONS)
    if operation in DATABASE_OPERATIONS:
        return Access(operation, "")
    table = draw(OFTEN_CUSTOMERS)
    if operation is Operation.PARTITIONED_DML and draw(st.booleans()):
        return Access(operation, "")
    columns = draw(columns_of(table, 0)) if operation in ON_COLUMNS else frozenset()
    return Access(operation, table, tuple(sorted(columns)), operation is Operation.READ and draw(st.booleans()))


@st.composite
def covered(draw: st.DrawFn, held: list[Grant]) -> Access:
    """An access that has a chance: random ones are hardly ever granted."""
    grant = draw(st.sampled_from(held))
    columns = draw(st.frozensets(st.sampled_from(sorted(grant.columns)))) if grant.columns else frozenset()
    every = grant.operation is Operation.READ and grant.every and draw(st.booleans())
    table = grant.table
    if grant.operation is Operation.PARTITIONED_DML:
        table = draw(st.sampled_from([table, ""]))
    return Access(grant.operation, table, tuple(sorted(columns)), every)


Case = tuple[list[Grant], SpiffeId, DatabasePath, list[Access], datetime]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    held = draw(st.lists(grants(), max_size=6))
    who = draw(st.sampled_from([shop.CHECKOUT] * 10 + [shop.REPORTS, shop.STRANGER]))
    path = PATHS[draw(OFTEN_SHOP)]
    own = [grant for grant in held if NAMES[grant.identity] == who and PATHS[grant.database] == path]
    # A star of a schema that knows few columns or none.
    star = st.builds(
        Access, st.just(Operation.READ), st.just("Customers"), st.sampled_from([(), ("Name",)]), st.just(True)
    )
    access = st.one_of(covered(own), covered(own), covered(own), star, accesses()) if own else accesses()
    return held, who, path, draw(st.lists(access, max_size=4)), draw(st.sampled_from(MOMENTS))


def asked(held: list[Grant], who: SpiffeId, path: DatabasePath, wanted: list[Access], now: datetime) -> Decision:
    return decide(policy_of(held), who, "ExecuteSql", path, wanted, "id", now)


def own_of(held: list[Grant], who: SpiffeId, path: DatabasePath, now: datetime, deny: bool) -> list[Grant]:
    """Grants or exceptions that stand."""
    return [
        grant
        for grant in held
        if NAMES[grant.identity] == who
        and PATHS[grant.database] == path
        and grant.deny == deny
        and (grant.until is None or grant.until > now)
    ]


def oracle_denies(
    held: list[Grant], who: SpiffeId, path: DatabasePath, wanted: list[Access], now: datetime
) -> list[Grant]:
    """The exceptions that are against any part of the request."""
    found = []
    for exception in own_of(held, who, path, now, deny=True):
        for access in merged(wanted):
            if (exception.operation, exception.table) != (access.operation, access.table):
                continue
            whole = exception.every or exception.columns == frozenset()
            if whole or access.every or set(exception.columns) & set(access.columns):
                found.append(exception)
    return found


def oracle_lacks(
    held: list[Grant], who: SpiffeId, path: DatabasePath, wanted: list[Access], now: datetime
) -> set[tuple[str, str, str]]:
    """(operation, table, column) for every single thing that nothing gives; `*` for every column, `` for the table."""
    own = own_of(held, who, path, now, deny=False)
    lacks = set()
    for access in merged(wanted):
        begins = access.operation is Operation.PARTITIONED_DML and access.table == ""
        on = [grant for grant in own if grant.operation == access.operation]
        on = on if begins else [grant for grant in on if grant.table == access.table]
        wants = [(column, any(column in grant.columns for grant in on)) for column in access.columns]
        if access.every:
            wants.append(("*", any(grant.every for grant in on)))
        for want, is_given in wants or [("", bool(on))]:
            if not is_given:
                lacks.add((access.operation.value, access.table, want))
    return lacks


def oracle_stands(held: list[Grant], who: SpiffeId, path: DatabasePath, now: datetime) -> bool:
    return bool(own_of(held, who, path, now, deny=False))


@given(cases())
@settings(max_examples=400)
def test_the_rule_says_what_the_oracle_says(case: Case) -> None:
    held, who, path, _, now = case
    decision = asked(*case)
    if who == shop.STRANGER:
        expected = Reason.UNKNOWN_IDENTITY
    elif not oracle_stands(held, who, path, now):
        expected = Reason.MISSING_GRANT
    elif oracle_denies(*case):
        expected = Reason.DENIED
    else:
        expected = Reason.MISSING_GRANT if oracle_lacks(*case) else Reason.GRANTED
    assert decision.reason is expected
    assert decision.allowed == (expected is Reason.GRANTED)


@given(cases())
def test_what_is_missing_is_exactly_what_the_oracle_lacks(case: Case) -> None:
    decision = asked(*case)
    if oracle_stands(*case[:3], case[4]) and not oracle_denies(*case):
        found = set()
        for access in decision.missing:
            wants = [*access.columns, *(["*"] if access.every else [])]
            found |= {(access.operation.value, access.table, want) for want in wants or [""]}
        lacks = oracle_lacks(*case)
        # Where nothing at all is held on a table, all of the access is missing.
        assert found == lacks


@given(cases())
def test_a_denial_by_exceptions_names_exactly_those_and_what_they_deny(case: Case) -> None:
    held, _, _, wanted, _ = case
    decision = asked(*case)
    if decision.reason is not Reason.DENIED:
        return
    assert sorted(map(str, decision.grants)) == sorted(map(str, oracle_denies(*case)))
    for part in decision.missing:
        whole = next(
            access for access in merged(wanted) if (access.operation, access.table) == (part.operation, part.table)
        )
        assert set(part.columns) <= set(whole.columns)
    # Without the exceptions it would not be denied by one.
    left = [grant for grant in held if not any(grant is one for one in decision.grants)]
    assert asked(left, *case[1:]).reason is not Reason.DENIED


@given(cases())
def test_default_is_deny(case: Case) -> None:
    _, who, path, wanted, now = case
    assert not asked([], who, path, wanted, now).allowed
    assert not asked([], who, path, [], now).allowed


@given(cases())
def test_nobody_unknown_is_ever_allowed_anything(case: Case) -> None:
    held, _, path, wanted, now = case
    decision = asked(held, shop.STRANGER, path, wanted, now)
    assert (decision.allowed, decision.reason) == (False, Reason.UNKNOWN_IDENTITY)


@given(cases(), st.randoms(use_true_random=False))
def test_order_never_matters(case: Case, random: object) -> None:
    held, who, path, wanted, now = case
    shuffled_grants, shuffled_accesses = list(held), list(wanted)
    random.shuffle(shuffled_grants)  # type: ignore[attr-defined]
    random.shuffle(shuffled_accesses)  # type: ignore[attr-defined]
    one, other = asked(*case), asked(shuffled_grants, who, path, shuffled_accesses, now)
    assert (one.reason, one.missing, one.accesses, one.policy) == (
        other.reason,
        other.missing,
        other.accesses,
        other.policy,
    )


@given(cases(), grants(deny=False))
def test_adding_a_grant_never_turns_allow_into_deny(case: Case, more: Grant) -> None:
    held, *rest = case
    assert asked([*held, more], *rest).allowed >= asked(*case).allowed


@given(cases(), st.data())
def test_removing_grants_never_turns_deny_into_allow(case: Case, data: st.DataObject) -> None:
    held, *rest = case
    left = [grant for grant in held if grant.deny or data.draw(st.booleans())]
    assert asked(left, *rest).allowed <= asked(*case).allowed


@given(cases(), grants(deny=True))
def test_adding_an_exception_never_turns_deny_into_allow(case: Case, more: Grant) -> None:
    held, *rest = case
    assert asked([*held, more], *rest).allowed <= asked(*case).allowed


@given(cases(), accesses())
def test_asking_for_more_never_turns_deny_into_allow(case: Case, more: Access) -> None:
    held, who, path, wanted, now = case
    assert asked(held, who, path, [*wanted, more], now).allowed <= asked(*case).allowed


@given(cases(), grants())
def test_a_grant_of_another_identity_or_database_changes_nothing(case: Case, more: Grant) -> None:
    held, who, path, wanted, now = case
    if NAMES[more.identity] != who or PATHS[more.database] != path:
        one, other = asked(*case), asked([*held, more], who, path, wanted, now)
        assert replace(one, policy="") == replace(other, policy="")


@given(cases())
def test_what_has_ended_is_as_if_it_were_not_there(case: Case) -> None:
    held, *rest = case
    now = case[4]
    left = [grant for grant in held if grant.until is None or grant.until > now]
    one, other = asked(*case), asked(left, *rest)
    assert replace(one, policy="", detail="") == replace(other, policy="", detail="")


@given(cases())
def test_two_moments_of_one_epoch_decide_alike(case: Case) -> None:
    held, who, path, wanted, now = case
    policy = policy_of(held)
    for other in MOMENTS:
        if policy.epoch(now) == policy.epoch(other):
            assert asked(held, who, path, wanted, now) == asked(held, who, path, wanted, other)


@given(cases())
@settings(max_examples=400)
def test_an_allow_names_exactly_the_grants_it_rests_on(case: Case) -> None:
    _, who, path, wanted, now = case
    decision = asked(*case)
    if not decision.allowed or not wanted:
        assert decision.reason is Reason.DENIED or decision.grants == ()
        return
    named = list(decision.grants)
    assert asked(named, who, path, wanted, now).allowed
    for place in range(len(named)):
        assert not asked(named[:place] + named[place + 1 :], who, path, wanted, now).allowed


@given(cases())
def test_granting_what_is_missing_is_enough(case: Case) -> None:
    held, who, path, wanted, now = case
    decision = asked(*case)
    if decision.missing and decision.reason is Reason.MISSING_GRANT:
        name, alias = str(decision.name), str(decision.database)
        more = [
            Grant(
                name,
                alias,
                a.operation,
                a.table or "Orders" * (a.operation is Operation.PARTITIONED_DML),
                frozenset(a.columns),
                every=a.every,
            )
            for a in decision.missing
        ]
        assert asked([*held, *more], who, path, wanted, now).allowed


@given(cases())
def test_standing_refuses_only_what_decide_refuses_too(case: Case) -> None:
    held, who, path, _, now = case
    refused = standing(policy_of(held), who, "ExecuteSql", path, "id", now)
    assert (refused is None) == (who != shop.STRANGER and oracle_stands(held, who, path, now))
    if refused is not None:
        assert refused == asked(*case)


# One version, one behaviour.


def every_request() -> list[Access]:
    """Single accesses that together tell any two holdings on a table apart."""
    found = [Access(operation, "") for operation in sorted(DATABASE_OPERATIONS | {Operation.PARTITIONED_DML})]
    for operation in sorted(set(Operation) - DATABASE_OPERATIONS):
        for table, columns in TABLES.items():
            found += [Access(operation, table), Access(operation, table, (), every=True)]
            found += [Access(operation, table, (column,)) for column in columns]
    return found


EVERY_REQUEST = every_request()


def behaviour(held: list[Grant], requests: list[Access]) -> list[tuple[Reason, tuple[Access, ...]]]:
    policy = policy_of(held)
    answers = []
    for now in MOMENTS:
        for who in NAMES.values():
            for path in PATHS.values():
                for wanted in [[], *([access] for access in requests)]:
                    decision = decide(policy, who, "ExecuteSql", path, wanted, "id", now)
                    answers.append((decision.reason, decision.missing))
    return answers


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[list[Grant], list[Grant]]:
    """Two sets of grants that differ a little, or only in how they are written."""
    held = draw(st.lists(grants(), min_size=1, max_size=3))
    other = list(held)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(other) - 1))
        grant = other[place]
        change = draw(st.sampled_from(["drop", "split", "double", "until", "every", "deny", "more"]))
        if change == "drop" and len(other) > 1:
            del other[place]
        elif change == "split" and len(grant.columns) > 1:
            first = draw(st.sampled_from(sorted(grant.columns)))
            other[place] = replace(grant, columns=grant.columns - {first})
            other.append(replace(grant, columns=frozenset({first}), role=None))
        elif change == "double":
            other.append(replace(grant, role=None, until=draw(st.sampled_from([None, *ENDS]))))
        elif change == "until":
            other[place] = replace(grant, until=draw(st.sampled_from([None, *ENDS])))
        elif change == "every" and grant.columns:
            other[place] = replace(grant, every=not grant.every)
        elif change == "deny":
            end = draw(st.sampled_from([None, *ENDS]))
            # In one of the two, or in both: then only what it hides may differ.
            exception = replace(grant, deny=True, every=draw(st.booleans()), until=end)
            other.append(exception)
            if draw(st.booleans()):
                held = [*held, exception]
        elif change == "more":
            other.append(draw(grants()))
    return held, list(draw(st.permutations(other)))


@given(neighbours())
@settings(max_examples=250, deadline=None)
def test_two_policies_share_a_canonical_form_exactly_if_they_decide_every_request_alike(
    pair: tuple[list[Grant], list[Grant]],
) -> None:
    one, other = pair
    # Of what neither speaks, both say the same.
    spoken = {(grant.operation, table) for grant in one + other for table in (grant.table, "")}
    requests = [access for access in EVERY_REQUEST if (access.operation, access.table) in spoken]
    alike = behaviour(one, requests) == behaviour(other, requests)
    assert (policy_of(one).canonical == policy_of(other).canonical) == alike


@given(st.lists(grants(), max_size=6), st.sampled_from(["keep_tags", "secure_context"]))
def test_what_the_gateway_does_besides_is_in_the_version_too(held: list[Grant], flag: str) -> None:
    plain = PolicyDatabase("shop", shop.PATH, shop.SCHEMA, "s")
    forms = {canonical_form("t", {"shop": replace(plain, **{flag: on})}, NAMES, held) for on in (True, False)}
    assert len(forms) == 2


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
