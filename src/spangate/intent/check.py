"""Syntax tree + schemas -> checked policy.

Rules: every name is looked up; all that are unknown are problems of one run, each with the nearest name that exists.
No two identity names share a SPIFFE ID and no two aliases a database, so that a request belongs to one name only. A
schema has the dialect that the intent says.
Not here: form (parse.py), what the entries under `roles` and `access` grant (expand.py), reading schema files
(adapters/) and their DDL (sql/).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from spangate.errors import Broken
from spangate.intent.canonical import canonical_form, policy_version
from spangate.intent.errors import Problems, shown
from spangate.intent.expand import expand
from spangate.intent.google import impersonations
from spangate.intent.tree import DatabaseEntry, IdentityEntry, Intent, Word
from spangate.intent.trust_domains import check_trust_domains, trust_domain_of
from spangate.intent.unix import check_unix
from spangate.model.database import DatabasePath
from spangate.model.identity import BadSpiffeId, SpiffeId
from spangate.model.policy import Grant, Policy, PolicyDatabase
from spangate.model.schema import Schema
from spangate.model.unix import UnixSelectors


def check_intent(intent: Intent, schemas: Mapping[str, Schema]) -> Policy:
    """The policy that `intent` means. `schemas` holds a schema for every alias of it, or this raises Broken.

    Raises IntentErrors with every unknown name and every name that stands for what another one stands for.
    """
    for entry in intent.databases:
        if entry.alias.text not in schemas:
            raise Broken(f"no schema was given for the database {shown(entry.alias.text)}")
    problems = Problems()
    databases = _databases(intent.databases, schemas, problems)
    trust_domains = check_trust_domains(intent, problems)
    identities = _identities(intent, problems)
    check_unix(intent.identities, problems)
    grants = expand(intent, schemas, problems)
    google = intent.google.federation if intent.google else None
    impersonated = impersonations(intent, identities, problems)
    problems.raise_if_any()
    ordered = _ordered(grants)
    canonical = canonical_form(
        intent.trust_domain.text, databases, identities, ordered, google, impersonated, trust_domains
    )
    return Policy(
        trust_domain=intent.trust_domain.text,
        databases=databases,
        identities=identities,
        grants=ordered,
        canonical=canonical,
        version=policy_version(canonical),
        google=google,
        impersonations=impersonated,
        trust_domains=trust_domains,
    )


def unix_selectors(intent: Intent) -> Mapping[SpiffeId, UnixSelectors]:
    """Which processes each identity is, for those that say so. Raises IntentErrors.

    It needs no schema, and changes no decision: it is not part of the policy, nor of its version.
    """
    problems = Problems()
    identities = _identities(intent, problems)
    selectors = check_unix(intent.identities, problems)
    problems.raise_if_any()
    return {identities[name]: found for name, found in selectors.items()}


def _ordered(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """By meaning first: the order in the file never decides which grant a decision names."""
    # With patterns and roles, thousands of grants share one set of columns.
    sorted_columns: dict[frozenset[str], tuple[str, ...]] = {}

    def order(grant: Grant) -> tuple[object, ...]:
        columns = sorted_columns.get(grant.columns)
        if columns is None:
            columns = sorted_columns[grant.columns] = tuple(sorted(grant.columns))
        return (
            grant.identity,
            grant.database,
            grant.operation.value,
            grant.table,
            grant.deny,
            columns,
            grant.until is None,
            grant.until or datetime.min.replace(tzinfo=UTC),
            grant.role or "",
            grant.position,
        )

    return tuple(sorted(grants, key=order))


def _databases(
    entries: tuple[DatabaseEntry, ...], schemas: Mapping[str, Schema], problems: Problems
) -> dict[str, PolicyDatabase]:
    found: dict[str, PolicyDatabase] = {}
    first: dict[DatabasePath, Word] = {}
    for entry in entries:
        alias = entry.alias.text
        path = DatabasePath(entry.project.text, entry.instance.text, entry.database.text)
        if path in first:
            problems.add(
                entry.position,
                f"{shown(alias)} is the same database as {shown(first[path].text)}: {path}",
                f"keep one of them; the other stands at {first[path].position}",
            )
        first.setdefault(path, entry.alias)
        _check_dialect(entry, schemas[alias], problems)
        found[alias] = PolicyDatabase(
            alias, path, schemas[alias], entry.schema.text, entry.keep_tags, entry.secure_context
        )
    return found


def _check_dialect(entry: DatabaseEntry, schema: Schema, problems: Problems) -> None:
    if schema.dialect is not entry.dialect:
        problems.add(
            entry.dialect_position,
            f"the schema of {shown(entry.alias.text)} is in the dialect {shown(schema.dialect)}, not "
            f"{shown(entry.dialect)}",
            f"write `dialect: {schema.dialect}` if the schema is right",
        )


def _identities(intent: Intent, problems: Problems) -> dict[str, SpiffeId]:
    found: dict[str, SpiffeId] = {}
    first: dict[SpiffeId, Word] = {}
    for entry in intent.identities:
        trust_domain = trust_domain_of(intent, entry, problems)
        spiffe_id = _spiffe_id(trust_domain, entry, problems) if trust_domain is not None else None
        if spiffe_id is None:
            continue
        if spiffe_id in first:
            problems.add(
                entry.position,
                f"{shown(entry.name.text)} is the same identity as {shown(first[spiffe_id].text)}: {spiffe_id}",
                f"keep one of them; the other stands at {first[spiffe_id].position}",
            )
        first.setdefault(spiffe_id, entry.name)
        found[entry.name.text] = spiffe_id
    return found


def _spiffe_id(trust_domain: Word, entry: IdentityEntry, problems: Problems) -> SpiffeId | None:
    made = SpiffeId.workload(trust_domain.text, entry.namespace.text, entry.service_account.text)
    try:
        return SpiffeId.parse(str(made))  # the parts are right one by one; this limits them together
    except BadSpiffeId as error:
        problems.add(entry.namespace.position, f"the SPIFFE ID of {shown(entry.name.text)} is {error}")
        return None
