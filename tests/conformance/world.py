"""The world of the corpus as plain data: what corpus/world.yaml says, in the form that spec/reference.py takes.

Shares no code with src/. The notation of grants and accesses is explained in the corpus itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fakes.reference import reference

Access = reference.Access
Plain = dict[str, Any]

CORPUS = Path(__file__).parent / "corpus"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
# Their tables have no columns to a grant: a row is deleted, queued or computed as a whole.
WHOLE = {"delete", "partitioned_dml", "send", "ack", "execute"}
# Given by Spanner under a policy that is no longer in force.
OLD_VERSION = "fedcba987654"
# A database that the policy does not name; everybody has a session there too, from a policy before.
UNNAMED_DATABASE = "projects/p/instances/i/databases/d"

_GRANT = re.compile(r"(deny )?(\w+)(?: ([\w.]+)(?:\((.*)\))?)?(?: until (\S+))?")
_ACCESS = re.compile(r"(\w+)(?: ([\w.]+)(?:\((.*)\))?)?")


def read_yaml(name: str) -> Any:
    return YAML(typ="safe", pure=True).load((CORPUS / name).read_text(encoding="utf-8"))


def spiffe_id(name: str, trust_domain: str = "shop.example") -> str:
    return f"spiffe://{trust_domain}/ns/corpus/sa/{name}"


def grant_of(text: str, identity: str, alias: str, schema: Mapping[str, Any]) -> Plain:
    """A grant from its notation."""
    match = _GRANT.fullmatch(text)
    assert match is not None, text
    deny, operation, table, inside, until = match.groups()
    # Views and sequences have no columns either.
    known = schema["tables"].get(table, {"columns": []})["columns"] if operation not in WHOLE else []
    columns, every = known, bool(known)
    if inside is not None and inside.startswith("* except "):
        excepted = inside.removeprefix("* except ").split(", ")
        columns = [name for name in known if name not in excepted]
    elif inside is not None:
        columns, every = inside.split(", "), False
    assert set(columns) <= set(known), text
    return {
        "identity": identity,
        "database": alias,
        "operation": operation,
        "table": table or "",
        "columns": sorted(columns),
        "every": every,
        "deny": deny is not None,
        "until": None if until is None else datetime.fromisoformat(until),
    }


def access_of(text: str, schema: Mapping[str, Any]) -> Any:
    """An access from its notation."""
    match = _ACCESS.fullmatch(text)
    assert match is not None, text
    operation, table, inside = match.groups()
    names = [] if inside is None else inside.split(", ")
    every = "*" in names
    columns = set(names) - {"*"}
    if names == ["*"]:
        columns = set(schema["tables"][table]["columns"])
    assert columns <= set(schema["tables"].get(table, {"columns": columns})["columns"]), text
    return Access(operation, table or "", frozenset(columns), every)


def _policy() -> Plain:
    data = read_yaml("world.yaml")
    databases = {
        alias: {
            "path": one["path"],
            "schema": {part: one[part] for part in ("tables", "indexes", "queues")},
            "keep_tags": one.get("keep_tags", False),
            "secure_context": one.get("secure_context", False),
        }
        for alias, one in data["databases"].items()
    }
    grants = [
        grant_of(text, name, alias, databases[alias]["schema"])
        for name, held in data["grants"].items()
        for alias, texts in held.items()
        for text in texts
    ]
    identities = {name: spiffe_id(name) for name in data["grants"]}
    return {
        "version": data["version"],
        "identities": identities,
        "databases": databases,
        "grants": grants,
        "aliases": data["aliases"],
    }


def _statements(policy: Mapping[str, Any]) -> Callable[[str, str], list[Any] | None]:
    table: dict[tuple[str, str], list[Any] | None] = {}
    for entry in read_yaml("statements.yaml"):
        alias = entry.get("in", "shop")
        schema = policy["databases"][alias]["schema"]
        does = entry["does"]
        table[alias, entry["sql"]] = None if does == "unreadable" else [access_of(text, schema) for text in does]

    def accesses(alias: str, sql: str) -> list[Any] | None:
        return table[alias, sql]

    return accesses


def handle(name: str) -> tuple[bytes, Plain]:
    """`h:<identity>:<alias>:<kind>[:old]` -> what Spanner gave out, and the fact about it."""
    _, who, alias, kind, *rest = name.split(":")
    policy = POLICY
    fact = {
        "identity": spiffe_id(who),
        "database": policy["databases"][alias]["path"],
        "kind": kind,
        "policy": OLD_VERSION if rest == ["old"] else policy["version"],
        "raw": name.encode(),
    }
    return name.encode(), fact


POLICY = _policy()
STATEMENTS = _statements(POLICY)


def world(policy: Plain | None = None, **parts: Any) -> Plain:
    """A world in which every identity has its session in every database; `parts` replace."""
    policy = policy or POLICY
    people = [*policy["identities"], "nobody"]
    paths = [*(one["path"] for one in policy["databases"].values()), UNNAMED_DATABASE]
    names = [f"{path}/sessions/s-{name}" for path in paths for name in people]
    sessions = {name: {"identity": spiffe_id(name.rpartition("/s-")[2]), "raw": name} for name in names}
    handles = dict(
        handle(f"h:{name}:{alias}:{kind}{old}")
        for name in people
        for alias in POLICY["databases"]
        for kind in "rwpt"
        for old in ("", ":old")
    )
    return {
        "policy": policy,
        "sessions": sessions,
        "handles": handles,
        "statements": STATEMENTS,
        "forgotten": lambda _value: False,
        **parts,
    }
