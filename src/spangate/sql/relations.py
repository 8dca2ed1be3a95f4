"""What a statement can name, and what naming it means.

Rules: a relation's number is its place in `Names.relations`; it goes into the catalog and comes back in the tree, so
that the tree names tables without ambiguity. A view stands in the catalog as a table with its columns; reading it
makes the accesses that are written beside it, whichever of its columns are read. A table of INFORMATION_SCHEMA or
SPANNER_SYS counts for all of its kind.
Not here: the catalog (catalog.py), views' queries (googlesql.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from spangate.model.access import Access, Operation
from spangate.model.schema import Column, ObjectKind, Schema, Table
from spangate.sql.graphs import Graph
from spangate.sql.objects import Model, model_of
from spangate.sql.system_tables import information_schema_tables, spanner_sys_tables

# What clients ask for at start, Google's Go client for one: which dialect the database has. No right is needed.
_ALWAYS_READABLE = "information_schema.database_options"
_ALWAYS_READABLE_COLUMNS = frozenset({"CATALOG_NAME", "SCHEMA_NAME", "OPTION_NAME", "OPTION_VALUE"})


class Origin(Enum):
    """Where a relation comes from."""

    TABLE = auto()
    VIEW = auto()
    INFORMATION_SCHEMA = auto()
    SPANNER_SYS = auto()


@dataclass(frozen=True)
class Relation:
    """Something that can be read from by its name. `table` has its name and columns."""

    origin: Origin
    table: Table
    # Of a view: what reading it does, and its columns' types as ZetaSQL encodes them.
    accesses: tuple[Access, ...] = ()
    types: tuple[bytes, ...] = ()

    def read(self, columns: Iterable[str]) -> tuple[Access, ...]:
        """What reading these columns means."""
        match self.origin:
            case Origin.TABLE:
                return (Access(Operation.READ, self.table.name, tuple(columns)),)
            case Origin.VIEW:
                return self.accesses
            case Origin.INFORMATION_SCHEMA:
                always = self.table.name.lower() == _ALWAYS_READABLE and _ALWAYS_READABLE_COLUMNS.issuperset(columns)
                return () if always else (Access(Operation.INFORMATION_SCHEMA, ""),)
            case Origin.SPANNER_SYS:
                return (Access(Operation.SPANNER_SYS, ""),)


@dataclass(frozen=True)
class Names:
    """Everything that statements about one database can name."""

    relations: tuple[Relation, ...]
    sequences: tuple[str, ...] = ()
    models: tuple[Model, ...] = ()
    graphs: tuple[Graph, ...] = ()
    # The table function, in lower case, by which each change stream is read.
    streams: Mapping[str, str] = field(default_factory=dict)
    # Functions that the schema defines, in lower case: one may hide a built-in and do more than its name says.
    refused_functions: frozenset[str] = frozenset()


@dataclass(frozen=True)
class View:
    """A view whose query has been read: names and encoded types of its columns, and what reading it does."""

    name: str
    columns: tuple[tuple[str, bytes], ...]
    accesses: tuple[Access, ...]

    def relation(self) -> Relation:
        """The view as something to read from."""
        # The type's text is not needed: `types` says it better.
        columns = tuple(Column(name, "") for name, _ in self.columns)
        return Relation(
            Origin.VIEW, Table(self.name, columns), self.accesses, tuple(type_ for _, type_ in self.columns)
        )


def names_of(schema: Schema, views: Iterable[View] = (), graphs: Iterable[Graph] = ()) -> Names:
    """What statements can name in a database of that schema; `views` and `graphs` are those that could be read."""

    def objects(kind: ObjectKind) -> tuple[str, ...]:
        return tuple(one.name for one in schema.objects if one.kind is kind)

    return Names(
        relations=(
            *(Relation(Origin.TABLE, table) for table in schema.tables),
            *(view.relation() for view in views),
            *(Relation(Origin.INFORMATION_SCHEMA, table) for table in information_schema_tables()),
            *(Relation(Origin.SPANNER_SYS, table) for table in spanner_sys_tables()),
        ),
        sequences=objects(ObjectKind.SEQUENCE),
        models=tuple(model_of(one) for one in schema.objects if one.kind is ObjectKind.MODEL),
        graphs=tuple(graphs),
        streams={function_of_stream(name).lower(): name for name in objects(ObjectKind.CHANGE_STREAM)},
        refused_functions=frozenset(schema.functions),
    )


def function_of_stream(name: str) -> str:
    """`sales.Changes` -> `sales.READ_Changes`: the table function that reads a change stream."""
    schema, dot, stream = name.rpartition(".")
    return f"{schema}{dot}READ_{stream}"


def probe_of(schema: Schema) -> str:
    """The name of a column that no table of that schema has."""
    name = "spangate_probe"
    while any(table.column(name) for table in schema.tables):
        name += "_"
    return name


def widened(names: Names, *more: str, only: str | None = None) -> Names:
    """The same, with columns of the names `more` behind all others in every table, or in the table `only`."""
    columns = tuple(Column(name, "INT64") for name in more)
    return replace(
        names,
        relations=tuple(
            replace(one, table=replace(one.table, columns=(*one.table.columns, *columns)))
            if one.origin is Origin.TABLE and only in {None, one.table.name}
            else one
            for one in names.relations
        ),
    )
