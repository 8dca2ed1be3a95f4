"""spec/intent.schema.json, for editors: the parser's words, and its verdict wherever JSON Schema can give it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from fakes import shop
from spangate.intent import IntentErrors, parse_intent
from spangate.intent.editor_schema import intent_json_schema
from spangate.intent.words import (
    DATABASE_KEYS,
    EXAMPLES,
    GOOGLE_KEYS,
    IDENTITY_KEYS,
    IDENTITY_KINDS,
    IMPERSONATE_KEYS,
    OPERATION_KEYS,
    ROOT_KEYS,
    TRUST_DOMAIN_KEYS,
    UNIX_KEYS,
)

FILE = Path(__file__).parents[2] / "spec" / "intent.schema.json"
HEAD = shop.INTENT[: shop.INTENT.index("access:")]

if os.environ.get("SPANGATE_REFRESH"):
    FILE.write_text(json.dumps(intent_json_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def changed(old: str, new: str) -> str:
    assert shop.INTENT.count(old) == 1, old
    return shop.INTENT.replace(old, new)


def access(body: str) -> str:
    return f"{HEAD}access: {{checkout: {{shop: {body}}}}}\n"


def parser_accepts(text: str) -> bool:
    try:
        parse_intent(text, shop.FILE)
    except IntentErrors:
        return False
    return True


def schema_accepts(text: str) -> bool:
    value = YAML(typ="safe", pure=True).load(text)
    return jsonschema.Draft202012Validator(json.loads(FILE.read_text(encoding="utf-8"))).is_valid(value)


GOOGLE = 'google: {project_number: "123456789012", pool: mesh, provider: spangate'
ACCOUNT = "shop-db@my-project.iam.gserviceaccount.com"


BOTH_ACCEPT = [
    shop.INTENT + GOOGLE + "}\n",
    shop.INTENT + GOOGLE + ", subject_token: mtls, scopes: [https://www.googleapis.com/auth/spanner.data]}\n",
    shop.INTENT + GOOGLE + f", impersonate: {{service_account: {ACCOUNT}, delegates: [{ACCOUNT}], lifetime: 10m}}}}\n",
    changed("{workload: shop/checkout}", f"{{workload: shop/checkout, impersonate: {{service_account: {ACCOUNT}}}}}"),
    shop.INTENT,
    HEAD,
    access("{read: [Customers(CustomerId, Name), Orders]}"),
    access('{read: ["Customers(CustomerId, Name)"], delete: [sales.Orders]}'),
    access("{read: [Customers(CustomerId,\n   Name)]}"),
    changed("schema: schema.sql", "schema: ../db/schema.sql, project: 'example.com:p', dialect: googlesql"),
    changed("schema: schema.sql", "schema: live, dialect: postgresql, tags: keep, secure_context: true"),
    access("{write: [Orders], partitioned_dml: [Orders], execute: [M], send: [Q], ack: [Q], schema: true, ddl: true}"),
    access("{information_schema: true, spanner_sys: {until: 2026-12-31T18:00Z}, exclude_from_change_streams: true}"),
    access("{read: [Orders(* except A, B), Order*, sales.*, '*']}"),
    access('{read: [Orders, {on: "Orders(A, B)", until: 2026-12-31T18:00Z}]}'),
    access("{read: [Orders], deny: {write: [Orders], ddl: true}}"),
    changed(
        "databases:", "trust_domains: {a.b: {bundle: r.pem, aliases: [c, d]}, b: {bundle: [x.pem, y.pem]}}\ndatabases:"
    ),
    changed("databases:", "trust_domains: {shop.example: {aliases: old.example}}\ndatabases:"),
    changed("tools/copilot", "tools/copilot, trust_domain: a.b"),
    HEAD + "roles: {clerk: {shop: {read: [Orders]}}}\naccess: {checkout: {roles: [clerk]}}\n",
    HEAD + "roles: {clerk: {shop: {read: [O]}}}\naccess: {a: {roles: [{role: clerk, until: 2026-12-31T18:00Z}]}}\n",
    changed("{agent: tools/copilot}", "{agent: tools/copilot, unix: {user: copilot}}"),
    changed("{agent: tools/copilot}", "{agent: tools/copilot, unix: {user: 1001, group: 'svc.x', executable: /a/b c}}"),
]
BOTH_REJECT = [
    shop.INTENT + GOOGLE + ", subject_token: saml2}\n",
    shop.INTENT + GOOGLE + ", scopes: []}\n",
    shop.INTENT + GOOGLE + ", scopes: [a]}\n",
    shop.INTENT + GOOGLE + ", impersonate: {lifetime: 10m}}\n",
    shop.INTENT + GOOGLE + f", impersonate: {{service_account: {ACCOUNT}, lifetime: 10}}}}\n",
    shop.INTENT + "google: {pool: mesh, provider: spangate}\n",
    shop.INTENT + 'google: {project_number: "0", pool: mesh, provider: spangate}\n',
    changed("{workload: shop/checkout}", f"{{impersonate: {{service_account: {ACCOUNT}}}}}"),
    changed("{agent: tools/copilot}", "{unix: {user: copilot}}"),
    changed("{agent: tools/copilot}", "{agent: tools/copilot, unix: copilot}"),
    changed("{agent: tools/copilot}", "{agent: tools/copilot, unix: {}}"),
    changed("{agent: tools/copilot}", "{agent: tools/copilot, unix: {uid: 1001}}"),
    changed("{agent: tools/copilot}", "{agent: tools/copilot, unix: {user: -1}}"),
    changed("{agent: tools/copilot}", "{agent: tools/copilot, unix: {user: 'a b'}}"),
    changed("{agent: tools/copilot}", "{agent: tools/copilot, unix: {user: [a]}}"),
    changed("{agent: tools/copilot}", "{agent: tools/copilot, unix: {executable: /bin/a}}"),
    changed("{agent: tools/copilot}", "{agent: tools/copilot, unix: {user: a, executable: bin/a}}"),
    "",
    "a",
    "[]",
    "spangate: v1\n",
    changed("spangate: v1", "spangate: v2"),
    changed("spangate: v1", "spangate: 1"),
    changed("spangate: v1", "spangate:"),
    changed("identities:", "identitys:"),
    shop.INTENT + "\ntraffic: []\n",
    changed("trust_domain: shop.example", "trust_domain: Shop.Example"),
    changed("trust_domain: shop.example", "trust_domain: spiffe://shop.example"),
    changed(", schema: schema.sql", ""),
    changed("schema: schema.sql", "schema: /etc/passwd"),
    changed("schema: schema.sql", "schema: schema.sql, dialect: mysql"),
    changed("schema: schema.sql", "schema: schema.sql, tags: drop"),
    changed("schema: schema.sql", "schema: schema.sql, secure_context: false"),
    changed("  shop: {inst", "  roles: {inst"),
    changed("instance: main", "instance: projects/p/instances/main"),
    changed("instance: main", "instance: 12"),
    changed("instance: main", "instance: true"),
    changed("  shop: {inst", "  Shop: {inst"),
    changed("copilot:  {", "Co_pilot:  {"),
    changed("{agent: tools/copilot}", ""),
    changed("{agent: tools/copilot}", "{}"),
    changed("tools/copilot", "copilot"),
    changed("{agent: tools/copilot}", "{agent: tools/copilot, workload: a/b}"),
    changed("{agent: tools/copilot}", "{agent: tools/copilot, until: x}"),
    changed("databases:", "trust_domains: {}\ndatabases:"),
    changed("databases:", "trust_domains: {A: {bundle: r.pem}}\ndatabases:"),
    changed("databases:", "trust_domains: {a: {bundle: /r.pem}}\ndatabases:"),
    changed("databases:", "trust_domains: {a: {bundle: []}}\ndatabases:"),
    changed("databases:", "trust_domains: {a: {bundle: r.pem, aliases: [B]}}\ndatabases:"),
    changed("databases:", "trust_domains: {a: {}}\ndatabases:"),
    changed("agent: tools/copilot", "trust_domain: a.b"),
    changed("tools/copilot", "tools/copilot, trust_domain: A"),
    access("{}"),
    access(""),
    access("{deny: [Orders]}"),
    access("{deny: {deny: {read: [Orders]}}}"),
    access("{ddl: [Orders]}"),
    access("{ddl: false}"),
    access("{ddl: {until: tomorrow}}"),
    access("{read: [{on: Orders}]}"),
    access("{read: [{on: Orders, until: 2026-12-31}]}"),
    HEAD + "roles: {clerk: {roles: [a]}}\n",
    HEAD + "access: {checkout: {roles: []}}\n",
    HEAD + "access: {checkout: {roles: clerk}}\n",
    access("{read: []}"),
    access("{read: Orders}"),
    access("{read: [12]}"),
    access("{read: [true]}"),
    access("{read: [~]}"),
    access("{read: [{a: b}]}"),
    access("{read: [[a]]}"),
    access("{read: [Or-ders]}"),
]
# The schema is looser here; each with its reason.
ONLY_PARSER_REJECTS = {
    "the schema sees pieces of entries, so it cannot pair parentheses": access("{read: [Customers(Name]}"),
    "nor see that a list of columns is empty": access("{read: [Customers()]}"),
    "nor tell delete's entries from read's": access("{delete: [Orders(Status)]}"),
    "nor see a missing comma": access("{read: [Customers(Name) Orders]}"),
    "nor the form of a single name": access("{read: [1a]}"),
    "nor tell a star for columns from one for tables": access('{read: ["Orders(*)"]}'),
    "nor that a moment exists": access("{ddl: {until: 2026-02-30T18:00Z}}"),
    "YAML 1.2 reads `no` as text, older readers as a boolean": access("{read: [no]}"),
    "in a trust domain and a workload, `..` needs more than a pattern": changed("tools/copilot", "tools/.."),
    "in the path of a file, too": changed(
        "{agent: tools/copilot}", "{agent: a/b, unix: {user: a, executable: /a/../b}}"
    ),
    "and some numbers are nobody's": changed("{agent: tools/copilot}", "{agent: a/b, unix: {user: 65534}}"),
    "quotes and backslashes are gone before the schema looks": access('{read: ["Ord\\x65rs"]}'),
    "so are anchors": changed("{agent: tools/copilot}", "&a {agent: tools/copilot}"),
    "and comments": changed("# namespace", "# \u202e"),
}


def test_the_published_file_is_what_the_words_of_the_parser_make() -> None:
    assert json.loads(FILE.read_text(encoding="utf-8")) == intent_json_schema()


def test_it_is_a_schema_of_its_draft() -> None:
    jsonschema.Draft202012Validator.check_schema(intent_json_schema())


def test_its_own_examples_are_accepted_by_itself_and_by_the_parser() -> None:
    examples = intent_json_schema()["examples"]
    assert isinstance(examples, list)
    for example in examples:
        assert schema_accepts(json.dumps(example))
        assert parser_accepts(json.dumps(example))


@pytest.mark.parametrize("text", BOTH_ACCEPT)
def test_what_the_parser_accepts_the_schema_accepts(text: str) -> None:
    assert (parser_accepts(text), schema_accepts(text)) == (True, True)


@pytest.mark.parametrize("text", BOTH_REJECT)
def test_what_is_wrong_in_structure_both_reject(text: str) -> None:
    assert (parser_accepts(text), schema_accepts(text)) == (False, False)


@pytest.mark.parametrize("reason", ONLY_PARSER_REJECTS)
def test_where_the_schema_is_looser_the_reason_is_known(reason: str) -> None:
    text = ONLY_PARSER_REJECTS[reason]
    assert (parser_accepts(text), schema_accepts(text)) == (False, True)


def test_every_key_is_explained() -> None:
    every = (ROOT_KEYS, DATABASE_KEYS, IDENTITY_KEYS, UNIX_KEYS, OPERATION_KEYS, GOOGLE_KEYS, IMPERSONATE_KEYS)
    for keys in (*every, TRUST_DOMAIN_KEYS):
        for key, sentence in keys.items():
            assert sentence.endswith("."), key


def test_the_examples_in_messages_are_good_ones() -> None:
    for key, example in EXAMPLES.items():
        assert example.startswith(f"{key}: ")
    top = "\n".join(EXAMPLES[key] for key in ROOT_KEYS)
    assert parser_accepts(top)
    database = ", ".join(EXAMPLES[key] for key in DATABASE_KEYS)
    for key in TRUST_DOMAIN_KEYS:
        assert parser_accepts(top.replace(EXAMPLES["bundle"], EXAMPLES[key]))
    unix = f"unix: {{{', '.join(EXAMPLES[key] for key in UNIX_KEYS)}}}"
    for key in IDENTITY_KINDS:
        text = top.replace("workload: shop/checkout", f"{EXAMPLES[key]}, {unix}, {EXAMPLES['impersonate']}")
        assert parser_accepts(text.replace("instance: main, database: shop, schema: schema.sql", database))
