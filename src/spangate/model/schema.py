"""What a database holds: tables, columns, keys, indexes. The schema gives the names in an intent their meaning.

Names compare case-insensitively, as in Spanner; the spelling of the schema is kept for people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `type` is Spanner's type text in upper case: `STRING(MAX)`, `ARRAY<INT64>`.

    `hidden` columns are not part of `SELECT *`.
    """

    name: str
    type: str
    not_null: bool = False
    generated: bool = False
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """A secondary index: reading it reads `key` and `storing` of its table."""

    name: str
    table: str
    key: tuple[str, ...]
    storing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table. `name` may carry a named schema: `sales.Orders`. `primary_key` are column names in key order."""

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    parent: str | None = None

    @cached_property
    def _by_name(self) -> Mapping[str, Column]:
        return {column.name.lower(): column for column in self.columns}

    def column(self, name: str) -> Column | None:
        """The column of that name in any case, or None."""
        return self._by_name.get(name.lower())

    @property
    def column_names(self) -> tuple[str, ...]:
        """All columns, spelled and ordered as in the schema."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def column_set(self) -> frozenset[str]:
        """The same, one value for all grants on the whole table."""
        return frozenset(self.column_names)


class Dialect(StrEnum):
    """A database's SQL, by the names of google.spanner.admin.database.v1.DatabaseDialect in lower case."""

    GOOGLESQL = "googlesql"
    POSTGRESQL = "postgresql"


class ObjectKind(StrEnum):
    """What a schema holds besides tables and indexes that can be granted or read."""

    VIEW = "view"
    CHANGE_STREAM = "change stream"
    SEQUENCE = "sequence"
    MODEL = "model"
    QUEUE = "queue"
    GRAPH = "property graph"


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """A named thing that is no table. `definition` is its own DDL statement, without comments, as it stands.

    `definer` is set for a view with definer's rights: whoever may read the view need not read what is behind it.
    """

    kind: ObjectKind
    name: str
    definition: str
    definer: bool = False


@dataclass(frozen=True)
class Schema:
    """The tables, indexes and other objects of one database."""

    tables: tuple[Table, ...]
    indexes: tuple[Index, ...] = ()
    objects: tuple[SchemaObject, ...] = ()
    dialect: Dialect = Dialect.GOOGLESQL
    # Functions that the schema defines, in lower case, sorted. One may hide a built-in and do more than its name says.
    functions: tuple[str, ...] = ()
    # Every statement in order, without semicolon and comments, so that `up` can create the database from them.
    statements: tuple[str, ...] = field(default=(), compare=False)

    @cached_property
    def _tables(self) -> Mapping[str, Table]:
        return {table.name.lower(): table for table in self.tables}

    @cached_property
    def _indexes(self) -> Mapping[str, Index]:
        return {index.name.lower(): index for index in self.indexes}

    def table(self, name: str) -> Table | None:
        """The table of that name in any case, or None."""
        return self._tables.get(name.lower())

    @cached_property
    def _objects(self) -> Mapping[str, SchemaObject]:
        return {one.name.lower(): one for one in self.objects}

    def object(self, name: str) -> SchemaObject | None:
        """The view, change stream, sequence, model, queue or graph of that name in any case, or None."""
        return self._objects.get(name.lower())

    def index(self, name: str) -> Index | None:
        """The index of that name in any case, or None."""
        return self._indexes.get(name.lower())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex over everything a decision can rest on; part of the policy version."""
        content = {
            "tables": [
                [
                    t.name,
                    [[c.name, c.type, c.not_null, c.generated, c.hidden] for c in t.columns],
                    t.primary_key,
                    t.parent,
                ]
                for t in sorted(self.tables, key=lambda t: t.name)
            ],
            "indexes": [[i.name, i.table, i.key, i.storing] for i in sorted(self.indexes, key=lambda i: i.name)],
            "objects": sorted([o.kind, o.name, o.definition, o.definer] for o in self.objects),
            "functions": self.functions,
            "dialect": self.dialect,
        }
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
