"""A request's shape: everything that a decision about it can depend on, and nothing else.

The filter in Envoy reads the shape from the request's protobuf bytes and sends it here, encoded as netstrings
(`<decimal length>:<bytes>,`, https://cr.yp.to/proto/netstrings.txt), so that no text can pass for two:

    method, database, flags,
      then for ExecuteSql, ExecuteStreamingSql, PartitionQuery, ExecuteBatchDml: sql, types [, sql, types ...]
                                     types: netstrings of the entries of the param_types map, each as on the wire
      for Read, StreamingRead, PartitionRead:   table, index, column, ...
      for Commit, BatchWrite, BeginTransaction: mutation, ...   each the netstrings: kind, table, column, ...
      for UpdateDatabaseDdl:         statement, ...
      for every other RPC:           nothing

`flags` are letters in alphabetical order: `h`, the request hides its writes from change streams
(exclude_txn_from_change_streams); `p`, it begins, or belongs to, a transaction of partitioned DML.

Rules: what is not exactly of this form raises BadShape, and so does text that is not UTF-8.
Not here: reading requests (dataplane/lua/rpcs.lua), what a shape touches (accesses.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from spangate.model.database import BadResourceName, DatabasePath
from spangate.model.sqltype import SqlType
from spangate.rpc.sqltypes import BadType, read_param_type

SQL_METHODS = frozenset({"ExecuteSql", "ExecuteStreamingSql", "ExecuteBatchDml", "PartitionQuery"})
READ_METHODS = frozenset({"Read", "StreamingRead", "PartitionRead"})
MUTATION_METHODS = frozenset({"Commit", "BatchWrite", "BeginTransaction"})
DDL_METHODS = frozenset({"UpdateDatabaseDdl"})
PLAIN_METHODS = frozenset(
    {
        "Rollback",
        "CreateSession",
        "BatchCreateSessions",
        "GetSession",
        "ListSessions",
        "DeleteSession",
        "GetDatabase",
        "GetDatabaseDdl",
        "GetOperation",
    }
)
METHODS = SQL_METHODS | READ_METHODS | MUTATION_METHODS | DDL_METHODS | PLAIN_METHODS

_FLAGS = frozenset({"", "h", "p", "hp"})

# As many digits as the largest request has in its length.
_LENGTH_DIGITS_MAX = 9


class BadShape(ValueError):
    """The bytes are not a shape; the message says where."""


class MutationKind(StrEnum):
    """The oneof of google.spanner.v1.Mutation."""

    INSERT = "insert"
    UPDATE = "update"
    INSERT_OR_UPDATE = "insert_or_update"
    REPLACE = "replace"
    DELETE = "delete"
    SEND = "send"
    ACK = "ack"


# Mutations that list columns; the others are of rows or messages as a whole.
_WITH_COLUMNS = frozenset(
    {MutationKind.INSERT, MutationKind.UPDATE, MutationKind.INSERT_OR_UPDATE, MutationKind.REPLACE}
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement and the declared types of its parameters."""

    sql: str
    param_types: Mapping[str, SqlType]


@dataclass(frozen=True, slots=True)
class ReadShape:
    """A Read by primary key (`index` empty) or by a secondary index."""

    table: str
    index: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MutationShape:
    """All mutations of one kind, table and column list; `columns` is empty for a delete.

    For send and ack, `table` is the queue, and there are no columns.
    """

    kind: MutationKind
    table: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoded shape. Which of `statements`, `read`, `mutations` and `ddl` is set follows from `method`.

    `hides_writes`: exclude_txn_from_change_streams is set. `partitioned`: it begins, or belongs to, a transaction of
    partitioned DML.
    """

    method: str
    database: DatabasePath
    statements: tuple[Statement, ...] = ()
    read: ReadShape | None = None
    mutations: tuple[MutationShape, ...] = ()
    ddl: tuple[str, ...] = ()
    hides_writes: bool = False
    partitioned: bool = False


def decode_shape(data: bytes) -> Shape:
    """The shape that the filter encoded. Raises BadShape."""
    fields = _netstrings(data)
    if len(fields) < 3:
        raise BadShape("a shape has at least a method, a database and flags")
    method = _text(fields[0])
    try:
        database = DatabasePath.parse(_text(fields[1]))
    except BadResourceName as error:
        raise BadShape(f"the database is {error}") from error
    flags = _text(fields[2])
    if flags not in _FLAGS:
        raise BadShape("unknown flags")
    shape = Shape(method, database, hides_writes="h" in flags, partitioned="p" in flags)
    return _with_rest(shape, fields[3:])


def netstring(data: bytes) -> bytes:
    """`data` as a netstring."""
    return b"%d:%s," % (len(data), data)


def _with_rest(shape: Shape, rest: list[bytes]) -> Shape:
    method = shape.method
    if method in SQL_METHODS:
        # A batch of no statements does nothing; Spanner says so.
        if len(rest) % 2 or (method != "ExecuteBatchDml" and len(rest) != 2):
            raise BadShape(f"{method} with {len(rest)} fields")
        statements = tuple(
            Statement(_text(sql), _param_types(types)) for sql, types in zip(rest[::2], rest[1::2], strict=True)
        )
        return replace(shape, statements=statements)
    if method in READ_METHODS:
        if len(rest) < 2:
            raise BadShape(f"{method} without table and index")
        table, index, *columns = map(_text, rest)
        return replace(shape, read=ReadShape(table, index, tuple(columns)))
    if method in MUTATION_METHODS:
        return replace(shape, mutations=tuple(_mutation(field) for field in rest))
    if method in DDL_METHODS:
        return replace(shape, ddl=tuple(map(_text, rest)))
    if method in PLAIN_METHODS and not rest:
        return shape
    raise BadShape("an unknown method" if method not in METHODS else f"{method} with {len(rest)} fields")


def _mutation(field: bytes) -> MutationShape:
    parts = [_text(part) for part in _netstrings(field)]
    if len(parts) < 2:
        raise BadShape("a mutation has at least a kind and a table")
    kind, table, *columns = parts
    if kind not in MutationKind.__members__.values():
        raise BadShape("a mutation of an unknown kind")
    found = MutationShape(MutationKind(kind), table, tuple(columns))
    if columns and found.kind not in _WITH_COLUMNS:
        raise BadShape(f"{kind} with columns")
    return found


def _param_types(field: bytes) -> dict[str, SqlType]:
    found: dict[str, SqlType] = {}
    for entry in _netstrings(field):
        try:
            name, type_ = read_param_type(entry)
        except BadType as error:
            raise BadShape(f"a parameter's type: {error}") from error
        if name in found:
            raise BadShape("a parameter with two types")
        found[name] = type_
    return found


def _netstrings(data: bytes) -> list[bytes]:
    found = []
    at = 0
    while at < len(data):
        colon = data.find(b":", at, at + _LENGTH_DIGITS_MAX + 1)
        digits = data[at:colon] if colon > at else b""
        if not digits.isdigit() or (digits[:1] == b"0" and digits != b"0"):
            raise BadShape(f"no length at byte {at}")
        start, end = colon + 1, colon + 1 + int(digits)
        if data[end : end + 1] != b",":
            raise BadShape(f"the field at byte {at} does not end where it should")
        found.append(data[start:end])
        at = end + 1
    return found


def _text(field: bytes) -> str:
    try:
        return field.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadShape("text that is not UTF-8") from error
