"""Every message an intent file can be answered with, exactly as a person sees it.

The messages stand in golden/intent_errors.txt, one section for each case. After a change of words, look at the
difference: `SPANGATE_REFRESH=1 python -m pytest tests/unit/test_intent_errors.py` writes the file anew.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import shop
from spangate.intent import IntentErrors, IntentProblem, parse_intent, reader
from spangate.intent.errors import PROBLEMS_MAX, shown
from spangate.intent.words import FILE_BYTES_MAX, LATER_WORDS, NODES_MAX
from spangate.model.policy import Position
from spangate.model.schema import ObjectKind, SchemaObject

GOLDEN = Path(__file__).with_name("golden") / "intent_errors.txt"
HEAD = shop.INTENT[: shop.INTENT.index("access:")]


def changed(old: str, new: str) -> str:
    assert shop.INTENT.count(old) == 1, old
    return shop.INTENT.replace(old, new)


def access(body: str) -> str:
    return f"{HEAD}access:\n  checkout:\n    shop:\n{body}"


def domains(entries: str, identity: str = "{agent: tools/copilot}") -> str:
    """The example with `trust_domains`, and an identity in one of them."""
    head = changed("{agent: tools/copilot}", identity)
    return head.replace("\ndatabases:", f"\ntrust_domains: {entries}\ndatabases:", 1)


MESH = "cluster.local: {bundle: istio/root-cert.pem, aliases: [old.example]}"


def roles(definitions: str, given: str) -> str:
    return f"{HEAD}roles:\n  {definitions}\naccess:\n  checkout:\n    roles: {given}\n"


# The shop's, and one of each kind that a schema can hold besides.
SCHEMA = replace(
    shop.SCHEMA,
    objects=(
        SchemaObject(ObjectKind.VIEW, "OrderTotals", ""),
        SchemaObject(ObjectKind.CHANGE_STREAM, "Feed", ""),
        SchemaObject(ObjectKind.SEQUENCE, "Numbers", ""),
        SchemaObject(ObjectKind.MODEL, "Embed", ""),
        SchemaObject(ObjectKind.QUEUE, "Jobs", ""),
        SchemaObject(ObjectKind.GRAPH, "Ways", ""),
    ),
)


GOOGLE = 'google: {project_number: "123456789012", pool: mesh, provider: spangate'


def google(more: str, identity: str = "") -> str:
    """The shop with a `google` block that ends with `more`, and something added to an identity."""
    text = changed("{workload: shop/checkout}", f"{{workload: shop/checkout{identity}}}")
    return f"{text}{GOOGLE}{more}}}\n"


CASES = {
    # The file as a whole.
    "an empty file": "",
    "only a comment": "# to be written\n",
    "a list": "- a\n",
    "not YAML at all but a word": "hello\n",
    "only the first line": "spangate: v1\n",
    "another version": changed("spangate: v1", "spangate: v2"),
    "a number as version": changed("spangate: v1", "spangate: 1"),
    "no version": changed("spangate: v1", "spangate:"),
    "a list as version": changed("spangate: v1", "spangate: [v1]"),
    "a very long word": changed("spangate: v1", "spangate: " + "v" * 500),
    "a misspelt top key": changed("identities:", "identitys:"),
    "two documents": shop.INTENT + "---\nspangate: v1\n",
    "text after a flow mapping": "{spangate: v1} {}\n",
    "a complex key": "? [a]\n: b\n",
    "deep nesting": "a: " + "[" * 40 + "]" * 40,
    # Words of later versions.
    "traffic": shop.INTENT + "\ntraffic:\n  - {from: shop/web, to: shop/checkout, allow: [GET /orders]}\n",
    "roles and until": changed("{workload: shop/checkout}", "{workload: shop/checkout, roles: [a], until: 2026-01-01}"),
    # Google.
    "google as a word": shop.INTENT + "google: yes-please\n",
    "google without its parts": shop.INTENT + "google: {pool: mesh}\n",
    "a project number that is an id": shop.INTENT
    + "google: {project_number: my-project, pool: mesh, provider: spangate}\n",
    "a project number that YAML reads as one": shop.INTENT
    + "google: {project_number: 12, pool: mesh, provider: spangate}\n",
    "a pool of Google's own": shop.INTENT + 'google: {project_number: "12", pool: gcp-mesh, provider: x}\n',
    "an unknown subject token": google(", subject_token: jwks"),
    "a saml subject token": google(", subject_token: saml2"),
    "a misspelt key of google": google(", scope: [https://www.googleapis.com/auth/cloud-platform]"),
    "scopes that are none": google(', scopes: [cloud-platform, "", [a]]'),
    "no scopes": google(", scopes: []"),
    "scopes as text": google(", scopes: https://www.googleapis.com/auth/cloud-platform"),
    "a scope twice": google(", scopes: [" + ", ".join(["https://www.googleapis.com/auth/spanner.data"] * 2) + "]"),
    "too many scopes": google(", scopes: [" + ", ".join(["a"] * 17) + "]"),
    "impersonation without an account": google(", impersonate: {lifetime: 10m}"),
    "an account that is none": google(", impersonate: {service_account: shop@example.com}"),
    "a delegate that is none": google(
        ", impersonate: {service_account: shop-db@my-project.iam.gserviceaccount.com, delegates: [../x]}"
    ),
    **{
        f"a lifetime of {lifetime}": google(
            f", impersonate: {{service_account: shop-db@my-project.iam.gserviceaccount.com, lifetime: {lifetime}}}"
        )
        for lifetime in ("600", "10 minutes", "299s", "61m", "2h", "[1h]")
    },
    "an identity that impersonates without google": changed(
        "{workload: shop/checkout}",
        "{workload: shop/checkout, impersonate: {service_account: shop-db@my-project.iam.gserviceaccount.com}}",
    ),
    "an identity that only impersonates": changed(
        "{workload: shop/checkout}", "{impersonate: {service_account: shop-db@my-project.iam.gserviceaccount.com}}"
    ),
    "an identity of a mesh and google": google("")
    .replace("\ndatabases:", f"\ntrust_domains: {{{MESH}}}\ndatabases:", 1)
    .replace("tools/copilot", "tools/copilot, trust_domain: cluster.local"),
    "a name that is too long for google": google("").replace("shop/checkout", "shop/" + "c" * 117),
    # YAML that an intent file does not use.
    "an anchor": changed("{workload: shop/checkout}", "&a {workload: shop/checkout}"),
    "an alias": changed("{agent: tools/copilot}", "*a"),
    "a merge key": access("      <<: {read: [Orders]}\n"),
    "a tag": changed("spangate: v1", "spangate: !!str v1"),
    "a directive": "%YAML 1.1\n---\n" + shop.INTENT,
    "a text block": access("      read:\n        - |\n          Orders\n"),
    "an escape": access('      read: ["Ord\\x65rs"]\n'),
    "a key twice": shop.INTENT + "  reports:\n    shop:\n      read: [Orders]\n",
    "a bidirectional override in a comment": changed("# namespace", "# \u202enamespace"),
    "a zero-width space in a name": changed("[Orders, OrderItems]\n      update", "[Ord\u200bers]\n      update"),
    # YAML that is not well-formed.
    "a tab": changed("  checkout:\n    shop:", "  checkout:\n\tshop:"),
    "an unclosed list": access("      read: [Orders, Customers(Name)\n      insert: [Orders]\n"),
    "an unclosed mapping": changed("{agent: tools/copilot}", "{agent: tools/copilot"),
    "an unclosed quote": changed("trust_domain: shop.example", 'trust_domain: "shop.example'),
    "too little indentation": changed("      insert:", "     insert:"),
    "too much indentation": changed("      insert:", "        insert:"),
    "two colons": changed("schema: schema.sql", "schema: a: b"),
    "a forgotten colon": changed("  checkout:\n    shop:", "  checkout\n    shop:"),
    "a forgotten space": changed("workload: shop/checkout", "workload:shop/checkout"),
    # The parts of the file.
    "a trust domain with capitals": changed("trust_domain: shop.example", "trust_domain: Shop.Example"),
    "a trust domain with its scheme": changed("trust_domain: shop.example", "trust_domain: spiffe://shop.example"),
    "a trust domain in a list": changed("trust_domain: shop.example", "trust_domain: [shop.example]"),
    "databases as a list": changed("  shop: {instance: main,", "  - {instance: main,"),
    "a database without schema": changed(", schema: schema.sql", ""),
    "a database with an absolute schema": changed("schema: schema.sql", "schema: /etc/passwd"),
    "an instance as a path": changed("instance: main", "instance: projects/p/instances/main"),
    "a number as instance": changed("instance: main", "instance: 12"),
    "PostgreSQL": changed("schema: schema.sql", "schema: schema.sql, dialect: postgresql"),
    "an unknown dialect": changed("schema: schema.sql", "schema: schema.sql, dialect: mysql"),
    "a dialect by its nickname": changed("schema: schema.sql", "schema: schema.sql, dialect: pg"),
    "tags of another kind": changed("schema: schema.sql", "schema: schema.sql, tags: replace"),
    "a secure context that is not true": changed("schema: schema.sql", "schema: schema.sql, secure_context: yes"),
    "an alias called roles": changed("  shop: {instance", "  roles: {instance"),
    "an alias with a capital": changed("  shop: {instance", "  Shop: {instance"),
    "an identity with a bad name": changed("  copilot:  {", "  Co_pilot: {"),
    "an identity named by a number": changed("  copilot:  {", "  12: {"),
    "an identity named no": changed("  copilot:  {", "  no: {"),
    "processes without a name": changed("{agent: tools/copilot}", "{unix: {user: copilot}}"),
    "processes as a text": changed("{agent: tools/copilot}", "{agent: tools/copilot, unix: copilot}"),
    "a misspelt selector": changed("{agent: tools/copilot}", "{agent: tools/copilot, unix: {users: copilot}}"),
    "an executable alone": changed("{agent: tools/copilot}", "{agent: tools/copilot, unix: {executable: /bin/x}}"),
    "selectors that nothing can be": changed(
        "{agent: tools/copilot}", "{agent: tools/copilot, unix: {user: a b, group: 65534, executable: bin/../x}}"
    ),
    "a number that is too large": changed("{agent: tools/copilot}", "{agent: a/b, unix: {user: 4294967295}}"),
    "a user that YAML takes for something else": changed("{agent: tools/copilot}", "{agent: a/b, unix: {user: no}}"),
    "two identities that are one process": changed(
        "{agent: tools/copilot}", "{agent: tools/copilot, unix: {user: app, executable: /bin/x}}"
    ).replace("{workload: shop/checkout}", "{workload: shop/checkout, unix: {user: app}}"),
    "an identity without value": changed("copilot:  {agent: tools/copilot}", "copilot:"),
    "an empty identity": changed("{workload: shop/checkout}", "{}"),
    "a workload without namespace": changed("workload: shop/checkout", "workload: checkout"),
    "a workload as a SPIFFE ID": changed("workload: shop/checkout", "workload: spiffe://shop.example/ns/shop/sa/x"),
    "a workload that is also an agent": changed("workload: shop/checkout", "workload: shop/checkout, agent: a/b"),
    # Trust domains.
    "trust domains as a list": domains("[cluster.local]"),
    "no trust domains": domains("{}"),
    "trust domains that are none": domains("{Cluster: {bundle: a.pem}, 'spiffe://a': {bundle: a.pem}}"),
    "a trust domain without bundle": domains("{cluster.local: {aliases: [old.example]}}"),
    "a trust domain without anything": domains("{cluster.local: {}, other: }"),
    "a trust domain with a misspelt key": domains("{cluster.local: {bundel: a.pem}}"),
    "bundles that are no files": domains("{cluster.local: {bundle: /etc/root.pem}, b: {bundle: []}, c: {bundle: [~]}}"),
    "more bundles than anybody has": domains(f"{{b: {{bundle: [{', '.join(['a.pem'] * 9)}]}}}}"),
    "aliases that are none": domains("{shop.example: {aliases: [A, [b]]}}"),
    "aliases that stand for something else": domains(
        "{a: {bundle: a.pem, aliases: [shop.example, b, c, a, c]}, b: {bundle: b.pem, aliases: [c]}}"
    ),
    "trust domains that cannot be kept apart": domains("{under_score: {bundle: a.pem, aliases: [10.0.0.1, .dot]}}"),
    "an unknown trust domain": domains(f"{{{MESH}}}", "{agent: tools/copilot, trust_domain: clusterlocal}"),
    "a trust domain where there are none": changed("tools/copilot", "tools/copilot, trust_domain: cluster.local"),
    "an identity in an alias": domains(f"{{{MESH}}}", "{agent: tools/copilot, trust_domain: old.example}"),
    "an identity in no trust domain": domains(f"{{{MESH}}}", "{agent: tools/copilot, trust_domain: No}"),
    "processes of this machine in a mesh": domains(
        f"{{{MESH}}}", "{agent: tools/copilot, trust_domain: cluster.local, unix: {user: shop}}"
    ),
    "a trust domain and no workload": domains(f"{{{MESH}}}", "{trust_domain: cluster.local}"),
    "one workload with and without the file's trust domain": changed(
        "tools/copilot", "shop/checkout, trust_domain: shop.example"
    ),
    # Access.
    "a misspelt operation": access("      reed: [Orders]\n"),
    "no operation": access("      {}\n"),
    "nothing under a database": access(""),
    "an empty list of tables": access("      read: []\n"),
    "nothing instead of a list": access("      read:\n      insert: [Orders]\n"),
    "a table instead of a list": access("      read: Orders\n"),
    "columns without brackets": access("      {read: Customers(CustomerId, Name)}\n"),
    "things that are no tables": access("      read: [no, 12, ~, '', [a], {a: b}, a: b]\n"),
    "names that are no names": access("      read: [Or-ders, Orders(Or-der), a.b.c, 'Orders(a.b)']\n"),
    "a star for all columns": access("      read: [Orders(*)]\n"),
    "a star for all tables": access("      read: [*]\n"),
    "an unclosed parenthesis": access("      read: [Customers(CustomerId, Name, Orders]\n"),
    "an unclosed parenthesis before another": access("      read: [Customers(Name, Orders(Status)]\n"),
    "an unclosed parenthesis in block style": access("      read:\n        - Customers(Name\n        - Orders\n"),
    "a quoted piece does not go on": access('      read: ["Customers(Name", Email)]\n'),
    "a quoted piece does not continue": access('      read: [Customers(Name, "Email)"]\n'),
    "an unopened parenthesis": access("      read: [Customers CustomerId, Name), Orders]\n"),
    "only a parenthesis": access("      read: [(Name)]\n"),
    "empty parentheses": access("      read: [Customers()]\n"),
    "only a comma in parentheses": access('      read: ["Customers(,)"]\n'),
    "a comma too many": access("      read: [Customers(Name,), Orders]\n"),
    "a comma too few": access("      read: [Customers(Name) Orders, Orders(Status Total)]\n"),
    "delete with columns": access("      delete: [Customers(Name), Orders]\n"),
    # Operations, exceptions, patterns and ends.
    "deny as a list": access("      deny: [Orders]\n"),
    "an empty deny": access("      deny: {}\n"),
    "a deny in a deny": access("      deny: {read: [Orders], deny: {read: [Orders]}}\n"),
    "a deny of all but some": access("      deny: {read: [Orders(* except Total)]}\n"),
    "a switch with tables": access("      ddl: [Orders]\n      schema: Orders\n"),
    "a switch that is off": access("      schema: false\n      ddl: no\n      spanner_sys:\n"),
    "a switch with other keys": access("      schema: {untl: 2026-12-31T18:00Z}\n      ddl: {}\n"),
    "write with columns": access("      write: [Orders(Status)]\n"),
    "partitioned DML with columns": access("      partitioned_dml: [Orders(Status)]\n"),
    "models and queues with columns": access("      {execute: [M(A)], send: [Q(A)], ack: [Q(A)]}\n"),
    "except without star": access("      read: [Orders(except Total)]\n"),
    "a star without except": access("      read: [Orders(* Total), Orders(*, Total), 'Orders(Total, *)']\n"),
    "except without columns": access("      read: [Orders(* except), Customers(* except,)]\n"),
    "except with a column twice": access("      read: [Orders(* except total, Total)]\n"),
    "except that leaves nothing": access("      read: [Orders(* except OrderId, CustomerId, Status, Total)]\n"),
    "a misspelt column after except": access("      read: [Orders(* except Totl)]\n"),
    "a pattern that matches nothing": access("      read: [Odrer*]\n      deny: {write: [Zz*]}\n"),
    "patterns that are none": access("      read: ['a b*', a.b.c*, O-*]\n"),
    "a pattern with a column that one match lacks": access("      read: [Order*(Status)]\n"),
    "an end without quotes around a comma": access(
        "      read: [{on: Orders(Status, Total), until: 2026-12-31T18:00Z}]\n"
    ),
    "an end without what ends": access("      read: [{until: 2026-12-31T18:00Z}]\n"),
    "an entry in braces without end": access("      read: [{on: Orders}]\n"),
    "a misspelt end": access("      read: [{on: Orders, untill: 2026-12-31T18:00Z}]\n"),
    "an end on a list": access("      read: [{on: [Orders], until: 2026-12-31T18:00Z}]\n"),
    "an end on a mapping": access("      read: [{on: {a: b}, until: 2026-12-31T18:00Z}]\n"),
    "ends that are no moments": access(
        "      read: [{on: Orders, until: tomorrow}, {on: Orders, until: 2026-02-30T18:00Z}, {on: Orders, until: }]\n"
        "      ddl: {until: 2026-12-31}\n      schema: {until: [a]}\n"
    ),
    # Views and others.
    "kinds under the wrong word": access(
        "      read: [Jobs, Embed, Ways]\n      update: [OrderTotals]\n      delete: [Numbers]\n"
        "      write: [Numbers, Feed]\n      execute: [Orders, OrderTotals]\n      send: [Orders]\n      ack: [Embed]\n"
    ),
    "a view with columns": access("      read: [OrderTotals(Total), Numbers(* except A)]\n"),
    "misspelt models and queues": access("      execute: [Embde]\n      send: [Jops]\n      ack: [Zzzzz]\n"),
    "a system table": access("      read: [INFORMATION_SCHEMA.TABLES, spanner_sys.Query_Stats]\n"),
    "a pattern never names a view": access("      read: [OrderT*]\n"),
    # Roles.
    "an empty list of roles": access("      read: [Orders]\n    roles: []\n"),
    "roles without a list": access("      read: [Orders]\n    roles: clerk\n"),
    "roles that are none": access(
        "      read: [Orders]\n"
        "    roles: [~, Clerk, [a], 12, {role: a}, {until: 2026-12-31T18:00Z}, {role: a, until: x}]\n"
    ),
    "an unknown role": roles("clerk: {shop: {read: [Orders]}}", "[clrk]"),
    "an unknown role where there are none": access("      read: [Orders]\n    roles: [clerk]\n"),
    "a role twice": roles("clerk: {shop: {read: [Orders]}}", "[clerk, {role: clerk, until: 2026-12-31T18:00Z}]"),
    "a role in a role": roles("clerk: {shop: {read: [Orders]}, roles: [a]}", "[clerk]"),
    "misspelt names in a role": roles("clerk: {shop: {read: [Odrers]}, shopp: {read: [Orders]}}", "[clerk]"),
    "misspelt names in a role that nobody has": roles(
        "clerk: {shop: {read: [Orders]}}\n  unused: {shop: {read: [Orders(Sattus)]}}", "[clerk]"
    ),
    "a role of an unknown identity": changed("  reports:\n    shop:", "  report:\n    roles: [a]\n    shop:"),
    # Names that must exist, once.
    "a misspelt table": access("      read: [Custmers]\n"),
    "a misspelt column": access("      read: [Customers(CustomerId, Nmae)]\n"),
    "a misspelt column in block style": access("      read:\n        - Customers(CustomerId, Nmae)\n"),
    "a misspelt column on its own line": access("      read:\n        - Customers(CustomerId,\n            Nmae)\n"),
    "a misspelt column in quotes": access('      read: ["Customers(CustomerId, Nmae)"]\n'),
    "several misspelt names": access(
        "      read: [Custmers, Orders(Sattus, Totl)]\n      insert: [Zzz, Orders(Zzz)]\n"
    ),
    "more problems than anybody reads": access(f"      read: [{', '.join(f'T{n}' for n in range(70))}]\n"),
    "an index": access("      read: [customersbyemail]\n"),
    "a column twice": access("      read: [Customers(Name, NAME)]\n"),
    "a misspelt identity": changed("  reports:\n    shop:", "  report:\n    shop:"),
    "a misspelt database": changed("  reports:\n    shop:", "  reports:\n    shopp:"),
    "two names for one workload": changed("analytics/reports", "shop/checkout"),
    "a workload and an agent that are one": changed("tools/copilot", "shop/checkout"),
    "two aliases for one database": changed(
        "\nidentities:", "  too: {instance: main, database: shop, schema: schema.sql}\nidentities:"
    ),
}


def answer(text: str) -> str:
    try:
        shop.policy(text, SCHEMA)
    except IntentErrors as error:
        return str(error)
    return "accepted"


def written() -> dict[str, str]:
    sections = GOLDEN.read_text(encoding="utf-8").split("=== ")[1:]
    return {name: body.rstrip("\n") for name, _, body in (section.partition("\n") for section in sections)}


if os.environ.get("SPANGATE_REFRESH"):
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text("\n".join(f"=== {name}\n{answer(text)}\n" for name, text in CASES.items()), encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_a_broken_file_is_answered_with_exactly_these_lines(name: str) -> None:
    assert answer(CASES[name]) == written()[name]


def test_the_golden_file_has_no_section_without_a_case() -> None:
    assert list(written()) == list(CASES)


def test_every_message_names_a_place_in_the_file_and_none_says_accepted() -> None:
    for name, text in written().items():
        for line in text.splitlines():
            assert line.startswith((f"{shop.FILE}:", "  help: ", "and ")), name


def test_every_word_of_a_later_version_is_refused_wherever_a_key_may_stand() -> None:
    for word in LATER_WORDS:
        for text in (
            f"{shop.INTENT}\n{word}: x\n",
            changed("schema: schema.sql", f"schema: schema.sql, {word}: x"),
            changed("workload: shop/checkout", f"workload: shop/checkout, {word}: x"),
            access(f"      read: [Orders]\n      {word}: [Orders]\n"),
        ):
            with pytest.raises(IntentErrors, match=f"`{word}` is not supported by this version yet"):
                parse_intent(text, shop.FILE)


def test_a_file_larger_than_the_limit_is_refused_before_it_is_read() -> None:
    at_limit = shop.INTENT + "#" * (FILE_BYTES_MAX - len(shop.INTENT))
    assert parse_intent(at_limit, shop.FILE) == parse_intent(shop.INTENT, shop.FILE)
    with pytest.raises(IntentErrors, match="larger than 1048576 bytes"):
        parse_intent(at_limit + "#", shop.FILE)


def test_the_size_limit_counts_bytes_not_characters() -> None:
    with pytest.raises(IntentErrors, match="larger than"):
        parse_intent("# " + "é" * (FILE_BYTES_MAX // 2), shop.FILE)


def test_problems_come_in_the_order_of_the_file_and_know_how_many_were_left_out() -> None:
    with pytest.raises(IntentErrors) as caught:
        shop.policy(CASES["more problems than anybody reads"])
    positions = [problem.position for problem in caught.value.problems]
    assert positions == sorted(positions)
    assert (len(positions), caught.value.more) == (PROBLEMS_MAX, 70 - PROBLEMS_MAX)
    assert caught.value.exit_code == 2


def test_a_file_of_countless_keys_is_refused_before_all_of_them_are_read() -> None:
    with pytest.raises(IntentErrors) as caught:
        parse_intent("spangate: v1\n" + "".join(f"k{number:05}: 1\n" for number in range(90_000)), shop.FILE)
    (problem,) = caught.value.problems
    assert problem.message == f"the file holds more than {NODES_MAX} keys, values and lists"
    # The mapping, and two for each line.
    assert problem.position.line == NODES_MAX // 2


def test_no_near_names_are_sought_for_keys_that_are_only_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    sought: list[str] = []
    monkeypatch.setattr(reader, "nearest", lambda name, existing: sought.append(name))
    with pytest.raises(IntentErrors) as caught:
        parse_intent("".join(f"k{number:05}: 1\n" for number in range(3_000)), shop.FILE)
    assert len(caught.value.problems) == PROBLEMS_MAX
    assert len(sought) < PROBLEMS_MAX


def test_problems_of_adapters_render_like_our_own() -> None:
    schema = parse_intent(shop.INTENT, shop.FILE).databases[0].schema
    problem = IntentProblem(schema.position, f"schema file {shown(schema.text)} not found")
    assert str(IntentErrors([problem])) == "spangate.yaml:5:50: schema file `schema.sql` not found"


def test_errors_without_a_problem_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="without a problem"):
        IntentErrors([])


def test_text_from_the_file_can_neither_flood_nor_steer_a_terminal() -> None:
    assert shown("a\x1b[31m\nb") == "`a\\u001b[31m\\u000ab`"
    assert len(shown("x" * 10_000)) < 100


def test_a_help_line_is_indented_below_its_message() -> None:
    assert str(IntentProblem(Position("f", 1, 2), "wrong", "mend it")) == "f:1:2: wrong\n  help: mend it"
