"""The JSON Schema of the intent file, for editors: completion, explanations and red lines while typing.

Rules: built from words.py only, so that it knows exactly the words the parser knows; it accepts every file the parser
accepts. It is looser where JSON Schema cannot follow: a YAML reader hands it `[Customers(CustomerId, Name)]` as two
texts, `Customers(CustomerId` and `Name)`, and it never sees duplicate keys, aliases or comments.
spec/intent.schema.json is this value; tests/unit/test_intent_schema.py holds the two together.
Not here: the real reading (parse.py) and the names' meaning (check.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from spangate.intent.words import (
    ALIAS,
    ALIASES_MAX,
    BUNDLE_FILES_MAX,
    DATABASE_KEYS,
    DATABASE_KEYS_REQUIRED,
    DEFAULT_PROJECT,
    DELEGATES_MAX,
    DENY_KEY,
    DIALECT,
    DIALECTS,
    EXECUTABLE_KEY,
    FORMAT_VERSION,
    GOOGLE_KEYS,
    GOOGLE_KEYS_REQUIRED,
    GROUP_KEY,
    IDENTITY_KEYS,
    IDENTITY_KINDS,
    IDENTITY_NAME,
    IMPERSONATE_KEYS,
    IMPERSONATE_KEYS_REQUIRED,
    ITEM_KEYS,
    LIFETIME,
    MOMENT,
    OPERATION_KEYS,
    ROLE_USE_KEYS,
    ROLES_KEY,
    ROLES_OF_IDENTITY,
    ROOT_KEYS,
    ROOT_KEYS_REQUIRED,
    SCHEMA_FILE_CHARACTERS_MAX,
    SCOPE,
    SCOPES_MAX,
    SUBJECT_TOKENS,
    SWITCH_KEYS,
    TAGS_KEEP,
    TRUST_DOMAIN_KEYS,
    UNIX_KEY,
    UNIX_KEYS,
    UNTIL_KEY,
    USER_KEY,
    VERB_KEYS,
)
from spangate.model.google import POOL, PROJECT_NUMBER, SERVICE_ACCOUNT
from spangate.model.unix import ACCOUNT_CHARACTERS_MAX, PATH_BYTES_MAX

Json = dict[str, object]

_RESOURCE: Json = {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"}
_SERVICE_ACCOUNT: Json = {
    "type": "string",
    "pattern": "^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$",
    "examples": ["shop/checkout"],
}
# A whole entry or, in a flow list, a piece of one.
_TABLE_PIECE: Json = {"type": "string", "pattern": r"^[A-Za-z0-9_.*(),\s]+$"}
_MOMENT: Json = {"type": "string", "pattern": f"^{MOMENT}$", "examples": ["2026-12-31T18:00Z"]}
_ACCOUNT = rf"^([A-Za-z_][A-Za-z0-9._-]{{0,{ACCOUNT_CHARACTERS_MAX - 1}}}|0|[1-9][0-9]{{0,9}})$"
_ROLE: Json = {"type": "string", "pattern": f"^{IDENTITY_NAME}$"}
_TRUST_DOMAIN = "[a-z0-9._-]{1,255}"
_FILE: Json = {"type": "string", "pattern": r"^[^/~\\][^\\]*$", "maxLength": SCHEMA_FILE_CHARACTERS_MAX}


def intent_json_schema() -> Json:
    """The schema as plain values, draft 2020-12."""
    root: dict[str, Json] = {
        "spangate": {"const": FORMAT_VERSION},
        "trust_domain": _trust_domain("shop.example"),
        "trust_domains": _named(_TRUST_DOMAIN, _trust_domain_entry()),
        "databases": _named(rf"(?!{ROLES_KEY}$){ALIAS}", _database()),
        "identities": _named(IDENTITY_NAME, _identity()),
        "roles": _named(IDENTITY_NAME, _named(ALIAS, _operations())),
        "access": _named(IDENTITY_NAME, _holdings()),
        "google": _google(),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Spangate intent file",
        "description": "Who may do what in which Spanner database. Default is deny, `deny` always wins, order never "
        "matters.",
        **_record(ROOT_KEYS, ROOT_KEYS_REQUIRED, root),
        "examples": [_example()],
    }


def _database() -> Json:
    parts: dict[str, Json] = {
        "instance": {**_RESOURCE, "examples": ["main"]},
        "database": {**_RESOURCE, "examples": ["shop"]},
        "schema": {**_FILE, "examples": ["schema.sql"]},
        "project": {**_RESOURCE, "default": DEFAULT_PROJECT},
        "dialect": {"enum": list(DIALECTS), "default": DIALECT},
        "tags": {"const": TAGS_KEEP},
        "secure_context": {"const": True},
    }
    return _record(DATABASE_KEYS, DATABASE_KEYS_REQUIRED, parts)


def _identity() -> Json:
    account: Json = {"anyOf": [{"type": "string", "pattern": _ACCOUNT}, {"type": "integer", "minimum": 0}]}
    executable: Json = {"type": "string", "pattern": "^/", "maxLength": PATH_BYTES_MAX}
    unix = _record(UNIX_KEYS, (), {USER_KEY: account, GROUP_KEY: account, EXECUTABLE_KEY: executable})
    needed: Json = {"anyOf": [{"required": [USER_KEY]}, {"required": [GROUP_KEY]}]}
    parts: dict[str, Json] = {**dict.fromkeys(IDENTITY_KINDS, _SERVICE_ACCOUNT), UNIX_KEY: {**unix, **needed}}
    parts["trust_domain"] = _trust_domain("cluster.local")
    parts |= {"impersonate": _impersonate()}
    return {**_record(IDENTITY_KEYS, (), parts), "oneOf": [{"required": [kind]} for kind in IDENTITY_KINDS]}


def _google() -> Json:
    parts: dict[str, Json] = {
        "project_number": {"type": "string", "pattern": f"^{PROJECT_NUMBER}$", "examples": ["123456789012"]},
        "pool": {"type": "string", "pattern": f"^{POOL}$", "examples": ["mesh"]},
        "provider": {"type": "string", "pattern": f"^{POOL}$", "examples": ["spangate"]},
        "subject_token": {"enum": list(SUBJECT_TOKENS), "default": SUBJECT_TOKENS[0]},
        "scopes": _texts(SCOPE, SCOPES_MAX),
        "impersonate": _impersonate(),
    }
    return _record(GOOGLE_KEYS, GOOGLE_KEYS_REQUIRED, parts)


def _impersonate() -> Json:
    parts: dict[str, Json] = {
        "service_account": {"type": "string", "pattern": f"^{SERVICE_ACCOUNT}$"},
        "delegates": _texts(SERVICE_ACCOUNT, DELEGATES_MAX),
        "lifetime": {"type": "string", "pattern": f"^{LIFETIME}$", "examples": ["10m"], "default": "1h"},
    }
    return _record(IMPERSONATE_KEYS, IMPERSONATE_KEYS_REQUIRED, parts)


def _texts(pattern: str, items_max: int) -> Json:
    item = {"type": "string", "pattern": f"^{pattern}$"}
    return {"type": "array", "minItems": 1, "maxItems": items_max, "uniqueItems": True, "items": item}


def _trust_domain(example: str) -> Json:
    return {"type": "string", "pattern": f"^{_TRUST_DOMAIN}$", "examples": [example]}


def _trust_domain_entry() -> Json:
    name = _trust_domain("old.example")
    parts = {
        "bundle": _one_or_more({**_FILE, "examples": ["istio/root-cert.pem"]}, BUNDLE_FILES_MAX),
        "aliases": _one_or_more(name, ALIASES_MAX),
    }
    return _record(TRUST_DOMAIN_KEYS, (), parts)


def _one_or_more(value: Json, count_max: int) -> Json:
    return {"anyOf": [value, {"type": "array", "minItems": 1, "maxItems": count_max, "items": value}]}


def _holdings() -> Json:
    """What an identity holds: databases, and its roles."""
    use = _record(ROLE_USE_KEYS, tuple(ROLE_USE_KEYS), {"role": _ROLE, "until": _MOMENT})
    roles: Json = {"type": "array", "minItems": 1, "items": {"anyOf": [_ROLE, use]}, "description": ROLES_OF_IDENTITY}
    return {**_named(ALIAS, _operations()), "properties": {ROLES_KEY: roles}}


def _operations() -> Json:
    item = _record(ITEM_KEYS, tuple(ITEM_KEYS), {"on": _TABLE_PIECE, "until": _MOMENT})
    tables: Json = {"type": "array", "minItems": 1, "items": {"anyOf": [_TABLE_PIECE, item]}}
    ending = _record({UNTIL_KEY: ITEM_KEYS[UNTIL_KEY]}, (UNTIL_KEY,), {UNTIL_KEY: _MOMENT})
    parts: dict[str, Json] = {key: {**tables, "examples": [["Orders"]]} for key in VERB_KEYS}
    parts |= {key: {"anyOf": [{"const": True}, ending]} for key in SWITCH_KEYS}
    words = {key: text for key, text in OPERATION_KEYS.items() if key != DENY_KEY}
    return _record(OPERATION_KEYS, (), {**parts, DENY_KEY: _record(words, (), parts)})


def _record(keys: Mapping[str, str], required: tuple[str, ...], parts: Mapping[str, Json]) -> Json:
    """A mapping with exactly these keys, each explained."""
    return {
        "type": "object",
        "properties": {key: {"description": keys[key], **parts[key]} for key in keys},
        "required": list(required),
        "minProperties": 1,
        "additionalProperties": False,
    }


def _named(name: str, value: Json) -> Json:
    """A mapping whose keys the author chooses."""
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^{name}$"},
        "additionalProperties": value,
        "minProperties": 1,
    }


def _example() -> Json:
    return {
        "spangate": FORMAT_VERSION,
        "trust_domain": "shop.example",
        "databases": {"shop": {"instance": "main", "database": "shop", "schema": "schema.sql"}},
        "identities": {"checkout": {"workload": "shop/checkout"}},
        "access": {"checkout": {"shop": {"read": ["Customers(CustomerId, Name)", "Orders"], "insert": ["Orders"]}}},
    }
