"""Tree + schemas -> policy: names found, spelled as in the schema, and the version that stands for it all."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from fakes import shop
from spangate.errors import Broken
from spangate.intent import IntentErrors, check_intent, parse_intent
from spangate.intent.words import IDENTITY_NAME, IDENTITY_NAME_CHARACTERS_MAX
from spangate.model.access import Operation
from spangate.model.identity import SPIFFE_ID_BYTES_MAX
from spangate.model.policy import Grant, role_of
from spangate.model.schema import Schema


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
]


def test_what_says_the_same_has_the_same_version() -> None:
    assert len({shop.policy(text).version for text in SAME}) == 1


def test_what_says_something_else_has_another_version() -> None:
    versions = [shop.policy(text).version for text in [SAME[0], *OTHER]]
    assert len(set(versions)) == len(versions)


def test_another_schema_is_another_version() -> None:
    wider = Schema((*shop.SCHEMA.tables, shop.table("More", "Id")))
    assert shop.policy(schema=wider).version != shop.policy().version


def test_delete_from_a_table_is_not_the_same_as_nothing() -> None:
    base = with_access("{read: [Orders]}")
    assert shop.policy(with_access("{read: [Orders], delete: [Orders]}")).version != shop.policy(base).version


def test_grants_are_found_by_what_they_cover() -> None:
    policy = shop.policy()
    (grant,) = policy.grants_on["checkout", "shop", Operation.UPDATE, "Orders"]
    assert isinstance(grant, Grant)
    assert grant in policy.grants_of["checkout", "shop"]
    assert sum(len(grants) for grants in policy.grants_on.values()) == len(policy.grants)
