"""A request's shape: everything that a decision about it can depend on, and nothing else.

The filter in Envoy reads the shape from the request's protobuf bytes and sends it here, encoded as netstrings
(`<decimal length>:<bytes>,`, https://cr.yp.to/proto/netstrings.txt), so that no text can pass for two:

    method, database,
      then for ExecuteSql, ExecuteStreamingSql, ExecuteBatchDml: sql, types [, sql, types ...]
                                     types: netstrings of the entries of the param_types map, each as on the wire
      for Read, StreamingRead:       table, index, column, ...
      for Commit, BeginTransaction:  mutation, ...   each the netstrings: kind, table, column, ...
      for every other RPC:           nothing

Rules: what is not exactly of this form raises BadShape, and so does text that is not UTF-8.
Not here: reading requests (dataplane/lua/shape.lua), what a shape touches (accesses.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from spangate.model.database import BadResourceName, DatabasePath
from spangate.model.sqltype import SqlType
from spangate.rpc.sqltypes import BadType, read_param_type

SQL_METHODS = frozenset({"ExecuteSql", "ExecuteStreamingSql", "ExecuteBatchDml"})
READ_METHODS = frozenset({"Read", "StreamingRead"})
MUTATION_METHODS = frozenset({"Commit", "BeginTransaction"})
PLAIN_METHODS = frozenset({"Rollback", "CreateSession", "BatchCreateSessions", "GetSession", "DeleteSession"})
METHODS = SQL_METHODS | READ_METHODS | MUTATION_METHODS | PLAIN_METHODS

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
    """All mutations of one kind, table and column list; `columns` is empty for a delete."""

    kind: MutationKind
    table: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoded shape. Which of `statements`, `read` and `mutations` is set follows from `method`."""

    method: str
    database: DatabasePath
    statements: tuple[Statement, ...] = ()
    read: ReadShape | None = None
    mutations: tuple[MutationShape, ...] = ()


def decode_shape(data: bytes) -> Shape:
    """The shape that the filter encoded. Raises BadShape."""
    fields = _netstrings(data)
    if len(fields) < 2:
        raise BadShape("a shape has at least a method and a database")
    method = _text(fields[0])
    try:
        database = DatabasePath.parse(_text(fields[1]))
    except BadResourceName as error:
        raise BadShape(f"the database is {error}") from error
    rest = fields[2:]
    if method in SQL_METHODS:
        if len(rest) % 2 or not rest or (method != "ExecuteBatchDml" and len(rest) != 2):
            raise BadShape(f"{method} with {len(rest)} fields")
        statements = tuple(
            Statement(_text(sql), _param_types(types)) for sql, types in zip(rest[::2], rest[1::2], strict=True)
        )
        return Shape(method, database, statements=statements)
    if method in READ_METHODS:
        if len(rest) < 2:
            raise BadShape(f"{method} without table and index")
        table, index, *columns = map(_text, rest)
        return Shape(method, database, read=ReadShape(table, index, tuple(columns)))
    if method in MUTATION_METHODS:
        return Shape(method, database, mutations=tuple(_mutation(field) for field in rest))
    if method in PLAIN_METHODS and not rest:
        return Shape(method, database)
    raise BadShape("an unknown method" if method not in METHODS else f"{method} with {len(rest)} fields")


def netstring(data: bytes) -> bytes:
    """`data` as a netstring."""
    return b"%d:%s," % (len(data), data)


def _mutation(field: bytes) -> MutationShape:
    parts = [_text(part) for part in _netstrings(field)]
    if len(parts) < 2:
        raise BadShape("a mutation has at least a kind and a table")
    kind, table, *columns = parts
    if kind not in MutationKind.__members__.values():
        raise BadShape("a mutation of an unknown kind")
    if kind == MutationKind.DELETE and columns:
        raise BadShape("a delete with columns")
    return MutationShape(MutationKind(kind), table, tuple(columns))


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
