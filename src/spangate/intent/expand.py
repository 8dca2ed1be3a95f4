"""What the entries under `roles` and `access` grant: names found, patterns and roles written out.

Rules: tables and columns compare case-insensitively, as in Spanner, and leave here in the schema's spelling. A pattern
stands for tables (under `execute` for models, under `send` and `ack` for queues), never for views, change streams and
sequences, which have to be named; under `deny` it stands for those too, so that an exception is never narrower than it
looks. A pattern that matches nothing is a problem. What a role gives ends with the role or with the grant, whichever is
earlier.
Not here: databases and identities themselves (check.py), form (grants.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from spangate.intent.errors import Problems, shown
from spangate.intent.tree import AccessEntry, DatabaseEntry, GrantEntry, Intent, RoleUse
from spangate.intent.words import GRANTS_MAX, PATTERN_COMPARISONS_MAX
from spangate.model.access import DATABASE_OPERATIONS, Operation
from spangate.model.policy import Grant, Position
from spangate.model.schema import ObjectKind, Schema, Table

# Operations on tables, and on the columns of tables.
_ON_TABLES = frozenset(
    {Operation.READ, Operation.INSERT, Operation.UPDATE, Operation.DELETE, Operation.PARTITIONED_DML}
)
_ON_COLUMNS = frozenset({Operation.READ, Operation.INSERT, Operation.UPDATE})
# What else an operation can be about.
_OBJECTS_OF: Mapping[Operation, frozenset[ObjectKind]] = {
    Operation.READ: frozenset({ObjectKind.VIEW, ObjectKind.CHANGE_STREAM, ObjectKind.SEQUENCE}),
    Operation.UPDATE: frozenset({ObjectKind.SEQUENCE}),
    Operation.EXECUTE: frozenset({ObjectKind.MODEL}),
    Operation.SEND: frozenset({ObjectKind.QUEUE}),
    Operation.ACK: frozenset({ObjectKind.QUEUE}),
}
# How each kind is granted, for whoever wrote it under another word.
_GRANTED_BY: Mapping[ObjectKind, str] = {
    ObjectKind.VIEW: "grant it by `read`",
    ObjectKind.CHANGE_STREAM: "grant it by `read`",
    ObjectKind.SEQUENCE: "grant it by `read` (its state) or `update` (its next value)",
    ObjectKind.MODEL: "grant it by `execute`",
    ObjectKind.QUEUE: "grant it by `send` or `ack`",
    ObjectKind.GRAPH: "grant the tables behind it",
}
_SYSTEM_SCHEMAS = ("information_schema", "spanner_sys")


def expand(intent: Intent, schemas: Mapping[str, Schema], problems: Problems) -> list[Grant]:
    """Every grant and exception of the intent. What is wrong goes to `problems`."""
    expander = _Expander(intent.databases, schemas, problems)
    by_role: dict[str, list[Grant]] = {role.text: [] for role in intent.roles}
    for entry in intent.role_access:
        by_role[entry.holder.text] += expander.grants(entry)
    _check_holders(intent, problems)
    found: list[Grant] = []
    for grant in _all(intent, expander, by_role, problems):
        if len(found) == GRANTS_MAX:
            problems.add(
                intent.position,
                f"the file makes more than {GRANTS_MAX:,} grants",
                "patterns and roles multiply: give a role to fewer identities, or name fewer tables",
            )
            break
        found.append(grant)
    return found


def _all(
    intent: Intent, expander: _Expander, by_role: Mapping[str, list[Grant]], problems: Problems
) -> Iterator[Grant]:
    for entry in intent.access:
        yield from expander.grants(entry)
    for use in intent.role_uses:
        if use.role.text in by_role:
            yield from _given(use, by_role[use.role.text])
        else:
            help_line = problems.suggest(use.role.text, tuple(by_role), "roles")
            help_line = help_line or (None if by_role else "roles are written under `roles`, beside `access`")
            problems.add(use.role.position, f"unknown role {shown(use.role.text)}", help_line)


def _given(use: RoleUse, grants: Iterable[Grant]) -> Iterator[Grant]:
    for grant in grants:
        yield Grant(
            identity=use.identity.text,
            database=grant.database,
            operation=grant.operation,
            table=grant.table,
            columns=grant.columns,
            every=grant.every,
            deny=grant.deny,
            until=_earlier(use.until, grant.until),
            role=use.role.text,
            text=grant.text,
            position=grant.position,
        )


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return min(one, other)


def _check_holders(intent: Intent, problems: Problems) -> None:
    names = dict.fromkeys(entry.name.text for entry in intent.identities)
    holders = [entry.holder for entry in intent.access] + [use.identity for use in intent.role_uses]
    for holder in dict.fromkeys(holders):
        if holder.text not in names:
            help_line = problems.suggest(holder.text, tuple(names), "identities")
            problems.add(holder.position, f"unknown identity {shown(holder.text)}", help_line)


@dataclass(frozen=True, slots=True)
class _Target:
    """What one name or one match of a pattern stands for. `table` is None for what has no columns."""

    name: str
    table: Table | None


class _Expander:
    """Entries -> grants, with what was matched and found before."""

    def __init__(self, databases: Iterable[DatabaseEntry], schemas: Mapping[str, Schema], problems: Problems) -> None:
        self._databases = {entry.alias.text: entry for entry in databases}
        self._schemas = schemas
        self._problems = problems
        self._matched: dict[tuple[str, Operation, bool, bool, str], list[_Target]] = {}
        self._comparisons = 0
        # Entries that had a problem: `write` has three grants of one, and needs the problem once.
        self._failed: set[Position] = set()

    def grants(self, entry: AccessEntry) -> Iterator[Grant]:
        """The grants of one identity or role in one database. `identity` is the holder's name."""
        alias = entry.database.text
        if alias not in self._databases:
            help_line = self._problems.suggest(alias, tuple(self._databases), "databases")
            self._problems.add(entry.position, f"unknown database {shown(alias)}", help_line)
            return
        for grant in entry.grants:
            if grant.position in self._failed:
                continue
            targets = self._targets(grant, self._databases[alias])
            if targets is None:
                self._failed.add(grant.position)
                continue
            for target in targets:
                columns = self._columns(grant, target)
                if columns is None:
                    self._failed.add(grant.position)
                    break
                yield Grant(
                    identity=entry.holder.text,
                    database=alias,
                    operation=grant.operation,
                    table=target.name,
                    columns=columns,
                    every=grant.columns is None,
                    deny=grant.deny,
                    until=grant.until,
                    text=str(grant),
                    position=grant.position,
                )

    def _targets(self, grant: GrantEntry, database: DatabaseEntry) -> list[_Target] | None:
        """What the entry is about, or None after noting a problem."""
        if grant.operation in DATABASE_OPERATIONS:
            return [_Target("", None)]
        if grant.is_pattern:
            return self._matches(grant, database)
        schema = self._schemas[database.alias.text]
        table = schema.table(grant.table.text)
        if table is not None and grant.operation in _ON_TABLES:
            return [_Target(table.name, table)]
        found = schema.object(grant.table.text)
        fits = found is not None and found.kind in _OBJECTS_OF.get(grant.operation, ())
        if found is not None and fits and grant.key != "write":
            if not _has_columns_written(grant):
                return [_Target(found.name, None)]
            self._problems.add(
                grant.position,
                f"the {found.kind} {shown(found.name)} is granted as a whole, without columns",
                f"write {shown(grant.table.text)}",
            )
        elif table is not None:
            self._problems.add(
                grant.position,
                f"{shown(table.name)} is a table, and `{grant.key}` takes {_taken(grant.operation)}",
                "grant it by `read`, `insert`, `update` or `delete`",
            )
        elif found is not None:
            self._problems.add(
                grant.position,
                f"{shown(found.name)} is a {found.kind}, and `{grant.key}` takes {_taken(grant.operation, grant.key)}",
                _GRANTED_BY[found.kind],
            )
        else:
            self._add_unknown(grant, schema, database)
        return None

    def _add_unknown(self, grant: GrantEntry, schema: Schema, database: DatabaseEntry) -> None:
        word = grant.table
        index = schema.index(word.text)
        first = word.text.lower().partition(".")[0]
        if index is not None:
            self._problems.add(
                word.position,
                f"{shown(word.text)} is an index, not a table",
                f"grant the columns it covers on its table {shown(index.table)}",
            )
        elif first in _SYSTEM_SCHEMAS:
            self._problems.add(
                word.position,
                f"{shown(word.text)} is not granted by its name",
                f"grant all of {first.upper()} with `{first}: true`",
            )
        else:
            kind = _taken(grant.operation).partition(",")[0]
            place = shown(database.alias.text) if database.live else database.schema.text
            names = [target.name for target in _choices(grant.operation, schema)]
            self._problems.add(
                word.position,
                f"unknown {kind.removesuffix('s')} {shown(word.text)}",
                self._problems.suggest(word.text, names, f"{kind} of {place}"),
            )

    def _matches(self, grant: GrantEntry, database: DatabaseEntry) -> list[_Target] | None:
        """What the pattern stands for."""
        wide = grant.deny and not _has_columns_written(grant)
        key = (database.alias.text, grant.operation, wide, grant.deny, grant.table.text.lower())
        if key not in self._matched:
            schema = self._schemas[database.alias.text]
            choices = [
                target
                for target in _choices(grant.operation, schema)
                if wide or grant.operation not in _ON_TABLES or target.table is not None
            ]
            self._comparisons += len(choices)
            if self._comparisons > PATTERN_COMPARISONS_MAX:
                self._problems.add(grant.position, "the patterns of this file are too many for so large a schema")
                return None
            self._matched[key] = [target for target in choices if _fits(key[-1], target.name.lower())]
        found = self._matched[key]
        if not found:
            place = shown(database.alias.text) if database.live else database.schema.text
            kind = _taken(grant.operation).partition(",")[0]
            self._problems.add(
                grant.position,
                f"the pattern {shown(grant.table.text)} matches none of the {kind} of {place}",
                "`*` stands for any run of characters; views, change streams and sequences have to be named",
            )
            return None
        return found

    def _columns(self, grant: GrantEntry, target: _Target) -> frozenset[str] | None:
        """The columns that a grant means, in the schema's spelling, or None after noting a problem."""
        if grant.operation not in _ON_COLUMNS or target.table is None:
            return frozenset()
        table = target.table
        if grant.columns is None and not grant.excepted:
            return table.column_set
        found: set[str] = set()
        good = True
        for word in grant.excepted or grant.columns or ():
            column = table.column(word.text)
            if column is None:
                good = False
                help_line = self._problems.suggest(word.text, table.column_names, "its columns")
                message = f"unknown column {shown(word.text)} in table {shown(table.name)}"
                self._problems.add(word.position, message, help_line)
            elif column.name in found:
                good = False
                self._problems.add(word.position, f"the column {shown(word.text)} stands twice", "take one out")
            else:
                found.add(column.name)
        if good and grant.excepted and len(found) == len(table.columns):
            message = f"all columns of {shown(table.name)} are excepted, so that nothing is left"
            self._problems.add(grant.position, message, "take the entry out")
            return None
        if not good:
            return None
        return table.column_set - found if grant.excepted else frozenset(found)


def _has_columns_written(grant: GrantEntry) -> bool:
    return bool(grant.columns or grant.excepted)


def _choices(operation: Operation, schema: Schema) -> list[_Target]:
    """Everything that the operation can be about."""
    tables = [_Target(table.name, table) for table in schema.tables] if operation in _ON_TABLES else []
    kinds = _OBJECTS_OF.get(operation, frozenset())
    return tables + [_Target(one.name, None) for one in schema.objects if one.kind in kinds]


def _taken(operation: Operation, key: str = "") -> str:
    """What the operation takes, for messages: `tables, views, change streams and sequences`."""
    kinds = ["table"] if operation in _ON_TABLES else []
    if key != "write":
        kinds += [kind.value for kind in ObjectKind if kind in _OBJECTS_OF.get(operation, ())]
    words = [f"{kind}s" for kind in kinds]
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def _fits(pattern: str, name: str) -> bool:
    """Whether `name` is of `pattern`; both in lower case. Takes the first place that fits: no pattern is slow."""
    first, *middle, last = pattern.split("*")
    if not name.startswith(first) or not name.endswith(last) or len(name) < len(first) + len(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
