"""One fact about a request: operation on table (columns)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Operation(StrEnum):
    """What is done. The words are those of the intent file."""

    # To a table, and to what can stand in its place: a view or change stream is read, a sequence is read or updated.
    READ = "read"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    # UPDATE and DELETE on a table in a transaction of partitioned DML, besides the operation itself.
    PARTITIONED_DML = "partitioned_dml"
    # To a model: ML.PREDICT with it.
    EXECUTE = "execute"
    # To a queue.
    SEND = "send"
    ACK = "ack"
    # To a database as a whole: `Access.table` is empty.
    SCHEMA = "schema"
    DDL = "ddl"
    INFORMATION_SCHEMA = "information_schema"
    SPANNER_SYS = "spanner_sys"
    # TransactionOptions.exclude_txn_from_change_streams: writes that no change stream shows.
    EXCLUDE_FROM_CHANGE_STREAMS = "exclude_from_change_streams"


# Operations on a database as a whole.
DATABASE_OPERATIONS = frozenset(
    {
        Operation.SCHEMA,
        Operation.DDL,
        Operation.INFORMATION_SCHEMA,
        Operation.SPANNER_SYS,
        Operation.EXCLUDE_FROM_CHANGE_STREAMS,
    }
)


@dataclass(frozen=True, slots=True, order=True)
class Access:
    """`read Customers(CustomerId, Name)`. Names are spelled as in the schema; columns are sorted and distinct.

    No columns means the table as such: `COUNT(*)` reads it, DELETE deletes from it. `every` means all columns that the
    table has when the request is executed, whichever they are by then: `SELECT *`; `columns` are those known now.
    `table` may also name a view, change stream, sequence, model or queue; it is empty for DATABASE_OPERATIONS, and for
    PARTITIONED_DML where a transaction begins and no table is known yet.
    """

    operation: Operation
    table: str
    columns: tuple[str, ...] = ()
    every: bool = False

    def __str__(self) -> str:
        words = [self.operation.value] if not self.table else [self.operation.value, self.table]
        inside = ("*",) if self.every else self.columns
        return f"{' '.join(words)}({', '.join(inside)})" if inside else " ".join(words)


def merged(accesses: list[Access]) -> tuple[Access, ...]:
    """The same facts, one Access for each operation and table, sorted."""
    columns: dict[tuple[Operation, str], set[str]] = {}
    every: set[tuple[Operation, str]] = set()
    for access in accesses:
        key = (access.operation, access.table)
        columns.setdefault(key, set()).update(access.columns)
        if access.every:
            every.add(key)
    return tuple(sorted(Access(*key, tuple(sorted(names)), key in every) for key, names in columns.items()))
