"""Syntax tree + schemas -> checked policy.

Rules: every name is looked up; all that are unknown are problems of one run, each with the nearest name that exists.
Tables and columns compare case-insensitively, as in Spanner, and leave here in the schema's spelling. No two identity
names share a SPIFFE ID and no two aliases a database, so that a request belongs to one name only.
Not here: form (parse.py), reading schema files (adapters/) and their DDL (sql/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from spangate.errors import Broken
from spangate.intent.canonical import canonical_form, policy_version
from spangate.intent.errors import Problems, shown
from spangate.intent.tree import AccessEntry, DatabaseEntry, GrantEntry, IdentityEntry, Intent, Word
from spangate.model.access import Operation
from spangate.model.database import DatabasePath
from spangate.model.identity import BadSpiffeId, SpiffeId
from spangate.model.policy import Grant, Policy, PolicyDatabase, Position
from spangate.model.schema import Schema, Table


def check_intent(intent: Intent, schemas: Mapping[str, Schema]) -> Policy:
    """The policy that `intent` means. `schemas` holds a schema for every alias of it, or this raises Broken.

    Raises IntentErrors with every unknown name and every name that stands for what another one stands for.
    """
    for entry in intent.databases:
        if entry.alias.text not in schemas:
            raise Broken(f"no schema was given for the database {shown(entry.alias.text)}")
    problems = Problems()
    databases = _databases(intent.databases, schemas, problems)
    identities = _identities(intent, problems)
    grants = tuple(_grants(intent, schemas, problems))
    problems.raise_if_any()
    ordered = tuple(sorted(grants, key=_order))
    canonical = canonical_form(intent.trust_domain.text, databases, identities, ordered)
    return Policy(
        trust_domain=intent.trust_domain.text,
        databases=databases,
        identities=identities,
        grants=ordered,
        canonical=canonical,
        version=policy_version(canonical),
    )


def _order(grant: Grant) -> tuple[str, str, str, str, tuple[str, ...], Position]:
    """By meaning first: the order in the file never decides which grant a decision names."""
    return (
        grant.identity,
        grant.database,
        grant.operation.value,
        grant.table,
        tuple(sorted(grant.columns)),
        grant.position,
    )


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
        found[alias] = PolicyDatabase(alias, path, schemas[alias], entry.schema.text)
    return found


def _identities(intent: Intent, problems: Problems) -> dict[str, SpiffeId]:
    found: dict[str, SpiffeId] = {}
    first: dict[SpiffeId, Word] = {}
    for entry in intent.identities:
        spiffe_id = _spiffe_id(intent.trust_domain, entry, problems)
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


def _grants(intent: Intent, schemas: Mapping[str, Schema], problems: Problems) -> Iterator[Grant]:
    names = {entry.name.text: entry for entry in intent.identities}
    files = {entry.alias.text: entry.schema.text for entry in intent.databases}
    for identity in dict.fromkeys(entry.identity for entry in intent.access):
        if identity.text not in names:
            help_line = problems.suggest(identity.text, tuple(names), "identities")
            problems.add(identity.position, f"unknown identity {shown(identity.text)}", help_line)
    for entry in intent.access:
        if entry.database.text not in files:
            help_line = problems.suggest(entry.database.text, tuple(files), "databases")
            problems.add(entry.position, f"unknown database {shown(entry.database.text)}", help_line)
            continue
        alias = entry.database.text
        for grant in entry.grants:
            yield from _grant(entry, grant, schemas[alias], files[alias], problems)


def _grant(
    entry: AccessEntry, grant: GrantEntry, schema: Schema, schema_file: str, problems: Problems
) -> Iterator[Grant]:
    table = schema.table(grant.table.text)
    if table is None:
        _add_unknown_table(grant.table, schema, schema_file, problems)
        return
    columns = _columns(grant, table, problems)
    if columns is not None:
        yield Grant(
            identity=entry.identity.text,
            database=entry.database.text,
            operation=grant.operation,
            table=table.name,
            columns=columns,
            text=str(grant),
            position=grant.position,
        )


def _add_unknown_table(word: Word, schema: Schema, schema_file: str, problems: Problems) -> None:
    index = schema.index(word.text)
    if index is not None:
        problems.add(
            word.position,
            f"{shown(word.text)} is an index, not a table",
            f"grant the columns it covers on its table {shown(index.table)}",
        )
        return
    help_line = problems.suggest(word.text, tuple(table.name for table in schema.tables), f"tables of {schema_file}")
    problems.add(word.position, f"unknown table {shown(word.text)}", help_line)


def _columns(grant: GrantEntry, table: Table, problems: Problems) -> frozenset[str] | None:
    """The columns that a grant means, in the schema's spelling, or None after noting a problem."""
    if grant.operation is Operation.DELETE:
        return frozenset()
    if grant.columns is None:
        return frozenset(table.column_names)
    found: set[str] = set()
    good = True
    for word in grant.columns:
        column = table.column(word.text)
        if column is None:
            good = False
            help_line = problems.suggest(word.text, table.column_names, "its columns")
            problems.add(word.position, f"unknown column {shown(word.text)} in table {shown(table.name)}", help_line)
        elif column.name in found:
            good = False
            problems.add(word.position, f"the column {shown(word.text)} stands twice", "take one out")
        else:
            found.add(column.name)
    return frozenset(found) if good else None
