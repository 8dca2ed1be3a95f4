"""What a request to Spanner means, read from the parsed google.protobuf message: the judge of the filter and of rpc/.

Shares no code with them but the values that they return. Slow, one rule after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from google.cloud.spanner_admin_database_v1 import types as admin
from google.cloud.spanner_v1 import types
from google.longrunning.operations_pb2 import GetOperationRequest
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from fakes.envoy import IDENTITY
from fakes.seals import change_ids, is_forgotten, is_sealed, is_sealed_name, opened, opened_name, seal, seal_name
from spangate.model.database import DatabasePath
from spangate.model.sqltype import SqlType
from spangate.rpc.shape import MutationKind, MutationShape, ReadShape, Shape, Statement

SPANNER = b"/google.spanner.v1.Spanner/"
ADMIN = b"/google.spanner.admin.database.v1.DatabaseAdmin/"
OPERATIONS = b"/google.longrunning.Operations/"
DATABASE = "projects/spangate-local/instances/main/databases/shop"
RAW_SESSION = f"{DATABASE}/sessions/AHhS_9-x~1"
# As the gateway has given it to the identity of the tests.
SESSION = seal_name(RAW_SESSION, IDENTITY, DATABASE)
OPERATION = f"{DATABASE}/operations/_auto_op_0123"
DATABASE_PATH = DatabasePath("spangate-local", "main", "shop")

_PLUS: dict[str, Any] = {
    "ExecuteSql": types.ExecuteSqlRequest,
    "ExecuteStreamingSql": types.ExecuteSqlRequest,
    "ExecuteBatchDml": types.ExecuteBatchDmlRequest,
    "Read": types.ReadRequest,
    "StreamingRead": types.ReadRequest,
    "PartitionQuery": types.PartitionQueryRequest,
    "PartitionRead": types.PartitionReadRequest,
    "BeginTransaction": types.BeginTransactionRequest,
    "Commit": types.CommitRequest,
    "BatchWrite": types.BatchWriteRequest,
    "Rollback": types.RollbackRequest,
    "CreateSession": types.CreateSessionRequest,
    "BatchCreateSessions": types.BatchCreateSessionsRequest,
    "GetSession": types.GetSessionRequest,
    "ListSessions": types.ListSessionsRequest,
    "DeleteSession": types.DeleteSessionRequest,
    "GetDatabase": admin.GetDatabaseRequest,
    "GetDatabaseDdl": admin.GetDatabaseDdlRequest,
    "UpdateDatabaseDdl": admin.UpdateDatabaseDdlRequest,
}
# The google.protobuf class of each call's request.
REQUESTS: dict[str, Any] = {
    **{method: request.pb() for method, request in _PLUS.items()},
    "GetOperation": GetOperationRequest,
}
CREATES = {"CreateSession": "session", "BatchCreateSessions": "session_template"}
# Field 1 of a request, and the name that `message` gives it.
NAMES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(REQUESTS, ("session", SESSION)),
    **dict.fromkeys(("GetSession", "DeleteSession"), ("name", SESSION)),
    **dict.fromkeys((*CREATES, "ListSessions", "GetDatabaseDdl", "UpdateDatabaseDdl"), ("database", DATABASE)),
    "GetDatabase": ("name", DATABASE),
    "GetOperation": ("name", OPERATION),
}
WITHOUT_COLUMNS = ("delete", "send", "ack")
OWNER_LABEL = "spangate-owner"


def message(method: str, **fields: Any) -> Message:
    """A request in google.protobuf; the session or database is filled in, ids and tokens are sealed."""
    field, name = NAMES[method]
    fields.setdefault(field, name)
    request = _PLUS.get(method)
    found: Message = request.pb(request(**fields)) if request else REQUESTS[method](**fields)
    database = DATABASE.encode()
    change_ids(found, lambda raw, kinds: seal(raw, b"t" if kinds == b"t" else b"w", IDENTITY, database))
    return found


def framed(data: bytes) -> bytes:
    """A gRPC request body of one message."""
    return b"\0" + len(data).to_bytes(4, "big") + data


def path(method: str) -> bytes:
    if method in ("GetDatabase", "GetDatabaseDdl", "UpdateDatabaseDdl"):
        return ADMIN + method.encode()
    return (OPERATIONS if method == "GetOperation" else SPANNER) + method.encode()


def expected_shape(method: str, request: Any) -> Shape:
    """Raises ValueError for a parameter's type that has no meaning."""
    name: str = getattr(request, NAMES[method][0])
    database = DatabasePath.parse(name.partition("/sessions/")[0].partition("/operations/")[0])
    options = list(_transaction_options(request))
    bare = Shape(
        method,
        database,
        hides_writes=any(o.exclude_txn_from_change_streams for o in options)
        or (method == "BatchWrite" and request.exclude_txn_from_change_streams),
        partitioned=any(o.HasField("partitioned_dml") for o in options),
    )
    if method in ("ExecuteSql", "ExecuteStreamingSql", "PartitionQuery"):
        return replace(bare, statements=(_statement(request),))
    if method == "ExecuteBatchDml":
        return replace(bare, statements=_distinct(map(_statement, request.statements)))
    if method in ("Read", "StreamingRead", "PartitionRead"):
        return replace(bare, read=ReadShape(request.table, request.index, tuple(request.columns)))
    if method == "UpdateDatabaseDdl":
        return replace(bare, ddl=tuple(request.statements))
    return replace(bare, mutations=_sorted(mutations_of(request)))


def mutations_of(request: Any) -> list[Any]:
    """All mutations in a request, wherever they stand."""
    names = {field.name for field in request.DESCRIPTOR.fields}
    found = list(request.mutations) if "mutations" in names else []
    if "mutation_groups" in names:
        found += [mutation for group in request.mutation_groups for mutation in group.mutations]
    if "mutation_key" in names and request.HasField("mutation_key"):
        found.append(request.mutation_key)
    return found


def comparable(shape: Shape) -> Shape:
    """The shape without what means nothing: the same statement or mutation twice, the order of mutations."""
    ordered = tuple(sorted(set(shape.mutations), key=lambda m: (m.kind, m.table, m.columns)))
    return replace(shape, statements=_distinct(shape.statements), mutations=ordered)


def expected_rewrite(method: str, request: Any, role: str, tag: str, owner: str) -> Any:
    """What Spanner must receive for `request`: also with the seals taken off."""
    found = type(request)()
    found.CopyFrom(request)
    names = {field.name for field in request.DESCRIPTOR.fields}
    if method in CREATES:
        session = getattr(found, CREATES[method])
        session.creator_role = role
        # Spanner takes no labels on multiplexed sessions.
        if not session.multiplexed:
            session.labels[OWNER_LABEL] = f"i{owner}"
    field, usual = NAMES[method]
    # What Spanner has received holds raw ids already, which may look like anything.
    if usual == SESSION and is_sealed_name(getattr(request, field)):
        setattr(found, field, getattr(request, field)[:-42])

        def raw(value: bytes, _: bytes) -> bytes:
            return value[:-27] if is_sealed(value) else value

        # An earlier attempt's id under a key that is gone is left out: it only keeps a place in the queue.
        change_ids(found, raw, lambda value, kinds: b"" if is_forgotten(value) else raw(value, kinds))
    if "routing_hint" in names:
        found.ClearField("routing_hint")
    if "request_options" in names:
        found.request_options.ClearField("client_context")
        found.request_options.transaction_tag = tag
    return found


def is_owned(method: str, request: Any) -> bool:
    """Whether session, transaction and partition token of `request` are the identity's of the tests."""
    name = getattr(request, NAMES[method][0])
    if NAMES[method][1] != SESSION:
        return True
    database = name.partition("/sessions/")[0]
    copy = type(request)()
    copy.CopyFrom(request)
    try:
        opened_name(name, IDENTITY, database)

        def mine(value: bytes, kinds: bytes) -> bytes:
            return opened(value, kinds, IDENTITY, database.encode())

        # Under a key that is gone, it only loses its place in the queue.
        change_ids(copy, mine, lambda value, kinds: b"" if is_forgotten(value) else mine(value, kinds))
    except ValueError:
        return False
    return True


def forbidden(method: str, request: Any) -> str | None:
    """What the request asks for that is never allowed; None if nothing."""
    field, usual = NAMES[method]
    if getattr(request, field).count("/") != usual.count("/"):
        return field
    if any(mutation.WhichOneof("operation") is None for mutation in mutations_of(request)):
        return "mutation"
    return None


def claims_an_owner(method: str, request: Any) -> bool:
    """Whether the sessions that a request creates bear Spangate's own label."""
    return method in CREATES and OWNER_LABEL in getattr(request, CREATES[method]).labels


def has_unknown_fields(request: Any) -> bool:
    """Whether the request, or a part of it that is read, holds a field that the published API does not have."""
    mutations = [getattr(m, m.WhichOneof("operation")) for m in mutations_of(request)]
    options = list(_transaction_options(request))
    modes = [o.read_write for o in options]
    return any(len(UnknownFieldSet(part)) for part in (request, *mutations, *options, *modes))


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
        name = operation.queue if kind in ("send", "ack") else operation.table
        columns = () if kind in WITHOUT_COLUMNS else tuple(operation.columns)
        found.add(MutationShape(MutationKind(kind), name, columns))
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
