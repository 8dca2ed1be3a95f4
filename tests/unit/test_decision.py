"""The rule: who is allowed what, on which grants an allow rests, what a denial lacks."""

from __future__ import annotations

import re

import pytest

from fakes import shop
from fakes.clock import NOON
from spangate.decision import decide, decision_id, refuse, standing
from spangate.decision.rule import DETAIL_CHARACTERS_MAX
from spangate.model.access import Access, Operation
from spangate.model.database import DatabasePath
from spangate.model.decision import Decision, Reason
from spangate.model.identity import SpiffeId
from spangate.model.policy import Policy

READ, INSERT, UPDATE, DELETE = Operation.READ, Operation.INSERT, Operation.UPDATE, Operation.DELETE
ELSEWHERE = DatabasePath("spangate-local", "main", "elsewhere")


def asked(
    *accesses: Access, who: SpiffeId = shop.CHECKOUT, policy: Policy | None = None, path: DatabasePath = shop.PATH
) -> Decision:
    return decide(policy or shop.policy(), who, "ExecuteSql", path, accesses, "id", NOON)


def policy_with(body: str) -> Policy:
    head = shop.INTENT[: shop.INTENT.index("access:")]
    return shop.policy(f"{head}access: {{checkout: {{shop: {body}}}}}\n")


def test_what_is_granted_is_allowed_and_the_grant_is_named() -> None:
    decision = asked(Access(READ, "Customers", ("CustomerId", "Name")))
    assert (decision.allowed, decision.reason) == (True, Reason.GRANTED)
    assert [str(grant) for grant in decision.grants] == [
        "checkout may read Customers(CustomerId, Name) in shop (spangate.yaml:15:16)"
    ]
    assert decision.missing == ()
    assert decision.detail == ""


def test_a_decision_says_who_asked_what_under_which_policy() -> None:
    decision = asked(Access(READ, "Orders", ("Total",)))
    assert (decision.id, decision.identity, decision.name) == ("id", str(shop.CHECKOUT), "checkout")
    assert (decision.rpc, decision.database, decision.policy) == ("ExecuteSql", "shop", shop.policy().version)
    assert decision.accesses == (Access(READ, "Orders", ("Total",)),)


def test_one_column_too_many_is_denied_and_only_that_column_is_missing() -> None:
    decision = asked(Access(READ, "Customers", ("CustomerId", "Email", "Name")))
    assert (decision.allowed, decision.reason) == (False, Reason.MISSING_GRANT)
    assert decision.missing == (Access(READ, "Customers", ("Email",)),)
    assert decision.grants == ()


def test_a_table_without_any_grant_is_missing_with_all_that_was_asked() -> None:
    assert asked(Access(INSERT, "Customers", ("Name",))).missing == (Access(INSERT, "Customers", ("Name",)),)
    assert asked(Access(DELETE, "Orders")).missing == (Access(DELETE, "Orders"),)


def test_one_uncovered_access_denies_the_whole_request() -> None:
    decision = asked(Access(READ, "Orders", ("Total",)), Access(DELETE, "Orders"))
    assert not decision.allowed
    assert decision.grants == ()
    assert decision.missing == (Access(DELETE, "Orders"),)


@pytest.mark.parametrize("operation", [INSERT, UPDATE, DELETE])
def test_a_grant_for_one_operation_is_none_for_another(operation: Operation) -> None:
    policy = policy_with("{read: [Customers]}")
    columns = () if operation is DELETE else ("Name",)
    assert not asked(Access(operation, "Customers", columns), policy=policy).allowed


def test_a_grant_of_one_identity_is_none_of_another() -> None:
    access = Access(READ, "Customers", ("Region",))
    assert asked(access, who=shop.REPORTS).allowed
    assert not asked(access, who=shop.CHECKOUT).allowed


def test_a_grant_in_one_database_is_none_in_another() -> None:
    text = shop.INTENT.replace("\nidentities:", "  too: {instance: main, database: too, schema: s.sql}\nidentities:")
    policy = shop.policy(text + "    too: {delete: [Orders]}\n")
    too = DatabasePath("spangate-local", "main", "too")
    assert asked(Access(DELETE, "Orders"), who=shop.REPORTS, policy=policy, path=too).allowed
    assert not asked(Access(DELETE, "Orders"), who=shop.REPORTS, policy=policy).allowed
    assert not asked(Access(READ, "Orders", ("Total",)), who=shop.REPORTS, policy=policy, path=too).allowed


def test_a_table_read_without_columns_needs_any_grant_on_it() -> None:
    policy = policy_with("{read: [Customers(Name)]}")
    counted = asked(Access(READ, "Customers"), policy=policy)
    assert (counted.allowed, len(counted.grants)) == (True, 1)
    assert not asked(Access(READ, "Orders"), policy=policy).allowed


def test_delete_needs_a_delete_grant_and_no_other() -> None:
    policy = policy_with("{delete: [Orders]}")
    assert asked(Access(DELETE, "Orders"), policy=policy).allowed
    assert not asked(Access(READ, "Orders"), policy=policy).allowed
    assert not asked(Access(DELETE, "OrderItems"), policy=policy).allowed


def test_grants_on_one_table_add_up() -> None:
    policy = policy_with("{read: [Customers(CustomerId), Customers(Name)]}")
    decision = asked(Access(READ, "Customers", ("CustomerId", "Name")), policy=policy)
    assert [grant.text for grant in decision.grants] == ["Customers(CustomerId)", "Customers(Name)"]


def test_a_grant_that_covers_all_is_named_alone() -> None:
    policy = policy_with("{read: [Customers(CustomerId), Customers(Name), Customers]}")
    decision = asked(Access(READ, "Customers", ("CustomerId", "Name")), policy=policy)
    assert [grant.text for grant in decision.grants] == ["Customers"]


def test_no_grant_is_named_that_the_others_make_superfluous() -> None:
    # The widest grant is looked at first, yet the two narrower ones are needed and make it superfluous.
    schema = shop.Schema((shop.table("T", "A", "B", "C", "D", "E", "F"),))
    head = shop.INTENT[: shop.INTENT.index("access:")]
    policy = shop.policy(
        f"{head}access: {{checkout: {{shop: {{read: [T(B, C, D, E), T(A, B, C), T(D, E, F)]}}}}}}\n", schema
    )
    decision = asked(Access(READ, "T", ("A", "B", "C", "D", "E", "F")), policy=policy)
    assert [grant.text for grant in decision.grants] == ["T(A, B, C)", "T(D, E, F)"]


def test_accesses_in_pieces_and_in_any_order_are_the_same_request() -> None:
    pieces = [
        Access(READ, "Orders", ("Total",)),
        Access(INSERT, "Orders", ("OrderId",)),
        Access(READ, "Orders", ("OrderId",)),
    ]
    assert asked(*pieces) == asked(*reversed(pieces))
    assert asked(*pieces).accesses == (
        Access(INSERT, "Orders", ("OrderId",)),
        Access(READ, "Orders", ("OrderId", "Total")),
    )


def test_a_request_that_touches_no_table_needs_only_standing() -> None:
    assert asked().allowed
    assert asked().grants == ()
    assert not asked(who=shop.COPILOT).allowed
    assert not asked(who=shop.STRANGER).allowed


def test_a_name_not_spelled_as_in_the_schema_is_denied() -> None:
    assert not asked(Access(READ, "orders", ("Total",))).allowed
    assert not asked(Access(READ, "Orders", ("total",))).allowed


def test_an_unknown_identity_is_denied_before_anything_else_is_said() -> None:
    for path in (shop.PATH, ELSEWHERE):
        decision = asked(Access(READ, "Orders", ("Total",)), who=shop.STRANGER, path=path)
        assert (decision.allowed, decision.reason, decision.name) == (False, Reason.UNKNOWN_IDENTITY, None)
        assert (decision.accesses, decision.missing, decision.detail) == ((), (), "")


@pytest.mark.parametrize(
    "spiffe_id",
    [
        "spiffe://other.example/ns/shop/sa/checkout",
        "spiffe://shop.example/ns/shop/sa/checkout/more",
        "spiffe://shop.example/ns/shop/sa/Checkout",
        "spiffe://shop.example/ns/shop",
        "spiffe://shop.example/checkout",
    ],
)
def test_an_identity_is_only_known_by_its_whole_spiffe_id(spiffe_id: str) -> None:
    assert asked(who=SpiffeId.parse(spiffe_id)).reason is Reason.UNKNOWN_IDENTITY


def test_an_unknown_database_is_denied() -> None:
    decision = asked(Access(READ, "Orders", ("Total",)), path=ELSEWHERE)
    assert (decision.allowed, decision.reason, decision.database) == (False, Reason.UNKNOWN_DATABASE, None)


def test_an_identity_without_any_grant_in_a_database_has_no_standing_there() -> None:
    decision = asked(Access(READ, "Orders", ("Total",)), who=shop.COPILOT)
    assert (decision.allowed, decision.reason, decision.name) == (False, Reason.MISSING_GRANT, "copilot")
    assert decision.detail == "add grants under access.copilot.shop"


def test_standing_is_none_for_whoever_holds_a_grant_and_else_what_decide_says() -> None:
    policy = shop.policy()
    assert standing(policy, shop.CHECKOUT, "ExecuteSql", shop.PATH, "id", NOON) is None
    for who, path in ((shop.STRANGER, shop.PATH), (shop.COPILOT, shop.PATH), (shop.CHECKOUT, ELSEWHERE)):
        assert standing(policy, who, "ExecuteSql", path, "id", NOON) == asked(who=who, path=path)


# Every column there is, exceptions, ends, and what is on no table.


def test_a_star_needs_a_grant_on_the_whole_table() -> None:
    star = Access(READ, "Orders", ("CustomerId", "OrderId", "Status", "Total"), every=True)
    assert asked(star, policy=policy_with("{read: [Orders]}")).allowed
    assert asked(star, policy=policy_with('{read: ["*"]}')).allowed
    listed = asked(star, policy=policy_with("{read: [Orders(CustomerId, OrderId, Status, Total)]}"))
    assert listed.missing == (Access(READ, "Orders", (), every=True),)
    assert listed.detail.startswith("name the columns instead of `*`, or add `Orders` under access.checkout.shop.read")


def test_all_columns_but_some_and_the_rest_beside_make_a_star() -> None:
    star = Access(READ, "Orders", ("CustomerId", "OrderId", "Status", "Total"), every=True)
    but_total = asked(star, policy=policy_with("{read: [Orders(* except Total)]}"))
    assert but_total.missing == (Access(READ, "Orders", ("Total",)),)
    assert but_total.detail == "add `Orders(Total)` under access.checkout.shop.read (spangate.yaml:12:35)"
    both = asked(star, policy=policy_with("{read: [Orders(* except Total), Orders(Total)]}"))
    assert [grant.text for grant in both.grants] == ["Orders(* except Total)", "Orders(Total)"]


def test_a_star_rests_on_a_grant_of_the_whole_table_beside_the_columns() -> None:
    # The wider list is looked at first, yet only the other one is about every column.
    policy = policy_with("{read: [Orders(OrderId, Status, Total), Orders(* except Status, Total)]}")
    star = Access(READ, "Orders", ("CustomerId", "OrderId", "Status", "Total"), every=True)
    assert len(asked(star, policy=policy).grants) == 2


EMAIL, NAME = Access(READ, "Customers", ("Email",)), Access(READ, "Customers", ("Name",))
ALL = Access(READ, "Customers", ("CustomerId", "Email", "Name", "Region"), every=True)


@pytest.mark.parametrize(
    ("denied", "access", "part"),
    [
        ("Customers(Email)", EMAIL, EMAIL),
        ("Customers(Email)", Access(READ, "Customers", ("Email", "Name")), EMAIL),
        ("Customers(Email)", ALL, EMAIL),
        # A column that `*` does not show today, and may tomorrow.
        ("Customers(Email)", Access(READ, "Customers", ("Name",), every=True), Access(READ, "Customers", (), True)),
        ("Customers(Email)", NAME, None),
        ("Customers(Email)", Access(READ, "Customers"), None),
        ("Customers", NAME, NAME),
        ("Customers", Access(READ, "Customers"), Access(READ, "Customers")),
        ('"C*"', NAME, NAME),
        ("Orders", NAME, None),
    ],
)
def test_an_exception_wins_over_every_grant(denied: str, access: Access, part: Access | None) -> None:
    decision = asked(access, policy=policy_with(f"{{read: [Customers, '*'], deny: {{read: [{denied}]}}}}"))
    assert decision.reason is (Reason.GRANTED if part is None else Reason.DENIED)
    if part is not None:
        assert decision.missing == (part,)
        assert [grant.deny for grant in decision.grants] == [True]


def test_an_exception_for_one_operation_is_none_for_another() -> None:
    policy = policy_with("{read: [Orders], write: [Orders], deny: {delete: [Orders]}}")
    assert asked(Access(READ, "Orders", ("Total",)), Access(INSERT, "Orders", ("Total",)), policy=policy).allowed
    assert asked(Access(DELETE, "Orders"), policy=policy).reason is Reason.DENIED


def test_an_exception_alone_gives_no_standing() -> None:
    decision = asked(policy=policy_with("{deny: {delete: [Orders]}}"))
    assert (decision.allowed, decision.reason) == (False, Reason.MISSING_GRANT)


def test_an_exception_that_has_ended_denies_nothing() -> None:
    body = '{read: [Orders], deny: {read: [{on: Orders, until: "2030-01-02T12:00Z"}]}}'
    assert asked(Access(READ, "Orders", ("Total",)), policy=policy_with(body)).allowed
    assert not asked(Access(READ, "Orders", ("Total",)), policy=policy_with(body.replace("12:00", "12:01"))).allowed


def test_who_holds_nothing_any_more_has_no_standing_and_the_last_end_is_named() -> None:
    body = "{read: [{on: Orders, until: 2030-01-01T00:00Z}, {on: Customers, until: 2030-01-02T11:59:30Z}]}"
    decision = asked(policy=policy_with(body))
    assert (decision.allowed, decision.reason) == (False, Reason.MISSING_GRANT)
    assert decision.detail == "extend the grant that ended at 2030-01-02T11:59:30Z (spangate.yaml:12:80)"


@pytest.mark.parametrize(
    "operation",
    [
        Operation.SCHEMA,
        Operation.DDL,
        Operation.INFORMATION_SCHEMA,
        Operation.SPANNER_SYS,
        Operation.EXCLUDE_FROM_CHANGE_STREAMS,
    ],
)
def test_what_is_about_the_database_is_granted_and_denied_by_a_switch(operation: Operation) -> None:
    access = Access(operation, "")
    assert asked(access, policy=policy_with(f"{{{operation}: true}}")).allowed
    lacking = asked(access, policy=policy_with("{read: ['*']}"))
    assert lacking.detail == f"add `{operation}: true` under access.checkout.shop"
    assert not asked(access, policy=policy_with(f"{{{operation}: true, deny: {{{operation}: true}}}}")).allowed


def test_partitioned_dml_begins_with_a_grant_on_any_table_and_goes_on_with_one_on_its_own() -> None:
    begin = Access(Operation.PARTITIONED_DML, "")
    orders, items = (Access(Operation.PARTITIONED_DML, table) for table in ("Orders", "OrderItems"))
    policy = policy_with("{partitioned_dml: [OrderItems, Orders], update: [Orders]}")
    assert asked(begin, policy=policy).allowed
    assert [grant.table for grant in asked(begin, orders, policy=policy).grants] == ["Orders"]
    only_orders = policy_with("{partitioned_dml: [Orders], update: [Orders]}")
    assert not asked(items, policy=only_orders).allowed
    assert not asked(begin, policy=policy_with("{update: [Orders]}")).allowed


def test_a_moment_without_its_zone_decides_nothing() -> None:
    with pytest.raises(ValueError, match="without its zone"):
        decide(shop.policy(), shop.CHECKOUT, "ExecuteSql", shop.PATH, (), "id", NOON.replace(tzinfo=None))


def test_a_refusal_carries_its_reason_and_a_bounded_detail() -> None:
    policy = shop.policy()
    decision = refuse(policy, shop.CHECKOUT, "ExecuteSql", shop.PATH, Reason.UNREADABLE_STATEMENT, "x" * 5000, "id")
    assert (decision.allowed, decision.reason) == (False, Reason.UNREADABLE_STATEMENT)
    assert (decision.name, decision.database) == ("checkout", "shop")
    assert len(decision.detail) == DETAIL_CHARACTERS_MAX
    assert refuse(policy, shop.CHECKOUT, "X", None, Reason.UNKNOWN_DATABASE, "", "id").database is None


def test_a_refusal_can_never_be_an_allow() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        refuse(shop.policy(), shop.CHECKOUT, "X", shop.PATH, Reason.GRANTED, "", "id")


ADVICE = {
    Access(READ, "Customers", ("Email",)): (
        "add `Email` to `Customers(...)` under access.checkout.shop.read (spangate.yaml:15:16)"
    ),
    Access(READ, "Customers", ("Email", "Region")): (
        "add `Email`, `Region` to `Customers(...)` under access.checkout.shop.read (spangate.yaml:15:16)"
    ),
    Access(INSERT, "Customers", ("Name",)): (
        "add `Customers(Name)` under access.checkout.shop.insert (spangate.yaml:16:24)"
    ),
    Access(DELETE, "Orders"): "add `delete: [Orders]` under access.checkout.shop",
    Access(UPDATE, "OrderItems", tuple(f"C{n:02}" for n in range(12))): (
        "add `OrderItems(C00, C01, C02, C03, C04, C05, C06, C07 and 4 more)` under access.checkout.shop.update "
        "(spangate.yaml:17:16)"
    ),
}


@pytest.mark.parametrize("access", ADVICE, ids=str)
def test_a_denial_says_what_to_add_and_where(access: Access) -> None:
    assert asked(access).detail == ADVICE[access]


def test_advice_for_many_accesses_is_bounded() -> None:
    detail = asked(*(Access(DELETE, f"T{n}") for n in range(50))).detail
    assert detail.endswith("and add 47 more")


def test_a_decision_id_is_16_characters_that_can_be_read_out() -> None:
    made = decision_id("3f2a9c1b7d04", shop.CHECKOUT, b"shape")
    assert re.fullmatch(r"[a-z2-7]{16}", made)
    assert made == decision_id("3f2a9c1b7d04", shop.CHECKOUT, b"shape") == "ozpbvjpvgesexzuk"


def test_a_decision_id_differs_wherever_its_parts_do() -> None:
    ids = [
        decision_id("ab", shop.CHECKOUT, b"c"),
        decision_id("a", shop.CHECKOUT, b"c"),
        decision_id("ab", shop.REPORTS, b"c"),
        decision_id("ab", shop.CHECKOUT, b"d"),
        decision_id("ab", shop.CHECKOUT, b""),
        # No shift of bytes from one part into its neighbour gives the same id.
        decision_id("ab", SpiffeId("t", ("a", "b")), b"c"),
        decision_id("ab", SpiffeId("t", ("a",)), b"/bc"),
        decision_id("", SpiffeId("t", ("a",)), b"abspiffe://t/a"),
    ]
    assert len(set(ids)) == len(ids)
