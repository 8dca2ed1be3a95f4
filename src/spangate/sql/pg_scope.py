"""Which column a name means in a PostgreSQL statement.

Rules, those of PostgreSQL (parse_relation.c, "Table Expressions" and "Value Expressions" in its manual):
- A level holds what a FROM clause brings; a subquery's level has the outer query's as its parent.
- `x` is the column of that name in the nearest level that has one; two in one level are ambiguous. If no level has
  one, it is the whole row of the relation of that name.
- `t.x` is a column of the nearest relation called `t`, and of no other, whatever columns that has.
- The columns of a join are the merged ones of USING once, and then the rest of both sides.
And ours, so that a stale schema never widens access:
- A name that is looked up past a table reads that table as a whole: a column of that name may have been added to it.
- A relation whose columns are not known (INFORMATION_SCHEMA) never stops a search: what may lie behind it is read too.
Not here: FROM clauses (pg_query.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from spangate.model.access import Access, Operation
from spangate.model.schema import Table
from spangate.sql.pg_parse import Node

# "Nested subselect statements: 60; nested subquery expressions: 25" (https://cloud.google.com/spanner/quotas).
DEPTH_MAX = 60


class NotReadable(Exception):
    """It cannot be said for certain what the statement does. `byte` is the place in it, None where it is not known."""

    def __init__(self, message: str, node: Node | None = None) -> None:
        super().__init__(message)
        self.message = message
        byte = node.get("location") if node else None
        self.byte = byte if isinstance(byte, int) and byte >= 0 else None


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a relation, and the columns of tables that it is, as (table, column)."""

    name: str
    sources: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Relation:
    """What an item of a FROM clause brings.

    `tables` are those that its whole row reads; a subquery's have been read by the subquery. `schema` is set for a
    table without alias: it can be called `schema.table` too. An `open` relation may have more columns than `fields`.
    """

    alias: str
    fields: tuple[Field, ...]
    tables: tuple[Table, ...] = ()
    schema: str | None = None
    open: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """The names of a query's columns in order; if `open`, there may be more."""

    names: tuple[str, ...]
    open: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A relation in a level: whether it can be named, and whether its columns can be named without it."""

    relation: Relation
    by_name: bool = True
    by_column: bool = True


@dataclass(frozen=True, slots=True)
class Level:
    """One query's names. `ctes` are those of its own WITH clause."""

    parent: Level | None = None
    entries: tuple[Entry, ...] = ()
    ctes: Mapping[str, Output] = field(default_factory=dict)

    def of(self, entries: Iterable[Entry]) -> Level:
        """The same query with other relations in view."""
        return replace(self, entries=tuple(entries))

    def chain(self) -> Iterator[Level]:
        """This level and those around it, from the inside."""
        level: Level | None = self
        while level is not None:
            yield level
            level = level.parent

    def cte(self, name: str) -> Output | None:
        """The common table expression of that name that is in force here."""
        return next((level.ctes[name] for level in self.chain() if name in level.ctes), None)

    @property
    def tables(self) -> Iterator[Table]:
        """The tables that a search for a column passes here."""
        return (table for entry in self.entries for table in entry.relation.tables)


class Depth:
    """How deep queries and joins stand inside one another."""

    def __init__(self) -> None:
        self._depth = 0

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """One level more. Raises NotReadable if that is too deep."""
        if self._depth >= DEPTH_MAX:
            raise NotReadable(f"the statement has more than {DEPTH_MAX} queries or joins inside one another")
        self._depth += 1
        yield
        self._depth -= 1


class Reads:
    """The accesses found so far."""

    def __init__(self) -> None:
        self.found: list[Access] = []

    def add(self, operation: Operation, table: str, columns: Iterable[str] = (), *, every: bool = False) -> None:
        """One fact more."""
        self.found.append(Access(operation, table, tuple(columns), every))

    def field(self, one: Field) -> None:
        """A column is read."""
        for table, column in one.sources:
            self.add(Operation.READ, table, (column,))

    def row(self, relation: Relation) -> None:
        """A whole row is read, with whatever columns it has by then."""
        for table in relation.tables:
            self.add(Operation.READ, table.name, (one.name for one in table.columns if not one.hidden), every=True)

    def passed(self, tables: Iterable[Table]) -> None:
        """A name was looked up in these tables first."""
        for table in tables:
            self.add(Operation.READ, table.name, every=True)


def read_name(level: Level, name: str, node: Node, reads: Reads) -> None:
    """`name` alone, as a value."""
    passed: list[Table] = []
    maybe = False
    for one in level.chain():
        relations = [entry.relation for entry in one.entries if entry.by_column]
        found = [field for relation in relations for field in relation.fields if field.name == name]
        if len(found) > 1:
            raise NotReadable(f"the column `{name}` is ambiguous", node)
        if found:
            reads.field(found[0])
            reads.passed(passed)
            return
        maybe = maybe or any(relation.open for relation in relations)
        passed += one.tables
    rows = _called(level, name)
    if rows is not None:
        reads.row(rows)
    elif not maybe:
        raise NotReadable(f"there is no column `{name}`", node)
    reads.passed(passed)


def read_qualified(level: Level, names: tuple[str, ...], node: Node, reads: Reads) -> None:
    """`relation.column` or `schema.relation.column`."""
    *path, name = names
    relation = relation_called(level, tuple(path), node)
    found = [field for field in relation.fields if field.name == name]
    if len(found) > 1:
        raise NotReadable(f"the column `{'.'.join(names)}` is ambiguous", node)
    if found:
        reads.field(found[0])
    elif not relation.open:
        raise NotReadable(f"there is no column `{'.'.join(names)}`", node)


def relation_called(level: Level, path: tuple[str, ...], node: Node) -> Relation:
    """What `relation` or `schema.relation` means."""
    match path:
        case (name,):
            found = _called(level, name)
        case (schema, name):
            found = _called(level, name, schema)
        case _:
            raise NotReadable(f"`{'.'.join(path)}` has too many parts", node)
    if found is None:
        raise NotReadable(f"there is no table or alias `{'.'.join(path)}` in FROM", node)
    return found


def _called(level: Level, name: str, schema: str | None = None) -> Relation | None:
    for one in level.chain():
        found = [
            entry.relation
            for entry in one.entries
            if entry.by_name and entry.relation.alias == name and schema in {None, entry.relation.schema}
        ]
        if len(found) > 1:
            raise NotReadable(f"`{name}` is the name of more than one relation in FROM")
        if found:
            return found[0]
    return None
