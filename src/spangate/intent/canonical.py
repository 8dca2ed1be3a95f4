"""The canonical form of a checked policy, and its version.

Rules: JSON with sorted keys and no white space; nothing in it depends on order, formatting, comments, roles, patterns
or on how grants are split; everything in it can change a decision at some moment, or whose token a request gets. Two
policies with one version decide every request alike at every moment, with tokens from one place, and two that do have
one version.
Not here: the schema's own fingerprint (model/schema.py), the rule that this follows (decision/rule.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType

from spangate.model.access import Operation
from spangate.model.google import GoogleFederation, Impersonation
from spangate.model.identity import SpiffeId
from spangate.model.policy import POLICY_VERSION_HEX_DIGITS, Grant, PolicyDatabase, TrustDomain

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
    google: GoogleFederation | None = None,
    impersonations: Mapping[str, Impersonation] = MappingProxyType({}),
    trust_domains: Iterable[TrustDomain] = (),
) -> str:
    """The policy as one line of JSON; equal exactly for policies that decide alike.

    Which roots a trust domain has is not in it: who a peer is has been settled before anything is decided.
    """
    content: dict[str, object] = {
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
    if google is not None:
        content["google"] = {
            "audience": google.audience,
            "subject_token": google.subject_token.value,
            "scopes": sorted(google.scopes),
            "impersonation": _impersonation(google.impersonation),
            "impersonations": {name: _impersonation(one) for name, one in impersonations.items()},
        }
    # Left out where there are none, so that the versions of all other policies stay what they are.
    aliases = {alias: domain.name for domain in trust_domains for alias in domain.aliases}
    if aliases:
        content["aliases"] = aliases
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def _impersonation(one: Impersonation | None) -> object:
    return None if one is None else [one.service_account, list(one.delegates), one.lifetime_seconds]


def policy_version(canonical: str) -> str:
    """The first 12 hex digits of SHA-256 over a canonical form."""
    return hashlib.sha256(canonical.encode()).hexdigest()[:POLICY_VERSION_HEX_DIGITS]


# What one grant gives or one exception takes on one table, apart from which: columns, every, deny, until.
_Term = tuple[frozenset[str], bool, bool, datetime | None]
_Content = dict[str, object]


@dataclass(slots=True)
class _Database:
    """What an identity holds in one database. A grant that an exception hides still gives standing, and lets its holder
    begin partitioned DML."""

    standing: datetime = _NEVER
    partitioned_dml: datetime = _NEVER
    terms: dict[tuple[Operation, str], set[_Term]] = field(default_factory=dict)

    def add(self, grant: Grant) -> None:
        self.terms.setdefault((grant.operation, grant.table), set()).add(
            (grant.columns, grant.every, grant.deny, grant.until)
        )
        if not grant.deny:
            end = grant.until or _ALWAYS
            self.standing = max(self.standing, end)
            if grant.operation is Operation.PARTITIONED_DML:
                self.partitioned_dml = max(self.partitioned_dml, end)

    def content(self, known: dict[tuple[frozenset[_Term], datetime], _Content]) -> _Content:
        """`known` are contents made before: with patterns and roles, thousands of tables are held in the same way."""
        found: _Content = {"standing": _text(self.standing)}
        if self.partitioned_dml > _NEVER:
            found["partitioned_dml"] = _text(self.partitioned_dml)
        tables: dict[str, _Content] = {}
        for (operation, table), terms in self.terms.items():
            key = (frozenset(terms), self.standing)
            if key not in known:
                known[key] = _content(terms, self.standing)
            if known[key]:
                tables.setdefault(operation.value, {})[table] = known[key]
        return {**found, "tables": tables}


def _content(terms: Iterable[_Term], standing: datetime) -> _Content:
    """What of the terms on one table can change a decision: an exception hides the grants that end no later than
    itself, and says nothing to who has no `standing` any more."""
    some = every = whole = _NEVER
    columns: dict[str, datetime] = {}
    denied: dict[str, datetime] = {}
    for names, has_every, deny, until in terms:
        end = min(until or _ALWAYS, standing)
        ends = denied if deny else columns
        for name in names:
            ends[name] = max(ends.get(name, _NEVER), end)
        if deny:
            whole = max(whole, end) if has_every or not names else whole
        else:
            some = max(some, end)
            every = max(every, end) if has_every else every
    denied = {name: end for name, end in denied.items() if end > whole}
    columns = {name: end for name, end in columns.items() if end > max(whole, denied.get(name, whole))}
    found: _Content = {}
    for key, end, hidden_by in (
        ("any", some, whole),
        ("every", every, max(denied.values(), default=whole)),
        ("denied_whole", whole, _NEVER),
    ):
        if end > hidden_by:
            found[key] = _text(end)
    for key, ends in (("columns", columns), ("denied", denied)):
        if ends:
            found[key] = _by_end(ends)
    return found


def _access(grants: Iterable[Grant]) -> dict[str, dict[str, _Content]]:
    held: dict[tuple[str, str], _Database] = {}
    for grant in grants:
        key = (grant.identity, grant.database)
        if key not in held:
            held[key] = _Database()
        held[key].add(grant)
    known: dict[tuple[frozenset[_Term], datetime], _Content] = {}
    found: dict[str, dict[str, _Content]] = {}
    for (identity, alias), database in held.items():
        if database.standing > _NEVER:
            found.setdefault(identity, {})[alias] = database.content(known)
    return found


def _by_end(ends: Mapping[str, datetime]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for column in sorted(ends):
        found.setdefault(_text(ends[column]), []).append(column)
    return found


def _text(end: datetime) -> str:
    return "always" if end == _ALWAYS else end.isoformat()
