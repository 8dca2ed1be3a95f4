"""What reads and mutations touch. (Statements are sql/'s.)

The rules, each a named case in tests/unit/test_rpc_accesses.py:
- Read reads the listed columns and the primary key, by which it finds rows.
- Read by an index reads the listed columns, the index's key and stored columns, and the primary key.
- insert inserts the listed columns.
- update updates the listed columns but the primary key, which only says which rows.
- insert_or_update does what insert and update do.
- replace deletes the row and inserts the listed columns.
- delete deletes from the table.
A table, index or column that the schema does not have raises UnknownName: nothing can be said about it.
Source: google/spanner/v1/mutation.proto, google/spanner/v1/spanner.proto (ReadRequest).
"""

from __future__ import annotations

from collections.abc import Iterable

from spangate.model.access import Access, Operation, merged
from spangate.model.nearest import nearest
from spangate.model.schema import Schema, Table
from spangate.rpc.shape import MutationKind, MutationShape, ReadShape


class UnknownName(ValueError):
    """A table, index or column that is not in the schema; the message names the nearest that is."""


def accesses_of_read(read: ReadShape, schema: Schema) -> tuple[Access, ...]:
    """Raises UnknownName."""
    table = _table(read.table, schema)
    columns = _columns(read.columns, table) | _columns(table.primary_key, table)
    if read.index and read.index.lower() != "primary_key":
        index = schema.index(read.index)
        if index is None or index.table.lower() != table.name.lower():
            raise UnknownName(f"table `{table.name}` has no index `{read.index[:128]}`")
        columns |= _columns(index.key, table) | _columns(index.storing, table)
    return (Access(Operation.READ, table.name, tuple(sorted(columns))),)


def accesses_of_mutations(mutations: Iterable[MutationShape], schema: Schema) -> tuple[Access, ...]:
    """Raises UnknownName."""
    found: list[Access] = []
    for mutation in mutations:
        table = _table(mutation.table, schema)
        written = _columns(mutation.columns, table)
        inserts = Access(Operation.INSERT, table.name, tuple(sorted(written)))
        updates = Access(Operation.UPDATE, table.name, tuple(sorted(written - _columns(table.primary_key, table))))
        deletes = Access(Operation.DELETE, table.name)
        found += {
            MutationKind.INSERT: [inserts],
            MutationKind.UPDATE: [updates],
            MutationKind.INSERT_OR_UPDATE: [inserts, updates],
            MutationKind.REPLACE: [deletes, inserts],
            MutationKind.DELETE: [deletes],
        }[mutation.kind]
    return merged(found)


def _table(name: str, schema: Schema) -> Table:
    table = schema.table(name)
    if table is None:
        near = nearest(name, (known.name for known in schema.tables))
        hint = f"; did you mean `{near}`" if near else ""
        raise UnknownName(f"the schema has no table `{name[:128]}`{hint}")
    return table


def _columns(names: Iterable[str], table: Table) -> set[str]:
    found = set()
    for name in names:
        column = table.column(name)
        if column is None:
            near = nearest(name, table.column_names)
            hint = f"; did you mean `{near}`" if near else ""
            raise UnknownName(f"table `{table.name}` has no column `{name[:128]}`{hint}")
        found.add(column.name)
    return found
