"""The canonical form of a checked policy, and its version.

Rules: JSON with sorted keys and no white space; nothing in it depends on order, formatting, comments, roles, patterns
or on how grants are split; everything in it can change a decision at some moment. Two policies with one version decide
every request alike at every moment, and two that do have one version.
Not here: the schema's own fingerprint (model/schema.py), the rule that this follows (decision/rule.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from spangate.model.access import Operation
from spangate.model.identity import SpiffeId
from spangate.model.policy import POLICY_VERSION_HEX_DIGITS, Grant, PolicyDatabase

# Changes when the meaning of the canonical form changes, so that a new meaning never wears an old version.
_FORM = 2
# What never began, and what never ends: with these, an end is always a moment.
_NEVER = datetime.min.replace(tzinfo=UTC)
_ALWAYS = datetime.max.replace(tzinfo=UTC)


def canonical_form(
    trust_domain: str,
    databases: Mapping[str, PolicyDatabase],
    identities: Mapping[str, SpiffeId],
    grants: Iterable[Grant],
) -> str:
    """The policy as one line of JSON; equal exactly for policies that decide alike."""
    content = {
        "form": _FORM,
        "trust_domain": trust_domain,
        "databases": {
            alias: {
                "path": str(database.path),
                "schema": database.schema.fingerprint,
                "keep_tags": database.keep_tags,
                "secure_context": database.secure_context,
            }
            for alias, database in databases.items()
        },
        "identities": {name: str(spiffe_id) for name, spiffe_id in identities.items()},
        "access": _access(grants),
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def policy_version(canonical: str) -> str:
    """The first 12 hex digits of SHA-256 over a canonical form."""
    return hashlib.sha256(canonical.encode()).hexdigest()[:POLICY_VERSION_HEX_DIGITS]


@dataclass(slots=True)
class _Held:
    """Until when an identity holds what on one table by one operation. Moments; _NEVER for what it does not hold."""

    any: datetime = _NEVER
    every: datetime = _NEVER
    columns: dict[str, datetime] = field(default_factory=dict)
    denied_whole: datetime = _NEVER
    denied: dict[str, datetime] = field(default_factory=dict)

    def add(self, grant: Grant) -> None:
        end = grant.until or _ALWAYS
        if grant.deny:
            if grant.every or not grant.columns:
                self.denied_whole = max(self.denied_whole, end)
            for column in grant.columns:
                self.denied[column] = max(self.denied.get(column, _NEVER), end)
            return
        self.any = max(self.any, end)
        if grant.every:
            self.every = max(self.every, end)
        for column in grant.columns:
            self.columns[column] = max(self.columns.get(column, _NEVER), end)

    def content(self, standing: datetime) -> dict[str, object]:
        """What of it can change a decision: an exception hides the grants that end no later than itself, and says
        nothing to who has no `standing` any more."""
        whole = min(self.denied_whole, standing)
        denied = {column: min(end, standing) for column, end in self.denied.items() if min(end, standing) > whole}
        last_denied = max(denied.values(), default=whole)
        columns = {column: end for column, end in self.columns.items() if end > max(whole, denied.get(column, whole))}
        found: dict[str, object] = {}
        for key, end, hidden_by in (
            ("any", self.any, whole),
            ("every", self.every, last_denied),
            ("denied_whole", whole, _NEVER),
        ):
            if end > hidden_by:
                found[key] = _text(end)
        for key, ends in (("columns", columns), ("denied", denied)):
            if ends:
                found[key] = _by_end(ends)
        return found


@dataclass(slots=True)
class _Database:
    """What an identity holds in one database. A grant that an exception hides still gives standing, and lets its holder
    begin partitioned DML."""

    standing: datetime = _NEVER
    partitioned_dml: datetime = _NEVER
    tables: dict[tuple[Operation, str], _Held] = field(default_factory=dict)

    def add(self, grant: Grant) -> None:
        key = (grant.operation, grant.table)
        if key not in self.tables:
            self.tables[key] = _Held()
        self.tables[key].add(grant)
        end = grant.until or _ALWAYS
        if not grant.deny:
            self.standing = max(self.standing, end)
            if grant.operation is Operation.PARTITIONED_DML:
                self.partitioned_dml = max(self.partitioned_dml, end)

    def content(self) -> dict[str, object]:
        found: dict[str, object] = {"standing": _text(self.standing)}
        if self.partitioned_dml > _NEVER:
            found["partitioned_dml"] = _text(self.partitioned_dml)
        tables: dict[str, dict[str, object]] = {}
        for (operation, table), held in self.tables.items():
            content = held.content(self.standing)
            if content:
                tables.setdefault(operation.value, {})[table] = content
        return {**found, "tables": tables}


def _access(grants: Iterable[Grant]) -> dict[str, dict[str, object]]:
    held: dict[tuple[str, str], _Database] = {}
    for grant in grants:
        key = (grant.identity, grant.database)
        if key not in held:
            held[key] = _Database()
        held[key].add(grant)
    found: dict[str, dict[str, object]] = {}
    for (identity, alias), database in held.items():
        if database.standing > _NEVER:
            found.setdefault(identity, {})[alias] = database.content()
    return found


def _by_end(ends: Mapping[str, datetime]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for column in sorted(ends):
        found.setdefault(_text(ends[column]), []).append(column)
    return found


def _text(end: datetime) -> str:
    return "always" if end == _ALWAYS else end.isoformat()
