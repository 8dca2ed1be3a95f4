"""What a request to Spanner means, read from the parsed google.protobuf message: the judge of the filter and of rpc/.

Shares no code with them but the values that they return. Slow, one rule after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.cloud.spanner_v1 import types
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from fakes.envoy import IDENTITY
from fakes.seals import change_ids, is_sealed, is_sealed_name, opened, opened_name, seal, seal_name
from spangate.model.database import DatabasePath
from spangate.model.sqltype import SqlType
from spangate.rpc.shape import MutationKind, MutationShape, ReadShape, Shape, Statement

PREFIX = b"/google.spanner.v1.Spanner/"
DATABASE = "projects/spangate-local/instances/main/databases/shop"
RAW_SESSION = f"{DATABASE}/sessions/AHhS_9-x~1"
# As the gateway has given it to the identity of the tests.
SESSION = seal_name(RAW_SESSION, IDENTITY, DATABASE)
DATABASE_PATH = DatabasePath("spangate-local", "main", "shop")

REQUESTS: dict[str, Any] = {
    "ExecuteSql": types.ExecuteSqlRequest,
    "ExecuteStreamingSql": types.ExecuteSqlRequest,
    "ExecuteBatchDml": types.ExecuteBatchDmlRequest,
    "Read": types.ReadRequest,
    "StreamingRead": types.ReadRequest,
    "BeginTransaction": types.BeginTransactionRequest,
    "Commit": types.CommitRequest,
    "Rollback": types.RollbackRequest,
    "CreateSession": types.CreateSessionRequest,
    "BatchCreateSessions": types.BatchCreateSessionsRequest,
    "GetSession": types.GetSessionRequest,
    "DeleteSession": types.DeleteSessionRequest,
}
NAMED = ("GetSession", "DeleteSession")
CREATES = {"CreateSession": "session", "BatchCreateSessions": "session_template"}
KINDS = ("insert", "update", "insert_or_update", "replace", "delete")


def message_class(proto_plus: Any) -> Any:
    """The google.protobuf class behind a proto-plus class."""
    return proto_plus.pb()


def message(method: str, **fields: Any) -> Message:
    """A request in google.protobuf; the session or database is filled in, ids and tokens are sealed."""
    if method in CREATES:
        fields.setdefault("database", DATABASE)
    else:
        fields.setdefault("name" if method in NAMED else "session", SESSION)
    request = REQUESTS[method]
    found: Message = request.pb(request(**fields))
    database = DATABASE.encode()
    change_ids(found, lambda raw, kinds: seal(raw, b"t" if kinds == b"t" else b"w", IDENTITY, database))
    return found


def framed(data: bytes) -> bytes:
    """A gRPC request body of one message."""
    return b"\0" + len(data).to_bytes(4, "big") + data


def path(method: str) -> bytes:
    return PREFIX + method.encode()


def expected_shape(method: str, request: Any) -> Shape:
    """Raises ValueError for a parameter's type that has no meaning."""
    name = request.database if method in CREATES else _session(method, request).partition("/sessions/")[0]
    database = DatabasePath.parse(name)
    if method in ("ExecuteSql", "ExecuteStreamingSql"):
        return Shape(method, database, statements=(_statement(request),))
    if method == "ExecuteBatchDml":
        return Shape(method, database, statements=_distinct(map(_statement, request.statements)))
    if method in ("Read", "StreamingRead"):
        return Shape(method, database, read=ReadShape(request.table, request.index, tuple(request.columns)))
    if method == "Commit":
        return Shape(method, database, mutations=_sorted(request.mutations))
    if method == "BeginTransaction" and request.HasField("mutation_key"):
        return Shape(method, database, mutations=_sorted([request.mutation_key]))
    return Shape(method, database)


def comparable(shape: Shape) -> Shape:
    """The shape without what means nothing: the same statement or mutation twice, the order of mutations."""
    ordered = tuple(sorted(set(shape.mutations), key=lambda m: (m.kind, m.table, m.columns)))
    return Shape(shape.method, shape.database, _distinct(shape.statements), shape.read, ordered)


def expected_rewrite(method: str, request: Any, role: str, tag: str, owner: str = "abcdefghijklm") -> Any:
    """What Spanner must receive for `request`: also with the seals taken off."""
    found = type(request)()
    found.CopyFrom(request)
    names = {field.name for field in request.DESCRIPTOR.fields}
    if method in CREATES:
        session = getattr(found, CREATES[method])
        session.creator_role = role
        if not session.multiplexed:
            session.labels["spangate-owner"] = "i" + owner
    elif is_sealed_name(_session(method, request)):
        setattr(found, "name" if method in NAMED else "session", _session(method, request)[:-42])
    change_ids(found, lambda value, _: value[:-27] if is_sealed(value) else value)
    if "routing_hint" in names:
        found.ClearField("routing_hint")
    if "request_options" in names:
        found.request_options.ClearField("client_context")
        found.request_options.transaction_tag = tag
    return found


def is_owned(method: str, request: Any) -> bool:
    """Whether session, transaction and partition token of `request` are the identity's of the tests."""
    if method in CREATES:
        return True
    name = _session(method, request)
    database = name.partition("/sessions/")[0]
    copy = type(request)()
    copy.CopyFrom(request)
    try:
        opened_name(name, IDENTITY, database)
        change_ids(copy, lambda value, kinds: opened(value, kinds, IDENTITY, database.encode()))
    except ValueError:
        return False
    return True


def forbidden(method: str, request: Any) -> str | None:
    """What the request asks for that is never allowed; None if nothing."""
    names = {field.name for field in request.DESCRIPTOR.fields}
    for options in _transaction_options(request):
        if options.HasField("partitioned_dml"):
            return "partitioned_dml"
        if options.exclude_txn_from_change_streams:
            return "exclude_txn_from_change_streams"
    mutations = list(request.mutations) if "mutations" in names else []
    if "mutation_key" in names and request.HasField("mutation_key"):
        mutations.append(request.mutation_key)
    for mutation in mutations:
        if mutation.WhichOneof("operation") not in KINDS:
            return "mutation"
    if "/sessions/" not in _session(method, request) and method not in CREATES:
        return "session"
    return None


def has_unknown_fields(request: Any) -> bool:
    """Whether the request or a mutation in it holds a field that the published API does not have."""
    mutations = [getattr(m, m.WhichOneof("operation")) for m in getattr(request, "mutations", ())]
    return any(len(UnknownFieldSet(part)) for part in (request, *mutations))


def sql_type(type_: Any) -> SqlType:
    """The type of google.spanner.v1.Type, or ValueError."""
    code = types.TypeCode(type_.code).name
    if code == "TYPE_CODE_UNSPECIFIED":
        raise ValueError("unspecified")
    if code == "ARRAY":
        return SqlType(code, element=sql_type(type_.array_element_type))
    if code == "STRUCT":
        return SqlType(code, fields=tuple((f.name, sql_type(f.type_)) for f in type_.struct_type.fields))
    return SqlType(code)


def _session(method: str, request: Any) -> str:
    if method in CREATES:
        return ""
    found: str = request.name if method in NAMED else request.session
    return found


def _statement(statement: Any) -> Statement:
    return Statement(statement.sql, {name: sql_type(type_) for name, type_ in statement.param_types.items()})


def _distinct(statements: Any) -> tuple[Statement, ...]:
    found: list[Statement] = []
    for statement in statements:
        if statement not in found:
            found.append(statement)
    return tuple(found)


def _sorted(mutations: Any) -> tuple[MutationShape, ...]:
    found = set()
    for mutation in mutations:
        kind = mutation.WhichOneof("operation")
        operation = getattr(mutation, kind)
        columns = () if kind == "delete" else tuple(operation.columns)
        found.add(MutationShape(MutationKind(kind), operation.table, columns))
    return tuple(sorted(found, key=lambda m: (m.kind, m.table, m.columns)))


def _transaction_options(request: Any) -> Iterator[Any]:
    for field, value in request.ListFields():
        if field.name in ("options", "single_use_transaction"):
            yield value
        if field.name == "transaction" and field.message_type is not None:
            if value.HasField("single_use"):
                yield value.single_use
            if value.HasField("begin"):
                yield value.begin
