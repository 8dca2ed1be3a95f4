"""What a request touches beside its statements. (Those are sql/'s.)

The rules, each a named case in tests/unit/test_rpc_accesses.py:
- Read reads the listed columns and the primary key, by which it finds rows.
- Read by an index reads the listed columns, the index's key and stored columns, and the primary key.
- insert inserts the listed columns.
- update updates the listed columns but the primary key, which only says which rows.
- insert_or_update does what insert and update do.
- replace deletes the row and inserts the listed columns.
- delete deletes from the table.
- send sends to the queue, ack acknowledges messages of the queue.
- A request that hides its writes from change streams makes the access exclude_from_change_streams.
- One that begins, or belongs to, a transaction of partitioned DML makes the access partitioned_dml: on each table that
  its statements write, and on no table in particular if it has no statements.
- GetDatabase, which clients ask for the dialect, and GetDatabaseDdl make the access schema; UpdateDatabaseDdl, and
  GetOperation, which tells how that went, ddl.
A table, index, column or queue that the schema does not have raises UnknownName: nothing can be said about it.
Rows that Spanner deletes with their parent (ON DELETE CASCADE) are Spanner's doing: no access of their own.
Source: google/spanner/v1/mutation.proto, google/spanner/v1/spanner.proto (ReadRequest).
"""

from __future__ import annotations

from collections.abc import Iterable

from spangate.model.access import Access, Operation, merged
from spangate.model.schema import ObjectKind, Schema, Table
from spangate.rpc.shape import MutationKind, MutationShape, ReadShape, Shape

_WRITES = frozenset({Operation.INSERT, Operation.UPDATE, Operation.DELETE})
_OF_METHOD = {
    "GetDatabase": Access(Operation.SCHEMA, ""),
    "GetDatabaseDdl": Access(Operation.SCHEMA, ""),
    "UpdateDatabaseDdl": Access(Operation.DDL, ""),
    "GetOperation": Access(Operation.DDL, ""),
}
_OF_QUEUE = {MutationKind.SEND: Operation.SEND, MutationKind.ACK: Operation.ACK}


class UnknownName(ValueError):
    """A table, index, column or queue that is not in the schema; the message names none that is: few may know them."""


def accesses_of(shape: Shape, of_statements: Iterable[Access], schema: Schema) -> tuple[Access, ...]:
    """All that a request of `shape` touches; `of_statements` are its statements' accesses. Raises UnknownName."""
    found = list(of_statements)
    if shape.partitioned:
        tables = {access.table for access in found if access.operation in _WRITES} if shape.statements else {""}
        found += [Access(Operation.PARTITIONED_DML, table) for table in tables]
    if shape.read is not None:
        found += accesses_of_read(shape.read, schema)
    found += accesses_of_mutations(shape.mutations, schema)
    if shape.hides_writes:
        found.append(Access(Operation.EXCLUDE_FROM_CHANGE_STREAMS, ""))
    if shape.method in _OF_METHOD:
        found.append(_OF_METHOD[shape.method])
    return merged(found)


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
        if mutation.kind in _OF_QUEUE:
            found.append(Access(_OF_QUEUE[mutation.kind], _queue(mutation.table, schema)))
            continue
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
        raise UnknownName(f"the schema has no table `{name[:128]}`")
    return table


def _queue(name: str, schema: Schema) -> str:
    queue = schema.object(name)
    if queue is None or queue.kind is not ObjectKind.QUEUE:
        raise UnknownName(f"the schema has no queue `{name[:128]}`")
    return queue.name


def _columns(names: Iterable[str], table: Table) -> set[str]:
    found = set()
    for name in names:
        column = table.column(name)
        if column is None:
            raise UnknownName(f"table `{table.name}` has no column `{name[:128]}`")
        found.add(column.name)
    return found
