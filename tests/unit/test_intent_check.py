"""Tree + schemas -> policy: names found, spelled as in the schema, and the version that stands for it all."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from fakes import shop
from spangate.errors import Broken
from spangate.intent import IntentErrors, check_intent, expand, parse_intent
from spangate.intent.words import IDENTITY_NAME, IDENTITY_NAME_CHARACTERS_MAX
from spangate.model.access import Operation
from spangate.model.identity import SPIFFE_ID_BYTES_MAX, SpiffeId
from spangate.model.policy import Grant, TrustDomain, moment_text, role_of
from spangate.model.schema import Dialect, ObjectKind, Schema, SchemaObject


def granted(intent: str, schema: Schema = shop.SCHEMA) -> set[tuple[str, str, str, frozenset[str]]]:
    return {(g.identity, g.operation.value, g.table, g.columns) for g in shop.policy(intent, schema).grants}


def with_access(body: str) -> str:
    return shop.INTENT[: shop.INTENT.index("access:")] + f"access: {{checkout: {{shop: {body}}}}}\n"


def test_the_example_of_the_design_is_checked_as_it_is_meant() -> None:
    policy = shop.policy()
    assert policy.trust_domain == "shop.example"
    assert policy.identities == {"checkout": shop.CHECKOUT, "reports": shop.REPORTS, "copilot": shop.COPILOT}
    assert policy.name_of[shop.COPILOT] == "copilot"
    assert policy.database_at[shop.PATH].alias == "shop"
    assert policy.databases["shop"].schema_file == "schema.sql"
    all_orders = frozenset({"OrderId", "CustomerId", "Status", "Total"})
    all_items = frozenset({"OrderId", "Item", "Quantity"})
    assert granted(shop.INTENT) == {
        ("checkout", "read", "Customers", frozenset({"CustomerId", "Name"})),
        ("checkout", "read", "Orders", all_orders),
        ("checkout", "read", "OrderItems", all_items),
        ("checkout", "insert", "Orders", all_orders),
        ("checkout", "insert", "OrderItems", all_items),
        ("checkout", "update", "Orders", frozenset({"Status"})),
        ("reports", "read", "Orders", all_orders),
        ("reports", "read", "OrderItems", all_items),
        ("reports", "read", "Customers", frozenset({"CustomerId", "Region"})),
    }


def test_a_grant_keeps_the_authors_words_and_their_place() -> None:
    grant = next(g for g in shop.policy(with_access("{update: [orders( STATUS )]}")).grants)
    assert (grant.text, str(grant.position)) == ("orders(STATUS)", "spangate.yaml:12:37")
    assert str(grant) == "checkout may update orders(STATUS) in shop (spangate.yaml:12:37)"
    assert (grant.table, grant.columns) == ("Orders", frozenset({"Status"}))


def test_delete_has_no_columns() -> None:
    assert granted(with_access("{delete: [Orders]}")) == {("checkout", "delete", "Orders", frozenset())}


def test_names_compare_without_case_and_leave_in_the_schemas_spelling() -> None:
    text = with_access("{read: [ORDERS(orderid), customers]}")
    assert granted(text) == granted(with_access("{read: [Orders(OrderId), Customers]}"))
    assert shop.policy(text).version == shop.policy(with_access("{read: [Orders(OrderId), Customers]}")).version


def test_an_identity_may_have_no_access() -> None:
    policy = shop.policy()
    assert "copilot" in policy.identities
    assert ("copilot", "shop") not in policy.grants_of


def test_a_table_in_a_named_schema_is_found_under_its_full_name_only() -> None:
    schema = Schema((shop.table("sales.Orders", "OrderId"),))
    assert granted(with_access("{read: [Sales.orders]}"), schema) == {
        ("checkout", "read", "sales.Orders", frozenset({"OrderId"}))
    }
    with pytest.raises(IntentErrors, match=r"did you mean `sales\.Orders`"):
        granted(with_access("{read: [Orders]}"), schema)


def test_a_name_in_two_databases_is_looked_up_in_each_of_them() -> None:
    text = shop.INTENT.replace("\nidentities:", "  logs: {instance: main, database: logs, schema: l.sql}\nidentities:")
    tree = parse_intent(text + "    logs: {read: [Orders, Events]}\n", shop.FILE)
    with pytest.raises(IntentErrors) as caught:
        check_intent(tree, {"shop": shop.SCHEMA, "logs": Schema((shop.table("Events", "Id"),))})
    assert str(caught.value) == ("spangate.yaml:21:19: unknown table `Orders`\n  help: tables of l.sql: `Events`")


def test_a_spiffe_id_that_is_too_long_as_a_whole_is_refused() -> None:
    long = "a" * (SPIFFE_ID_BYTES_MAX // 2)
    with pytest.raises(IntentErrors, match="the SPIFFE ID of `copilot` is longer than 2048 bytes"):
        shop.policy(shop.INTENT.replace("tools/copilot", f"{long}/{long}"))


def test_a_schema_that_the_caller_forgot_is_the_callers_defect() -> None:
    with pytest.raises(Broken, match="no schema was given for the database `shop`"):
        check_intent(parse_intent(shop.INTENT, shop.FILE), {})


def test_no_two_identity_names_share_a_database_role() -> None:
    # `_`, the only character that a role has and a name does not, is not one that names may hold.
    names = ["a-b", "a--b", "ab", "a-b-", "a1", "a-1"]
    assert len({role_of(name) for name in names}) == len(names)
    assert len(role_of("a" * IDENTITY_NAME_CHARACTERS_MAX)) == 63
    assert not re.fullmatch(IDENTITY_NAME, "a_b")


def test_the_version_is_the_beginning_of_the_hash_of_the_canonical_form() -> None:
    policy = shop.policy()
    assert policy.version == hashlib.sha256(policy.canonical.encode()).hexdigest()[:12]


def test_the_canonical_form_writes_everything_out() -> None:
    policy = shop.policy(with_access("{read: [Orders(Total), Orders(OrderId)], delete: [Orders]}"))
    assert json.loads(policy.canonical) == {
        "form": 2,
        "trust_domain": "shop.example",
        "databases": {
            "shop": {
                "path": str(shop.PATH),
                "schema": shop.SCHEMA.fingerprint,
                "keep_tags": False,
                "secure_context": False,
            }
        },
        "identities": {
            "checkout": "spiffe://shop.example/ns/shop/sa/checkout",
            "reports": "spiffe://shop.example/ns/analytics/sa/reports",
            "copilot": "spiffe://shop.example/ns/tools/sa/copilot",
        },
        "access": {
            "checkout": {
                "shop": {
                    "standing": "always",
                    "tables": {
                        "delete": {"Orders": {"any": "always", "every": "always"}},
                        "read": {"Orders": {"any": "always", "columns": {"always": ["OrderId", "Total"]}}},
                    },
                }
            }
        },
    }
    assert policy.canonical == json.dumps(json.loads(policy.canonical), sort_keys=True, separators=(",", ":"))


SAME = [
    with_access("{read: [Orders(OrderId, Total)]}"),
    with_access("{read: [Orders(Total, OrderId)]}"),
    with_access("{read: [Orders(Total), Orders(OrderId)]}"),
    with_access("{read: [Orders(Total, OrderId), Orders(OrderId), orders(total)]}"),
    "# another comment\n" + with_access("{read: [Orders(OrderId, Total)]}").replace("  # ", "   #"),
    with_access("{'read': ['Orders(OrderId, Total)']}").replace("schema.sql", "other.sql"),
]
OTHER = [
    with_access("{read: [Orders(OrderId)]}"),
    with_access("{read: [Orders]}"),
    with_access("{read: [Orders(OrderId, Total), OrderItems]}"),
    with_access("{update: [Orders(OrderId, Total)]}"),
    with_access("{read: [Orders(OrderId, Total)]}").replace("checkout: {shop", "reports: {shop"),
    with_access("{read: [Orders(OrderId, Total)]}").replace("shop.example", "shop.test"),
    with_access("{read: [Orders(OrderId, Total)]}").replace("instance: main", "instance: other"),
    with_access("{read: [Orders(OrderId, Total)]}").replace("tools/copilot", "tools/copilot2"),
    with_access("{read: [Orders(OrderId, Total)]}").replace("copilot:  ", "pilot:  "),
    with_access("{read: [Orders(OrderId, Total)]}").replace("schema.sql", "schema.sql, tags: keep"),
    with_access("{read: [Orders(OrderId, Total)]}").replace("schema.sql", "schema.sql, secure_context: true"),
    with_access("{read: [{on: 'Orders(OrderId, Total)', until: 2030-01-01T00:00Z}]}"),
    with_access("{read: [{on: 'Orders(OrderId, Total)', until: 2030-01-01T00:00:01Z}]}"),
    with_access("{read: [Orders(OrderId, Total)], deny: {read: [Orders(Total)]}}"),
    with_access("{read: [Orders(OrderId, Total)], deny: {read: [Orders(Status)]}}"),
    with_access("{read: [Orders(* except Status)]}"),
    with_access("{read: [Orders(OrderId, Total)], schema: true}"),
]


def test_what_says_the_same_has_the_same_version() -> None:
    assert len({shop.policy(text).version for text in SAME}) == 1


def test_what_says_something_else_has_another_version() -> None:
    versions = [shop.policy(text).version for text in [SAME[0], *OTHER]]
    assert len(set(versions)) == len(versions)


T1, T2 = "2030-01-01T00:00Z", "2031-01-01T00:00Z"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # What an exception hides does not matter.
        ("{read: [Orders], deny: {read: [Orders]}}", "{read: [Orders(Total)], deny: {read: [Orders]}}"),
        (
            "{read: [Orders], deny: {read: [Orders(Total)]}}",
            "{read: [Orders(* except Total)], deny: {read: [Orders(Total)]}}",
        ),
        (
            "{read: [Orders], deny: {read: [Orders(Total)]}}",
            "{read: [Orders(OrderId, CustomerId, Status)], deny: {read: [Orders(Total)]}}",
        ),
        ("{read: [Orders], deny: {delete: [Orders]}}", "{read: [Orders], deny: {delete: [Orders, Orders]}}"),
        ("{delete: [Orders], deny: {read: [Orders]}}", "{delete: [Orders], deny: {read: [Orders(Total), Orders]}}"),
        # Nor does an exception to who has no standing any more.
        (
            f"{{read: [{{on: Orders, until: {T1}}}], deny: {{delete: [Orders]}}}}",
            f"{{read: [{{on: Orders, until: {T1}}}], deny: {{delete: [{{on: Orders, until: {T2}}}]}}}}",
        ),
        # The later of two ends counts.
        ("{read: [Orders]}", f"{{read: [Orders, {{on: Orders(Total), until: {T1}}}]}}"),
        ("{deny: {read: [Orders]}}", "{deny: {delete: [Orders]}}"),
    ],
)
def test_what_never_changes_a_decision_never_changes_the_version(one: str, other: str) -> None:
    assert shop.policy(with_access(one)).version == shop.policy(with_access(other)).version


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{delete: [Orders], deny: {read: [Orders]}}", "{delete: [Orders]}"),
        ("{read: [Orders], deny: {read: [Orders(Total)]}}", "{read: [Orders(* except Total)]}"),
        # A grant that an exception hides still lets partitioned DML begin, and gives standing.
        (
            "{read: [Orders], partitioned_dml: [Orders], deny: {partitioned_dml: [Orders]}}",
            "{read: [Orders], deny: {partitioned_dml: [Orders]}}",
        ),
        ("{read: [Orders], deny: {read: [Orders]}}", "{deny: {read: [Orders]}}"),
        # It comes out again when the exception ends first.
        (
            f"{{read: [Orders], deny: {{read: [{{on: Orders, until: {T1}}}]}}}}",
            f"{{read: [Orders(Total)], deny: {{read: [{{on: Orders, until: {T1}}}]}}}}",
        ),
        (f"{{read: [{{on: Orders, until: {T1}}}]}}", f"{{read: [{{on: Orders, until: {T2}}}]}}"),
    ],
)
def test_what_changes_a_decision_at_any_moment_changes_the_version(one: str, other: str) -> None:
    assert shop.policy(with_access(one)).version != shop.policy(with_access(other)).version


def test_another_schema_is_another_version() -> None:
    wider = Schema((*shop.SCHEMA.tables, shop.table("More", "Id")))
    assert shop.policy(schema=wider).version != shop.policy().version


def test_delete_from_a_table_is_not_the_same_as_nothing() -> None:
    base = with_access("{read: [Orders]}")
    assert shop.policy(with_access("{read: [Orders], delete: [Orders]}")).version != shop.policy(base).version


# Patterns, exceptions, roles, ends.

KINDS = replace(
    shop.SCHEMA,
    tables=(*shop.SCHEMA.tables, shop.table("sales.Orders", "OrderId"), shop.table("sales.Notes", "NoteId")),
    objects=(
        SchemaObject(ObjectKind.VIEW, "OrderTotals", ""),
        SchemaObject(ObjectKind.CHANGE_STREAM, "Feed", ""),
        SchemaObject(ObjectKind.SEQUENCE, "Numbers", ""),
        SchemaObject(ObjectKind.MODEL, "Embed", ""),
        SchemaObject(ObjectKind.QUEUE, "Jobs", ""),
        SchemaObject(ObjectKind.QUEUE, "JobsToo", ""),
    ),
)


def grants_with(body: str) -> tuple[Grant, ...]:
    return shop.policy(with_access(body), KINDS).grants


@pytest.mark.parametrize(
    ("pattern", "tables"),
    [
        ("Order*", {"Orders", "OrderItems"}),
        ("order*", {"Orders", "OrderItems"}),
        ("*", {"Customers", "Orders", "OrderItems", "sales.Orders", "sales.Notes"}),
        ("*orders", {"Orders", "sales.Orders"}),
        ("sales.*", {"sales.Orders", "sales.Notes"}),
        ("*.Orders", {"sales.Orders"}),
        ("O*r*s", {"Orders", "OrderItems"}),
        ("Orders*", {"Orders"}),
        ("*Orders*", {"Orders", "sales.Orders"}),
        ("s*.*s", {"sales.Orders", "sales.Notes"}),
        ("C**s", {"Customers"}),
    ],
)
def test_a_pattern_stands_for_every_table_whose_name_is_so(pattern: str, tables: set[str]) -> None:
    found = grants_with(f'{{read: ["{pattern}"]}}')
    assert {grant.table for grant in found} == tables
    assert {(grant.text, grant.every) for grant in found} == {(pattern, True)}


@pytest.mark.parametrize("pattern", ["OrderItemsItems*", "Or*Orders", "*x*", "sales*Orders*Orders"])
def test_a_pattern_does_not_use_a_letter_twice(pattern: str) -> None:
    with pytest.raises(IntentErrors, match="matches none of the tables"):
        grants_with(f'{{read: ["{pattern}"]}}')


def test_no_pattern_is_slow() -> None:
    wide = replace(shop.SCHEMA, tables=(shop.table("a" * 128, "Id"),))
    with pytest.raises(IntentErrors, match="matches none"):
        shop.policy(with_access(f"{{read: [{'a*' * 60}b]}}"), wide)


def test_patterns_of_models_and_queues_stand_for_those() -> None:
    found = grants_with('{execute: ["*"], send: [Jobs*], ack: [Jobs]}')
    assert {(str(grant.operation), grant.table) for grant in found} == {
        ("execute", "Embed"),
        ("send", "Jobs"),
        ("send", "JobsToo"),
        ("ack", "Jobs"),
    }


def test_an_exceptions_pattern_stands_for_views_change_streams_and_sequences_too() -> None:
    granted, denied = grants_with('{read: ["*"]}'), grants_with('{read: [Orders], deny: {read: ["*"]}}')
    assert not {grant.table for grant in granted} & {"OrderTotals", "Feed", "Numbers"}
    assert {grant.table for grant in denied if grant.deny} == {grant.table for grant in granted} | {
        "OrderTotals",
        "Feed",
        "Numbers",
    }


def test_views_change_streams_and_sequences_are_granted_by_name_and_without_columns() -> None:
    found = grants_with("{read: [ordertotals, Feed, Numbers], update: [numbers]}")
    assert {(str(grant.operation), grant.table, grant.columns) for grant in found} == {
        ("read", "OrderTotals", frozenset()),
        ("read", "Feed", frozenset()),
        ("read", "Numbers", frozenset()),
        ("update", "Numbers", frozenset()),
    }


def test_what_belongs_to_a_table_tomorrow_belongs_to_a_grant_on_all_of_it_and_on_all_but_some() -> None:
    found = grants_with("{read: [Orders, Orders(Total), Orders(* except Total)]}")
    whole, some, but = sorted(found, key=lambda grant: grant.position)
    assert (whole.every, some.every, but.every) == (True, False, True)
    assert but.columns == whole.columns - {"Total"}


def test_write_is_insert_update_and_delete() -> None:
    assert grants_with("{write: [Orders]}") == grants_with("{insert: [Orders], update: [Orders], delete: [Orders]}")


ROLES = (
    shop.INTENT[: shop.INTENT.index("access:")]
    + """\
roles:
  clerk:
    shop:
      read: [Orders, {on: Customers, until: 2027-01-01T00:00Z}]
      deny: {read: [Customers(Email)]}
access:
  checkout:
    roles: [clerk]
  reports:
    roles: [{role: clerk, until: 2026-12-31T18:00+01:00}]
"""
)


def test_a_role_gives_its_grants_and_exceptions_and_they_end_with_the_first_end() -> None:
    policy = shop.policy(ROLES)
    ends = {(g.identity, g.table, g.deny): g.until for g in policy.grants}
    first, second = datetime(2026, 12, 31, 17, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    assert ends == {
        ("checkout", "Orders", False): None,
        ("checkout", "Customers", False): second,
        ("checkout", "Customers", True): None,
        ("reports", "Orders", False): first,
        ("reports", "Customers", False): first,
        ("reports", "Customers", True): first,
    }
    assert {grant.role for grant in policy.grants} == {"clerk"}
    assert policy.ends == (first, second)


def test_a_role_that_nobody_has_gives_nothing() -> None:
    unused = ROLES.replace("roles:\n  clerk", "roles:\n  idle: {shop: {delete: [Orders]}}\n  clerk", 1)
    assert shop.policy(unused).canonical == shop.policy(ROLES).canonical


def test_a_role_written_out_is_the_same_policy() -> None:
    written = with_access("{read: [Orders, Customers], deny: {read: [Customers(Email)]}}")
    by_role = (
        written.replace("access: {checkout: {shop:", "roles: {clerk: {shop:") + "access: {checkout: {roles: [clerk]}}\n"
    )
    assert shop.policy(written).version == shop.policy(by_role).version


def test_a_schema_in_another_dialect_than_the_intent_says_is_refused() -> None:
    postgresql = replace(shop.SCHEMA, dialect=Dialect.POSTGRESQL)
    with pytest.raises(IntentErrors, match="is in the dialect `postgresql`, not `googlesql`"):
        shop.policy(schema=postgresql)
    text = shop.INTENT.replace("schema: schema.sql", "schema: schema.sql, dialect: postgresql")
    assert shop.policy(text, postgresql).grants


def test_a_file_that_multiplies_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expand, "GRANTS_MAX", 5)
    with pytest.raises(IntentErrors, match="makes more than 5 grants"):
        shop.policy()
    assert (
        len(shop.policy(ROLES.replace("checkout:\n    roles: [clerk]", "copilot: {shop: {read: [Orders]}}")).grants)
        == 4
    )


def test_patterns_that_compare_too_much_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expand, "PATTERN_COMPARISONS_MAX", 5)
    with pytest.raises(IntentErrors, match="too many for so large a schema"):
        shop.policy(with_access("{read: [O*, Or*]}"))
    # What was compared once is not compared again.
    assert shop.policy(with_access("{read: [O*, {on: O*, until: 2030-01-01T00:00Z}]}"))


def test_grants_are_found_by_what_they_cover() -> None:
    policy = shop.policy()
    (grant,) = policy.grants_on["checkout", "shop", Operation.UPDATE, "Orders"]
    assert isinstance(grant, Grant)
    assert grant in policy.grants_of["checkout", "shop"]
    assert sum(len(grants) for grants in policy.grants_on.values()) == len(policy.grants)


def test_exceptions_are_found_apart_from_grants_and_the_last_end_is_known() -> None:
    policy = shop.policy(ROLES)
    key = ("checkout", "shop", Operation.READ, "Customers")
    assert [grant.deny for grant in policy.grants_on[key]] == [False]
    assert [grant.deny for grant in policy.exceptions_on[key]] == [True]
    assert policy.standing_until == {
        ("checkout", "shop"): None,
        ("reports", "shop"): datetime(2026, 12, 31, 17, tzinfo=UTC),
    }


def test_partitioned_dml_is_found_without_its_table_too() -> None:
    policy = shop.policy(with_access("{partitioned_dml: [Orders, OrderItems], deny: {partitioned_dml: [Customers]}}"))
    found = policy.grants_on["checkout", "shop", Operation.PARTITIONED_DML, ""]
    assert {grant.table for grant in found} == {"Orders", "OrderItems"}


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 12, 31, 18, tzinfo=UTC), "2026-12-31T18:00Z"),
        (datetime(2026, 12, 31, 18, 0, 5, tzinfo=UTC), "2026-12-31T18:00:05Z"),
        (datetime(2026, 12, 31, 18, 0, 0, 250_000, tzinfo=UTC), "2026-12-31T18:00:00.25Z"),
        (datetime(7, 1, 1, tzinfo=UTC), "0007-01-01T00:00Z"),
    ],
)
def test_a_moment_is_told_as_short_as_it_is(moment: datetime, text: str) -> None:
    assert moment_text(moment) == text
    assert datetime.fromisoformat(text) == moment


# Trust domains


def with_domains(entries: str, identity: str = "{agent: tools/copilot}") -> str:
    return shop.INTENT.replace("{agent: tools/copilot}", identity).replace(
        "\ndatabases:", f"\ntrust_domains: {entries}\ndatabases:", 1
    )


MESH = "{cluster.local: {bundle: [a.pem, b.pem], aliases: [old.example, older.example]}}"


def test_an_identity_may_be_of_another_trust_domain() -> None:
    policy = shop.policy(with_domains(MESH, "{agent: tools/copilot, trust_domain: cluster.local}"))
    assert str(policy.identities["copilot"]) == "spiffe://cluster.local/ns/tools/sa/copilot"
    assert str(policy.identities["checkout"]) == "spiffe://shop.example/ns/shop/sa/checkout"
    (mesh,) = policy.trust_domains
    assert mesh == TrustDomain("cluster.local", ("a.pem", "b.pem"), ("old.example", "older.example"))
    assert mesh.names == ("cluster.local", "old.example", "older.example")


def test_an_alias_names_the_same_workload() -> None:
    policy = shop.policy(with_domains(MESH))
    workload = SpiffeId.workload("cluster.local", "tools", "copilot")
    for presented in ("cluster.local", "old.example", "older.example"):
        assert policy.canonical_id(SpiffeId.workload(presented, "tools", "copilot")) == workload
    for other in ("shop.example", "very.old.example"):
        stranger = SpiffeId.workload(other, "tools", "copilot")
        assert policy.canonical_id(stranger) == stranger


def test_workloads_of_one_name_in_two_trust_domains_are_two() -> None:
    policy = shop.policy(with_domains(MESH, "{workload: shop/checkout, trust_domain: cluster.local}"))
    assert policy.identities["copilot"] != policy.identities["checkout"]


def test_an_alias_is_in_the_version_and_bundles_and_order_are_not() -> None:
    plain = shop.policy().version
    one = shop.policy(with_domains("{a: {bundle: a.pem, aliases: [b, c]}, d: {bundle: d.pem}}"))
    other = shop.policy(with_domains("{d: {bundle: [x.pem, y.pem]}, a: {bundle: b.pem, aliases: [c, b]}}"))
    assert one.version == other.version != plain
    assert shop.policy(with_domains("{a: {bundle: a.pem}}")).version == plain
    assert shop.policy(with_domains("{a: {bundle: a.pem, aliases: [b]}}")).version not in {one.version, plain}


def test_the_files_own_trust_domain_may_have_a_bundle_and_aliases() -> None:
    policy = shop.policy(with_domains("{shop.example: {aliases: [_odd]}}"))
    assert policy.canonical_id(SpiffeId.parse("spiffe://_odd/ns/shop/sa/checkout")) == shop.CHECKOUT
    assert shop.policy(with_domains("{shop.example: {bundle: a.pem}}")).trust_domains[0].bundles == ("a.pem",)
