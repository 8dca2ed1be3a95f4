"""What "allowed" means, as a program: the oracle that every engine of Spangate is held against.

Rules: slow and obviously right before anything else. It shares no code with src/: plain dicts in, its own small values
out; only the standard library, google.protobuf and Google's published messages. Each function is one rule of
decision.md and is named for it. It is never part of the product.
Not here: what an SQL statement reads and writes (the corpus says so by hand), the cryptography of seals (the world says
which handle was given to whom).

A *world* is a dict:
    policy      {"version": 12 hex digits, "identities": {name: SPIFFE ID}, "databases": {alias: DATABASE},
                 "grants": [GRANT], "aliases": {other name of a trust domain: trust domain}}
    DATABASE    {"path": resource name, "schema": SCHEMA, "keep_tags": bool, "secure_context": bool}
    SCHEMA      {"tables": {name: {"columns": [name], "key": [name]}}, "indexes": {name: {"table": name, "columns":
                 [key and stored columns]}}, "queues": [name]}
    GRANT       {"identity": name, "database": alias, "operation": word, "table": name or "", "columns": [name],
                 "every": bool, "deny": bool, "until": aware datetime or None}
    statements  function (alias, sql) -> list of Access, or None for a statement that cannot be read
    sessions    {name as a client sends it: {"identity": SPIFFE ID, "raw": Spanner's own name}}
    handles     {bytes as a client sends them: {"identity": SPIFFE ID, "database": resource name, "kind": one of
                 r, w, p, t, "policy": version, "raw": bytes that Spanner gave out}}
    forgotten   function (bytes) -> whether they were sealed under a key that is not known any more
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from google.cloud.spanner_admin_database_v1 import types as admin
from google.cloud.spanner_v1 import types as v1
from google.longrunning import operations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

MIB = 1024 * 1024
OWNER_LABEL = "spangate-owner"
CONTEXT_KEY = "spangate_identity"
PREVIOUS = "multiplexed_session_previous_transaction_id"
# An answer that Spanner gives itself: the bytes are no message to it, so they make no accesses.
SPANNER_REFUSES = "spanner-refuses"


class Access(NamedTuple):
    """One fact: `operation` on `table` (`columns`); `every` stands for all columns there are, known or not."""

    operation: str
    table: str
    columns: frozenset[str] = frozenset()
    every: bool = False


# `status-of-slips`: google.rpc.Code of the refusals that are the program's own slip; all others but those of
# `sessions-apart` and `transactions-apart`, whose keys may be gone, are PERMISSION_DENIED.
STATUS_OF: Mapping[str, int] = {"unreadable-statement": 3, "unknown-table": 5}


class Refusal(Exception):
    """The request is refused for this reason."""

    def __init__(self, reason: str, why: str = "") -> None:
        super().__init__(f"{reason}: {why}")
        self.reason = reason


@dataclass(frozen=True)
class Outcome:
    """The answer. `missing` is set for `missing-grant`, `exceptions` for `denied`, `sent` when allowed."""

    allowed: bool
    reason: str
    accesses: frozenset[Access] = frozenset()
    missing: frozenset[Access] = frozenset()
    exceptions: tuple[Mapping[str, Any], ...] = ()
    sent: Any = None


# The decision -------------------------------------------------------------------------------------------------------


def standing_grants(policy: Mapping[str, Any], name: str, alias: str, now: datetime) -> list[Mapping[str, Any]]:
    """`until-exclusive`, `identity-apart`, `database-apart`: the grants that count for this identity here and now."""
    return [
        grant
        for grant in policy["grants"]
        if grant["identity"] == name and grant["database"] == alias and (grant["until"] is None or now < grant["until"])
    ]


def is_about(grant: Mapping[str, Any], access: Access) -> bool:
    """Whether the grant speaks of what the access does, whatever the columns."""
    if grant["operation"] != access.operation:
        return False
    # `pdml-own-grant`: where a transaction begins, no table is known yet; a grant on any table lets it begin.
    if access.operation == "partitioned_dml" and access.table == "":
        return True
    return bool(grant["table"] == access.table)


def is_hit_by(access: Access, exception: Mapping[str, Any]) -> bool:
    """`exceptions-win`: whether this exception denies the access."""
    if not is_about(exception, access):
        return False
    if access.operation == "partitioned_dml" and access.table == "":
        # The statement will say which table; an exception on one is no exception on all.
        return False
    if not exception["columns"] or exception["every"]:
        return True
    return access.every or bool(set(exception["columns"]) & access.columns)


def uncovered(access: Access, grants: Sequence[Mapping[str, Any]]) -> Access | None:
    """`adds-up`, `star-needs-every-column`: the part of the access that no grant gives; None if all is given."""
    about = [grant for grant in grants if is_about(grant, access)]
    if not about:
        return access
    given = {column for grant in about for column in grant["columns"]}
    columns = access.columns - given
    every = access.every and not any(grant["every"] for grant in about)
    return Access(access.operation, access.table, frozenset(columns), every) if columns or every else None


def together(accesses: Iterable[Access]) -> frozenset[Access]:
    """`order-free`: one Access for each operation and table, however often and in which order they were found."""
    found: dict[tuple[str, str], Access] = {}
    for one in accesses:
        before = found.get((one.operation, one.table), Access(one.operation, one.table))
        found[one.operation, one.table] = Access(
            one.operation, one.table, before.columns | one.columns, before.every or one.every
        )
    return frozenset(found.values())


def decide(grants: Sequence[Mapping[str, Any]], accesses: Iterable[Access]) -> Outcome:
    """The rule, for the grants that stand: denied, missing-grant or granted."""
    wanted = together(accesses)
    allows = [grant for grant in grants if not grant["deny"]]
    exceptions = [grant for grant in grants if grant["deny"]]
    hit = tuple(one for one in exceptions if any(is_hit_by(access, one) for access in wanted))
    missing = frozenset(lacking for access in wanted if (lacking := uncovered(access, allows)) is not None)
    if hit:
        return Outcome(False, "denied", wanted, missing, hit)
    if missing or not allows:
        return Outcome(False, "missing-grant", wanted, missing)
    return Outcome(True, "granted", wanted)


def rests_on_exactly(grants: Sequence[Mapping[str, Any]], accesses: Iterable[Access]) -> bool:
    """`rests-on-exactly`: these grants alone give the accesses, and without any one of them they are not given."""
    wanted = list(accesses)
    if not wanted:
        return not grants
    without_one = [[*grants[:i], *grants[i + 1 :]] for i in range(len(grants))]
    return decide(grants, wanted).allowed and not any(decide(fewer, wanted).allowed for fewer in without_one)


# Names in the schema ------------------------------------------------------------------------------------------------


def spelled(name: str, names: Iterable[str], what: str) -> str:
    """`any-case`: the schema's spelling of a name. `unknown-names`: none means that nothing can be said."""
    for known in names:
        if known.lower() == name.lower():
            return known
    raise Refusal("unknown-table", f"no {what} {name!r}")


def columns_of(names: Iterable[str], table: Mapping[str, Any]) -> frozenset[str]:
    """Columns of the table, as the schema spells them."""
    return frozenset(spelled(name, table["columns"], "column") for name in names)


def read_accesses(request: Any, schema: Mapping[str, Any]) -> list[Access]:
    """`index-read`: listed columns, key, and with an index the columns that it holds."""
    name = spelled(request.table, schema["tables"], "table")
    table = schema["tables"][name]
    columns = columns_of(request.columns, table) | frozenset(table["key"])
    if request.index and request.index.lower() != "primary_key":
        index = schema["indexes"][spelled(request.index, schema["indexes"], "index")]
        if index["table"] != name:
            raise Refusal("unknown-table", f"{request.index!r} is the index of another table")
        columns |= frozenset(index["columns"])
    return [Access("read", name, columns)]


def mutation_accesses(mutation: Any, schema: Mapping[str, Any]) -> list[Access]:
    """`insert-or-update`, `replace-deletes`, `update-without-key`, `delete-is-whole`, `queues-own-grant`."""
    kind = mutation.WhichOneof("operation")
    if kind is None:
        raise Refusal("malformed-request", "a mutation of no kind")
    body = getattr(mutation, kind)
    if kind in ("send", "ack"):
        return [Access(kind, spelled(body.queue, schema.get("queues", ()), "queue"))]
    name = spelled(body.table, schema["tables"], "table")
    table = schema["tables"][name]
    if kind == "delete":
        return [Access("delete", name)]
    columns = columns_of(body.columns, table)
    inserts = Access("insert", name, columns)
    updates = Access("update", name, columns - frozenset(table["key"]))
    deletes = Access("delete", name)
    return {
        "insert": [inserts],
        "update": [updates],
        "insert_or_update": [inserts, updates],
        "replace": [deletes, inserts],
    }[kind]


# The bytes ----------------------------------------------------------------------------------------------------------

# Messages whose fields a decision or a rewriting depends on: read strictly, field by field. What is in others
# (parameters' values, rows, key sets, options of the optimizer) changes no access: `opaque-parts`.
_READ_STRICTLY = frozenset(
    "google.spanner.v1." + name
    for name in (
        "ExecuteSqlRequest ExecuteSqlRequest.ParamTypesEntry ExecuteBatchDmlRequest ExecuteBatchDmlRequest.Statement "
        "ExecuteBatchDmlRequest.Statement.ParamTypesEntry ReadRequest BeginTransactionRequest CommitRequest "
        "RollbackRequest CreateSessionRequest BatchCreateSessionsRequest GetSessionRequest DeleteSessionRequest "
        "Session.LabelsEntry ListSessionsRequest PartitionQueryRequest PartitionQueryRequest.ParamTypesEntry "
        "PartitionReadRequest "
        "BatchWriteRequest BatchWriteRequest.MutationGroup Session TransactionSelector TransactionOptions "
        "TransactionOptions.ReadWrite RequestOptions Mutation Mutation.Write Mutation.Delete Mutation.Send "
        "Mutation.Ack Type StructType StructType.Field"
    ).split()
) | {
    "google.spanner.admin.database.v1.GetDatabaseDdlRequest",
    "google.spanner.admin.database.v1.UpdateDatabaseDdlRequest",
    "google.longrunning.GetOperationRequest",
}
# `client-controls-not`: fields that a client must not control.
_CUT = frozenset({"routing_hint", "client_context"})
_FIXED64 = frozenset({FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64})
_FIXED32 = frozenset({FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_SFIXED32})
_DELIMITED = frozenset({FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE})


def malformed(why: str) -> Refusal:
    """The bytes cannot be read in one way only."""
    return Refusal("malformed-request", why)


def varint(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """`minimal-numbers`: a number in its shortest encoding, of at most so many bits, and where it ends."""
    end = at
    while True:
        if end >= len(data):
            raise malformed("it breaks off")
        if end - at >= 10:
            raise malformed("a number of more than ten bytes")
        end += 1
        if data[end - 1] < 128:
            break
    value = 0
    for byte in reversed(data[at:end]):
        value = value * 128 + byte % 128
    if data[end - 1] == 0 and end - at > 1:
        raise malformed("a number longer than it need be")
    if value >= 2**bits:
        raise malformed("a number out of range")
    return value, end


def wire_type_of(field: FieldDescriptor) -> int:
    """`wire-types`: the one that its own type has, not packed: no list of numbers is read strictly."""
    if field.type in _FIXED64:
        return 1
    if field.type in _FIXED32:
        return 5
    return 2 if field.type in _DELIMITED else 0


def strict(data: bytes, descriptor: Descriptor) -> bytes:
    """The message without what is to be cut out. `known-fields`, `once-only`, `wire-types`: anything odd refuses."""
    kept = b""
    seen: set[str] = set()
    at = 0
    while at < len(data):
        start = at
        tag, at = varint(data, at, 32)
        field = descriptor.fields_by_number.get(tag // 8)
        if field is None:
            raise malformed(f"field {tag // 8} of {descriptor.name} is not known")
        wire_type = (
            1 if field.type in _FIXED64 else 5 if field.type in _FIXED32 else 2 if field.type in _DELIMITED else 0
        )
        if tag % 8 != wire_type:
            raise malformed(f"{field.name} has the wire type {tag % 8}")
        # A oneof stands there once as well: with two of its fields, readers keep the last.
        once = field.containing_oneof.name if field.containing_oneof is not None else field.name
        if not field.is_repeated:
            if once in seen:
                raise malformed(f"{once} is there twice")
            seen.add(once)
        if wire_type == 0:
            _, at = varint(data, at, 64)
        elif wire_type == 2:
            length, at = varint(data, at, 32)
            payload, at = data[at : at + length], at + length
        else:
            at += 8 if wire_type == 1 else 4
        if at > len(data):
            raise malformed("it breaks off")
        if field.name in _CUT:
            continue
        if wire_type == 2 and field.message_type is not None and field.message_type.full_name in _READ_STRICTLY:
            inner = strict(payload, field.message_type)
            kept += encoded(tag) + encoded(len(inner)) + inner
        else:
            kept += data[start:at]
    return kept


def encoded(value: int) -> bytes:
    """The number as a varint."""
    found = b""
    while value > 127:
        found += bytes([value % 128 + 128])
        value //= 128
    return found + bytes([value])


def one_message(body: bytes, bytes_max: int) -> bytes:
    """`one-message`, `uncompressed`, `within-limits`: the payload of a gRPC body."""
    if len(body) < 5:
        raise malformed("no message")
    if body[0] == 1:
        raise Refusal("compressed-message")
    if body[0] != 0:
        raise malformed("unknown flags")
    length = int.from_bytes(body[1:5], "big")
    if max(length, len(body) - 5) > bytes_max:
        raise Refusal("request-too-large")
    if length != len(body) - 5:
        raise malformed("not exactly one message")
    return body[5:]


# The RPCs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rpc:
    """How one RPC is judged. `at` names the field that says where; `does` gives the accesses, in a schema."""

    message: Any
    at: str
    does: Callable[[Any, Mapping[str, Any], Callable[[str], list[Access]]], list[Access]]
    bytes_max: int = 10 * MIB


def nothing(_request: Any, _schema: Any, _statement: Any) -> list[Access]:
    """`no-access-needs-standing`: the call touches no table."""
    return []


def statement(request: Any, _schema: Any, accesses: Callable[[str], list[Access]]) -> list[Access]:
    """The accesses of its statement."""
    check_types(request)
    return accesses(request.sql)


def batch(request: Any, _schema: Any, accesses: Callable[[str], list[Access]]) -> list[Access]:
    """`batch-is-all`: the accesses of all its statements."""
    for one in request.statements:
        check_types(one)
    return [access for one in request.statements for access in accesses(one.sql)]


def read(request: Any, schema: Mapping[str, Any], _statement: Any) -> list[Access]:
    """The accesses of a read."""
    return read_accesses(request, schema)


def mutations(request: Any, schema: Mapping[str, Any], _statement: Any) -> list[Access]:
    """`key-is-a-mutation`: the accesses of all mutations, be it of a Commit, of a group, or as a transaction's key."""
    found = list(getattr(request, "mutations", ()))
    found += [one for group in getattr(request, "mutation_groups", ()) for one in group.mutations]
    if "mutation_key" in request.DESCRIPTOR.fields_by_name and request.HasField("mutation_key"):
        found.append(request.mutation_key)
    return [access for mutation in found for access in mutation_accesses(mutation, schema)]


def schema_read(_request: Any, _schema: Any, _statement: Any) -> list[Access]:
    """`schema-own-grant`."""
    return [Access("schema", "")]


def ddl(_request: Any, _schema: Any, _statement: Any) -> list[Access]:
    """`ddl-own-grant`."""
    return [Access("ddl", "")]


def ddl_statements(request: Any, _schema: Any, _statement: Any) -> list[Access]:
    """`roles-are-spangates`: DDL that changes who may do what in the database is not a client's to send."""
    for text in request.statements:
        for one in re.sub(r"--[^\n]*|#[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL).upper().split(";"):
            words = one.split()
            if words[:1] in (["GRANT"], ["REVOKE"]) or words[1:2] == ["ROLE"]:
                raise Refusal("unsupported-feature", "roles are Spangate's")
    return [Access("ddl", "")]


_V1 = "/google.spanner.v1.Spanner/"
RPCS: Mapping[str, Rpc] = {
    _V1 + "CreateSession": Rpc(v1.CreateSessionRequest.pb(), "database", nothing),
    _V1 + "BatchCreateSessions": Rpc(v1.BatchCreateSessionsRequest.pb(), "database", nothing),
    _V1 + "GetSession": Rpc(v1.GetSessionRequest.pb(), "name", nothing),
    _V1 + "ListSessions": Rpc(v1.ListSessionsRequest.pb(), "database", nothing),
    _V1 + "DeleteSession": Rpc(v1.DeleteSessionRequest.pb(), "name", nothing),
    _V1 + "ExecuteSql": Rpc(v1.ExecuteSqlRequest.pb(), "session", statement),
    _V1 + "ExecuteStreamingSql": Rpc(v1.ExecuteSqlRequest.pb(), "session", statement),
    _V1 + "ExecuteBatchDml": Rpc(v1.ExecuteBatchDmlRequest.pb(), "session", batch),
    _V1 + "Read": Rpc(v1.ReadRequest.pb(), "session", read),
    _V1 + "StreamingRead": Rpc(v1.ReadRequest.pb(), "session", read),
    _V1 + "BeginTransaction": Rpc(v1.BeginTransactionRequest.pb(), "session", mutations),
    _V1 + "Commit": Rpc(v1.CommitRequest.pb(), "session", mutations, bytes_max=100 * MIB),
    _V1 + "Rollback": Rpc(v1.RollbackRequest.pb(), "session", nothing),
    _V1 + "PartitionQuery": Rpc(v1.PartitionQueryRequest.pb(), "session", statement),
    _V1 + "PartitionRead": Rpc(v1.PartitionReadRequest.pb(), "session", read),
    _V1 + "BatchWrite": Rpc(v1.BatchWriteRequest.pb(), "session", mutations),
    "/google.spanner.admin.database.v1.DatabaseAdmin/GetDatabaseDdl": Rpc(
        admin.GetDatabaseDdlRequest.pb(), "database", schema_read
    ),
    "/google.spanner.admin.database.v1.DatabaseAdmin/UpdateDatabaseDdl": Rpc(
        admin.UpdateDatabaseDdlRequest.pb(), "database", ddl_statements
    ),
    "/google.longrunning.Operations/GetOperation": Rpc(operations_pb2.GetOperationRequest, "name", ddl),
}

_PART = "[A-Za-z0-9._:-]{1,128}"
_DATABASE = f"projects/{_PART}/instances/{_PART}/databases/{_PART}"
_SESSION = re.compile(f"({_DATABASE})/sessions/[A-Za-z0-9._~=:-]+", re.ASCII)
_OPERATION = re.compile(f"({_DATABASE})/operations/[A-Za-z0-9._~=:-]+", re.ASCII)


def place(rpc: Rpc, request: Any) -> tuple[str, str | None]:
    """`body-says-where`: the database, and the session if the request is in one, as the body names them."""
    name = getattr(request, rpc.at)
    if rpc.at == "database":
        if not re.fullmatch(_DATABASE, name, re.ASCII):
            raise malformed("no readable database")
        return name, None
    is_operation = rpc.message is operations_pb2.GetOperationRequest
    match = (_OPERATION if is_operation else _SESSION).fullmatch(name)
    if match is None:
        raise malformed("no readable session or operation")
    return match[1], None if is_operation else name


def check_types(request: Any) -> None:
    """`types-are-types`: a parameter has a type that Spanner has, and one only."""
    for type_ in request.param_types.values():
        check_type(type_, 0)


def check_type(type_: Any, depth: int) -> None:
    """A known code, with exactly the parts that it takes, nested at most 32 deep."""
    array, struct = type_.HasField("array_element_type"), type_.HasField("struct_type")
    known = type_.code in {code.value for code in v1.TypeCode} and type_.code != 0
    if (
        not known
        or depth > 32
        or array != (type_.code == v1.TypeCode.ARRAY)
        or struct != (type_.code == v1.TypeCode.STRUCT)
    ):
        raise malformed("a parameter's type")
    if array:
        check_type(type_.array_element_type, depth + 1)
    for field in type_.struct_type.fields if struct else ():
        check_type(field.type_, depth + 1)


def parameter_twice(data: bytes, descriptor: Descriptor) -> bool:
    """Whether a message on the way down declares two types for one parameter; `data` has passed `strict`."""
    names: set[bytes] = set()
    for field, payload in fields_of(data, descriptor):
        if field.message_type is None or field.message_type.full_name not in _READ_STRICTLY:
            continue
        if field.name == "param_types":
            name = next((inner for key, inner in fields_of(payload, field.message_type) if key.name == "key"), b"")
            if name in names:
                return True
            names.add(name)
        elif parameter_twice(payload, field.message_type):
            return True
    return False


def fields_of(data: bytes, descriptor: Descriptor) -> Iterator[tuple[FieldDescriptor, bytes]]:
    """The length-delimited fields of a message that has passed `strict`."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at, 32)
        field = descriptor.fields_by_number[tag // 8]
        if tag % 8 == 0:
            _, at = varint(data, at, 64)
        elif tag % 8 == 2:
            length, at = varint(data, at, 32)
            yield field, data[at : at + length]
            at += length
        else:
            at += 8 if tag % 8 == 1 else 4


# Transactions -------------------------------------------------------------------------------------------------------


def transaction_options(request: Any) -> list[Any]:
    """Every TransactionOptions of a request, wherever it stands."""
    found = []
    for field, value in request.ListFields():
        if field.message_type is None or field.is_repeated:
            continue
        if field.message_type.name == "TransactionOptions":
            found.append(value)
        elif field.message_type.name == "TransactionSelector":
            found += transaction_options(value)
    return found


def hides(request: Any) -> bool:
    """Whether it asks that change streams do not see its writes."""
    return any(one.exclude_txn_from_change_streams for one in transaction_options(request)) or bool(
        getattr(request, "exclude_txn_from_change_streams", False)
    )


class Holder(NamedTuple):
    """A field that holds something Spanner gave out: the message, the field's name, the kinds that may stand there."""

    message: Any
    field: str
    kinds: str


def handles_in(request: Any) -> list[Holder]:
    """`transactions-apart`, `partitions-apart`: every transaction id and partition token in a request."""
    found = []
    fields = request.DESCRIPTOR.fields_by_name
    if "partition_token" in fields and request.partition_token:
        found.append(Holder(request, "partition_token", "t"))
    is_commit = request.DESCRIPTOR.name == "CommitRequest"
    # As one of a choice it is there even if it is empty; alone, an empty one is none.
    if request.WhichOneof("transaction") == "transaction_id" if is_commit else getattr(request, "transaction_id", b""):
        found.append(Holder(request, "transaction_id", "rwp"))
    if "transaction" in fields and request.transaction.WhichOneof("selector") == "id":
        found.append(Holder(request.transaction, "id", "rwp"))
    begun = [options.read_write for options in transaction_options(request) if options.HasField("read_write")]
    return found + [Holder(one, PREVIOUS, "rwp") for one in begun if getattr(one, PREVIOUS)]


# Everything together ------------------------------------------------------------------------------------------------


def key_of(spiffe_id: str) -> str:
    """64 bits of SHA-256 in base32: what stands for an identity in tags and labels."""
    return base64.b32encode(hashlib.sha256(spiffe_id.encode()).digest()[:8]).decode().rstrip("=").lower()


def judge(world: Mapping[str, Any], now: datetime, identity: str | None, path: str, body: bytes) -> Outcome:
    """The answer to a request by the verified `identity` (None: no certificate). `error-denies`: nothing raises."""
    try:
        return judged(world, now, identity, path, body)
    except Refusal as refusal:
        return Outcome(False, refusal.reason)


def judged(world: Mapping[str, Any], now: datetime, identity: str | None, path: str, body: bytes) -> Outcome:
    """As `judge`; raises Refusal."""
    if identity is None:
        raise Refusal("no-certificate")
    identity = itself(world["policy"], identity)
    rpc = RPCS.get(path)
    if rpc is None:
        raise Refusal("unsupported-rpc")
    data = one_message(body, rpc.bytes_max)
    kept = strict(data, rpc.message.DESCRIPTOR)
    if parameter_twice(kept, rpc.message.DESCRIPTOR):
        raise malformed("a parameter with two types")
    request = rpc.message()
    try:
        request.ParseFromString(kept)
    except DecodeError:
        raise Refusal(SPANNER_REFUSES) from None
    where, session = place(rpc, request)
    refuse_own_label(request)
    if session is not None:
        setattr(request, rpc.at, raw_session(world, identity, session))
    opened = [(holder, opened_for(world, identity, where, holder)) for holder in handles_in(request)]

    policy = world["policy"]
    name = next((name for name, spiffe_id in policy["identities"].items() if spiffe_id == identity), None)
    if name is None:
        raise Refusal("unknown-identity")
    alias = next((alias for alias, one in policy["databases"].items() if one["path"] == where), None)
    if alias is None:
        raise Refusal("unknown-database")
    grants = standing_grants(policy, name, alias, now)
    if not any(not grant["deny"] for grant in grants):
        # Said before anything about the schema is: whoever has no business here learns nothing.
        raise Refusal("missing-grant")
    within = [handle["kind"] for holder, handle in opened if holder.field in ("id", "transaction_id")]
    accesses = accesses_of(world, alias, rpc, request, within)
    outcome = decide(grants, accesses)
    if not outcome.allowed:
        return outcome
    rewrite(world, policy["databases"][alias], name, identity, request, opened)
    return Outcome(True, outcome.reason, outcome.accesses, sent=request)


def itself(policy: Mapping[str, Any], identity: str) -> str:
    """`alias-same`: the identity that a certificate's name stands for."""
    scheme, trust_domain, path = re.fullmatch(r"(spiffe://)([^/]*)(/.*)", identity, re.DOTALL).groups()  # type: ignore[union-attr]
    return scheme + policy["aliases"].get(trust_domain, trust_domain) + path


def refuse_own_label(request: Any) -> None:
    """`owner-forced`: the label that says whose a session is cannot be claimed."""
    for field, value in request.ListFields():
        creates = field.name in ("session", "session_template") and field.message_type is not None
        if creates and OWNER_LABEL in value.labels:
            raise Refusal("unsupported-feature", "the label is Spangate's")


def raw_session(world: Mapping[str, Any], identity: str, name: str) -> str:
    """`sessions-apart`: Spanner's name of the session, if it was made by this identity."""
    found = world["sessions"].get(name)
    if found is None or found["identity"] != identity:
        raise Refusal("foreign-session")
    return str(found["raw"])


def opened_for(world: Mapping[str, Any], identity: str, where: str, holder: Holder) -> Mapping[str, Any]:
    """The handle, if it was given to this identity in this database as something of such a kind."""
    value = getattr(holder.message, holder.field)
    if holder.field == PREVIOUS and world["forgotten"](value):
        # It only says who waited first; without it, the transaction waits a little longer.
        return {"kind": "w", "raw": b"", "policy": ""}
    found = world["handles"].get(value)
    if (
        found is None
        or found["identity"] != identity
        or found["database"] != where
        or found["kind"] not in holder.kinds
    ):
        raise Refusal("foreign-transaction")
    return dict(found)


def accesses_of(world: Mapping[str, Any], alias: str, rpc: Rpc, request: Any, within: Sequence[str]) -> list[Access]:
    """`hiding-own-grant`, `pdml-own-grant`, and what the RPC itself does."""

    def of_statement(sql: str) -> list[Access]:
        found = world["statements"](alias, sql)
        if found is None:
            raise Refusal("unreadable-statement")
        return list(found)

    found = rpc.does(request, world["policy"]["databases"][alias]["schema"], of_statement)
    options = transaction_options(request)
    partitioned = "p" in within or any(one.HasField("partitioned_dml") for one in options)
    if partitioned and (rpc.does is statement or (rpc.does is batch and request.statements)):
        found += [
            Access("partitioned_dml", access.table)
            for access in found
            if access.operation in ("insert", "update", "delete")
        ]
    elif partitioned:
        found.append(Access("partitioned_dml", ""))
    if hides(request):
        found.append(Access("exclude_from_change_streams", ""))
    return found


def rewrite(
    world: Mapping[str, Any],
    database: Mapping[str, Any],
    name: str,
    identity: str,
    request: Any,
    opened: Sequence[tuple[Holder, Mapping[str, Any]]],
) -> None:
    """`role-forced`, `tag-forced`, `owner-forced`, and Spanner's own bytes for what was sealed. In place."""
    fields = request.DESCRIPTOR.fields_by_name
    version = world["policy"]["version"]
    for holder, handle in opened:
        setattr(holder.message, holder.field, handle["raw"])
        # `one-tag-a-transaction`: the version under which it began, whatever is in force now.
        if holder.field in ("id", "transaction_id"):
            version = handle["policy"]
    for field in ("session", "session_template"):
        if field in fields and fields[field].message_type is not None:
            session = getattr(request, field)
            session.creator_role = "sg_" + name.replace("-", "_")
            # Spanner lists no multiplexed sessions, and takes no labels on them.
            if not session.multiplexed:
                session.labels[OWNER_LABEL] = "i" + key_of(identity)
    if "request_options" in fields:
        options = request.request_options
        options.transaction_tag = tag(version, identity, options.transaction_tag if database["keep_tags"] else "")
        if database["secure_context"]:
            options.client_context.secure_context[CONTEXT_KEY].string_value = identity


def tag(version: str, identity: str, own: str) -> str:
    """`sg:<identity key>:<policy version>`, and with `tags: keep` the application's own behind it, to 50 characters."""
    ours = f"sg:{key_of(identity)}:{version}"
    # Spanner takes printable ASCII only; each other byte becomes an underscore.
    printable = "".join(chr(byte) if 32 <= byte < 127 else "_" for byte in own.encode())
    return f"{ours}:{printable}"[:50] if own else ours
