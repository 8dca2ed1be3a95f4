"""One fact about a request: operation on table (columns)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Operation(StrEnum):
    """What is done to a table. The words are those of the intent file."""

    READ = "read"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, order=True)
class Access:
    """`read Customers(CustomerId, Name)`. Names are spelled as in the schema; columns are sorted and distinct.

    No columns means the table as such: `COUNT(*)` reads it, DELETE deletes from it.
    """

    operation: Operation
    table: str
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.operation} {self.table}({', '.join(self.columns)})"
            if self.columns
            else (f"{self.operation} {self.table}")
        )


def merged(accesses: list[Access]) -> tuple[Access, ...]:
    """The same facts, one Access for each operation and table, sorted."""
    columns: dict[tuple[Operation, str], set[str]] = {}
    for access in accesses:
        columns.setdefault((access.operation, access.table), set()).update(access.columns)
    return tuple(sorted(Access(op, table, tuple(sorted(names))) for (op, table), names in columns.items()))
