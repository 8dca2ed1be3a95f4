"""Intent text -> tree: what is accepted, what it means, where every word stands."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fakes import shop
from spangate.intent import Intent, IntentErrors, parse_intent
from spangate.intent.tree import GrantEntry, Word
from spangate.intent.words import DEFAULT_PROJECT, DEPTH_MAX, SWITCH_KEYS, VERB_KEYS
from spangate.model.access import Operation
from spangate.model.policy import Position
from spangate.model.schema import Dialect

HEAD = shop.INTENT[: shop.INTENT.index("access:")]


def parse(text: str) -> Intent:
    return parse_intent(text, shop.FILE)


def grants(body: str) -> list[GrantEntry]:
    """The grants of `body`, written under access.checkout.shop."""
    (entry,) = parse(f"{HEAD}access:\n  checkout:\n    shop:\n{body}").access
    return list(entry.grants)


def meaning(found: list[GrantEntry]) -> list[tuple[str, str]]:
    return [(grant.operation.value, str(grant)) for grant in found]


def words(intent: Intent) -> list[Word]:
    found = [intent.trust_domain]
    for database in intent.databases:
        found += [database.alias, database.instance, database.database, database.schema]
    for identity in intent.identities:
        found += [identity.name, identity.namespace, identity.service_account]
    for access in intent.access:
        found += [access.holder, access.database]
        for grant in access.grants:
            found += [grant.table, *(grant.columns or ())]
    return found


def test_the_example_of_the_design_reads_as_it_is_meant() -> None:
    intent = parse(shop.INTENT)
    assert intent.file == shop.FILE
    assert str(intent.trust_domain) == "shop.example"
    (database,) = intent.databases
    assert [str(word) for word in (database.alias, database.instance, database.database, database.schema)] == [
        "shop",
        "main",
        "shop",
        "schema.sql",
    ]
    assert database.project.text == DEFAULT_PROJECT
    assert [(str(i.name), str(i.namespace), str(i.service_account)) for i in intent.identities] == [
        ("checkout", "shop", "checkout"),
        ("reports", "analytics", "reports"),
        ("copilot", "tools", "copilot"),
    ]
    assert [(str(entry.holder), str(entry.database), meaning(list(entry.grants))) for entry in intent.access] == [
        (
            "checkout",
            "shop",
            [
                ("read", "Customers(CustomerId, Name)"),
                ("read", "Orders"),
                ("read", "OrderItems"),
                ("insert", "Orders"),
                ("insert", "OrderItems"),
                ("update", "Orders(Status)"),
            ],
        ),
        (
            "reports",
            "shop",
            [("read", "Orders"), ("read", "OrderItems"), ("read", "Customers(CustomerId, Region)")],
        ),
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "# a comment\n", "---\n"])
def test_every_position_points_at_its_own_word(newline: str, start: str) -> None:
    text = (start + shop.INTENT).replace("\n", newline)
    lines = text.removeprefix("\ufeff").split(newline)
    for word in words(parse(text)):
        rest = lines[word.position.line - 1][word.position.column - 1 :]
        assert rest.startswith(word.text), word


FLOW = "      read: [Customers(CustomerId, Name), Orders]\n"


@pytest.mark.parametrize(
    "body",
    [
        FLOW,
        "      read:\n        - Customers(CustomerId, Name)\n        - Orders\n",
        "      read:\n      - Customers(CustomerId, Name)\n      - Orders\n",
        '      read: ["Customers(CustomerId, Name)", "Orders"]\n',
        "      read: ['Customers(CustomerId, Name)', Orders]\n",
        "      read: [Customers(CustomerId,Name),Orders,]\n",
        "      read: [ Customers ( CustomerId , Name ) , Orders ]\n",
        "      read: [\n        Customers(CustomerId,\n                  Name),   # the name too\n        Orders]\n",
        "      read:\n        - Customers(CustomerId,\n            Name)\n        - Orders\n",
        '      {"read": [Customers(CustomerId, Name), Orders]}\n',
        "      'read': [Customers(CustomerId, Name), Orders]\n",
    ],
)
def test_style_does_not_change_the_meaning(body: str) -> None:
    assert meaning(grants(body)) == meaning(grants(FLOW))


def test_a_file_in_json_is_an_intent_file_too() -> None:
    text = (
        '{"spangate": "v1", "trust_domain": "shop.example", "databases": {"shop": {"instance": "main", "database": '
        '"shop", "schema": "schema.sql"}}, "identities": {"checkout": {"workload": "shop/checkout"}}, "access": '
        '{"checkout": {"shop": {"read": ["Customers(CustomerId, Name)", "Orders"]}}}}'
    )
    assert meaning(list(parse(text).access[0].grants)) == meaning(grants(FLOW))


def test_positions_inside_parentheses_survive_yamls_splitting() -> None:
    customers, orders = grants("      read: [Customers(CustomerId,\n    Name), Orders]\n")
    assert customers.table.position == Position(shop.FILE, 15, 14)
    assert [column.position for column in customers.columns or ()] == [
        Position(shop.FILE, 15, 24),
        Position(shop.FILE, 16, 5),
    ]
    assert orders.position == Position(shop.FILE, 16, 12)


def test_a_quoted_word_stands_behind_its_quote() -> None:
    text = shop.INTENT.replace("schema: schema.sql", "schema: 'schema.sql'")
    assert parse(text).databases[0].schema.position == Position(shop.FILE, 5, 51)


def test_words_that_yaml_might_read_otherwise_are_taken_in_quotes() -> None:
    assert meaning(grants('      read: ["no", \'True\', "On(y, n)"]\n')) == [
        ("read", "no"),
        ("read", "True"),
        ("read", "On(y, n)"),
    ]


def test_inside_parentheses_every_word_is_a_column() -> None:
    flow, block = grants("      read: [Switch(on, off)]\n"), grants("      read:\n        - Switch(on, off)\n")
    assert meaning(flow) == meaning(block) == [("read", "Switch(on, off)")]


def test_a_table_may_stand_in_a_named_schema() -> None:
    assert meaning(grants("      read: [sales.Orders(OrderId)]\n")) == [("read", "sales.Orders(OrderId)")]


def test_every_operation_is_read_and_write_is_three() -> None:
    body = "".join(f"      {key}: [Orders]\n" for key in VERB_KEYS if key != "write")
    body += "".join(f"      {key}: true\n" for key in SWITCH_KEYS)
    assert [grant.operation for grant in grants(body)] == list(Operation)
    assert meaning(grants("      write: [Orders]\n")) == [
        ("insert", "Orders"),
        ("update", "Orders"),
        ("delete", "Orders"),
    ]


def test_all_columns_but_some_are_taken_apart_by_yaml_and_put_together_again() -> None:
    for body in (
        "      read: [Orders(* except Status, Total), Items]\n",
        "      read: [Orders(*  EXCEPT Status,Total),Items]\n",
        "      read:\n        - Orders(* except Status, Total)\n        - Items\n",
        '      read: ["Orders( * except Status , Total )", Items]\n',
    ):
        orders, items = grants(body)
        assert (str(orders), orders.columns) == ("Orders(* except Status, Total)", None)
        assert [word.text for word in orders.excepted] == ["Status", "Total"]
        assert (str(items), items.excepted) == ("Items", ())


def test_a_column_may_be_called_except() -> None:
    (grant,) = grants("      read: [Orders(except, A)]\n")
    assert (str(grant), grant.excepted) == ("Orders(except, A)", ())


@pytest.mark.parametrize("pattern", ["Order*", "*", "*Items", "O*r*s", "sales.*", "*.Orders", "s*.O*"])
def test_a_pattern_is_a_name_with_stars(pattern: str) -> None:
    (grant,) = grants(f'      read: ["{pattern}"]\n')
    assert (grant.is_pattern, grant.table.text) == (True, pattern)


def test_an_entry_may_end_and_the_end_is_in_utc() -> None:
    ending = '{on: "Orders(Status, Total)", until: 2026-12-31T18:00+01:00}'
    one, two, three = grants(f"      read: [A, {ending}, {{until: 2026-12-31T18:00Z, on: B}}]\n")
    assert [str(grant) for grant in (one, two, three)] == ["A", "Orders(Status, Total)", "B"]
    assert (one.until, two.until) == (None, datetime(2026, 12, 31, 17, tzinfo=UTC))
    assert two.position == Position(shop.FILE, 15, 23)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-12-31T18:00Z", datetime(2026, 12, 31, 18, tzinfo=UTC)),
        ("2026-12-31T18:00:30Z", datetime(2026, 12, 31, 18, 0, 30, tzinfo=UTC)),
        ("2026-12-31T18:00:30.25-05:30", datetime(2026, 12, 31, 23, 30, 30, 250_000, tzinfo=UTC)),
        ("'2026-12-31T18:00+00:00'", datetime(2026, 12, 31, 18, tzinfo=UTC)),
        ("1999-01-01T00:00Z", datetime(1999, 1, 1, tzinfo=UTC)),
    ],
)
def test_an_end_is_a_moment_of_rfc_3339_to_the_minute_or_finer(text: str, moment: datetime) -> None:
    assert grants(f"      ddl: {{until: {text}}}\n")[0].until == moment


@pytest.mark.parametrize(
    "text",
    [
        "2026-12-31",
        "2026-12-31T18:00",
        "2026-12-31 18:00Z",
        "2026-12-31T18Z",
        "2026-12-31T18:00z",
        "2026-02-30T18:00Z",
        "2026-12-31T25:00Z",
        "2026-12-31T18:00:60Z",
        "0001-01-01T00:00+23:00",
        "9999-12-31T23:59-23:00",
        "2026-12-31T18:00+25:00",
        "tomorrow",
        "12",
        "~",
        "[2026-12-31T18:00Z]",
        "２０２６-12-31T18:00Z",
    ],
)
def test_an_end_is_nothing_else(text: str) -> None:
    with pytest.raises(IntentErrors, match=r"is not a moment with its zone|there is no moment|moment, not|no value"):
        grants(f"      ddl: {{until: {text}}}\n")


def test_exceptions_stand_in_the_same_words() -> None:
    body = "      deny:\n        write: [Orders]\n        read: [Customers(Email), '*']\n        ddl: true\n"
    found = grants(body)
    assert all(grant.deny for grant in found)
    assert {operation for operation, _ in meaning(found)} == {"insert", "update", "delete", "read", "ddl"}


def test_roles_are_bundles_of_grants_and_are_given_to_identities() -> None:
    text = (
        HEAD + "roles:\n  clerk: {shop: {read: [Orders]}}\n  auditor: {shop: {read: ['*']}}\n"
        "access:\n  checkout:\n    roles: [clerk, {role: auditor, until: 2026-12-31T18:00Z}]\n"
        "    shop: {delete: [Orders]}\n"
    )
    intent = parse(text)
    assert [word.text for word in intent.roles] == ["clerk", "auditor"]
    assert [(str(entry.holder), str(entry.database)) for entry in intent.role_access] == [
        ("clerk", "shop"),
        ("auditor", "shop"),
    ]
    assert [(str(use.identity), str(use.role), use.until) for use in intent.role_uses] == [
        ("checkout", "clerk", None),
        ("checkout", "auditor", datetime(2026, 12, 31, 18, tzinfo=UTC)),
    ]
    assert [str(entry.holder) for entry in intent.access] == ["checkout"]


def test_a_database_says_its_dialect_its_tags_its_context_and_where_its_schema_is() -> None:
    text = shop.INTENT.replace(
        "schema: schema.sql", "schema: live, dialect: postgresql, tags: keep, secure_context: true"
    )
    (database,) = parse(text).databases
    assert (database.live, database.dialect) == (True, Dialect.POSTGRESQL)
    assert (database.keep_tags, database.secure_context) == (True, True)
    (plain,) = parse(shop.INTENT).databases
    assert (plain.live, plain.dialect) == (False, Dialect.GOOGLESQL)
    assert (plain.keep_tags, plain.secure_context) == (False, False)


def test_access_may_be_left_out_for_a_policy_that_allows_nothing_yet() -> None:
    assert parse(HEAD).access == ()


def test_project_and_dialect_may_be_given() -> None:
    text = shop.INTENT.replace("schema: schema.sql", "schema: schema.sql, project: my-project, dialect: googlesql")
    assert parse(text).databases[0].project.text == "my-project"


@pytest.mark.parametrize("file", ["db/schema.sql", "../schema.sql", "my schema.sql"])
def test_a_schema_file_is_any_relative_path(file: str) -> None:
    text = shop.INTENT.replace("schema: schema.sql", f"schema: {file}")
    assert parse(text).databases[0].schema.text == file


@pytest.mark.parametrize("file", ["/schema.sql", "~/schema.sql", "a\\schema.sql", "x" * 2000])
def test_a_schema_file_is_nothing_else(file: str) -> None:
    with pytest.raises(IntentErrors, match="is not a path relative to this file"):
        parse(shop.INTENT.replace("schema: schema.sql", f"schema: {file}"))


@pytest.mark.parametrize("name", ["a", "a" * 60, "a-b", "a1"])
def test_an_identity_name_of_the_right_form_is_taken(name: str) -> None:
    assert parse(shop.INTENT.replace("copilot:  {", f"{name}:  {{")).identities[2].name.text == name


@pytest.mark.parametrize("name", ["a" * 61, "a_b", "A", "1a", "-a", "é", "a.b", "'a\n\n  b'", "''"])
def test_an_identity_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(IntentErrors, match=r"cannot be the name of an identity|needs a `:`"):
        parse(shop.INTENT.replace("copilot:  {", f"{name}:  {{"))


@pytest.mark.parametrize("workload", ["a", "a/", "/a", "a/b/c", "a/..", "./a", "a b/c", "é/a", "a/b@c"])
def test_a_workload_is_a_namespace_and_a_service_account(workload: str) -> None:
    with pytest.raises(IntentErrors, match="not of the form `namespace/service-account`"):
        parse(shop.INTENT.replace("tools/copilot", workload))


def test_the_depth_limit_stands_above_what_the_format_needs() -> None:
    assert DEPTH_MAX > 5
    with pytest.raises(IntentErrors, match="nested deeper"):
        parse("[" * 100_000)


@pytest.mark.parametrize("text", ["\x00", "a: \x1b[31m", "a\rb", "a: \u2028", "\ud800", "a: \u202e", "a: b\ufeff"])
def test_what_cannot_be_seen_is_refused_wherever_it_stands(text: str) -> None:
    with pytest.raises(IntentErrors, match=r"the invisible character U\+[0-9A-F]{4,6} is not allowed"):
        parse(text)


@pytest.mark.parametrize("text", ['"\\UFFFFFFFF"', "!<tag:%ff> a", 'a: "\\q"', "&", "*", "!", "%", "|", "@", "`", "\t"])
def test_what_breaks_yaml_readers_is_a_problem_like_any_other(text: str) -> None:
    with pytest.raises(IntentErrors):
        parse(text)


def test_structure_errors_of_all_parts_come_in_one_run() -> None:
    text = (
        "spangate: v2\ntrust_domain: UPPER\ndatabases: {Shop: {}, b: {instance: 1}}\nidentities: {a: {workload: x}}\n"
        "access: {a: {b: {reed: [T], read: [], insert: [T(], delete: [T(a)]}}}\n"
    )
    with pytest.raises(IntentErrors) as caught:
        parse(text)
    lines = [problem.position.line for problem in caught.value.problems]
    assert {line: lines.count(line) for line in lines} == {1: 1, 2: 1, 3: 4, 4: 1, 5: 4}
