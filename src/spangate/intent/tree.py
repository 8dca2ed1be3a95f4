"""The syntax tree of an intent file: what was written, and where, before any name has been looked up.

Rules: every node has a position; nothing is normalised except white space; a tree of this form may still name tables
that do not exist.
Not here: reading text (parse.py), meaning (check.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from spangate.model.access import Operation
from spangate.model.policy import Position


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the file and where its first character stands."""

    text: str
    position: Position

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class DatabaseEntry:
    """`shop: {instance: main, database: shop, schema: schema.sql}`. `schema` is a path relative to this file.

    `project` carries the position of `alias` where the file leaves it to the default.
    """

    alias: Word
    project: Word
    instance: Word
    database: Word
    schema: Word

    @property
    def position(self) -> Position:
        """Where the alias stands."""
        return self.alias.position


@dataclass(frozen=True, slots=True)
class IdentityEntry:
    """`checkout: {workload: shop/checkout}`. `kind` is the key it was written under: `workload` or `agent`."""

    name: Word
    kind: Word
    namespace: Word
    service_account: Word

    @property
    def position(self) -> Position:
        """Where the name stands."""
        return self.name.position


@dataclass(frozen=True, slots=True)
class GrantEntry:
    """`Customers(CustomerId, Name)` under `read`. `columns` is None where none were written: all columns."""

    operation: Operation
    table: Word
    columns: tuple[Word, ...] | None

    @property
    def position(self) -> Position:
        """Where the table's name stands."""
        return self.table.position

    def __str__(self) -> str:
        return self.table.text if self.columns is None else f"{self.table}({', '.join(c.text for c in self.columns)})"


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """All grants of one identity in one database, as far as they stand in one place of the file."""

    identity: Word
    database: Word
    grants: tuple[GrantEntry, ...]

    @property
    def position(self) -> Position:
        """Where the database's alias stands."""
        return self.database.position


@dataclass(frozen=True, slots=True)
class Intent:
    """A whole file, in its own order. Keys are distinct; names under `access` may not exist."""

    position: Position
    trust_domain: Word
    databases: tuple[DatabaseEntry, ...]
    identities: tuple[IdentityEntry, ...]
    access: tuple[AccessEntry, ...]

    @property
    def file(self) -> str:
        """The file's name, as it stands in every position."""
        return self.position.file
