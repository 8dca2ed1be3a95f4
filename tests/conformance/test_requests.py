"""For every RPC: the filter's shape is what google.protobuf's message means, and what is sent on is that message with
exactly the changes that are meant."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from google.cloud.spanner_v1 import types
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.checkpoint import OWNER, ROLE, TAG, FakeCheckpoint
from fakes.envoy import IDENTITY, Stream, Worker
from fakes.spanner_oracle import (
    CREATES,
    DATABASE,
    NAMES,
    OWNER_LABEL,
    RAW_SESSION,
    REQUESTS,
    SESSION,
    comparable,
    expected_rewrite,
    expected_shape,
    framed,
    message,
    path,
)
from fakes.spanner_requests import random_request
from spangate.rpc.shape import MutationKind, MutationShape, ReadShape, Statement, decode_shape

INT64, STRING = types.TypeCode.INT64, types.TypeCode.STRING
READ_WRITE = {"read_write": {"read_lock_mode": 2, "multiplexed_session_previous_transaction_id": b"\0before"}}
READ_ONLY = {"read_only": {"exact_staleness": {"seconds": 10, "nanos": 5}, "return_read_timestamp": True}}
FORGED = {
    "priority": 1,
    "request_tag": "mine",
    "transaction_tag": "sg:somebody:else",
    "client_context": {"secure_context": {"user": "admin"}},
}
ROUTING_HINT = {"operation_uid": 7, "database_id": 9, "key": b"k" * 300, "client_location": "here"}
SQL = {
    "sql": "SELECT Name FROM Customers WHERE CustomerId = @id AND Region IN UNNEST(@regions)",
    "params": {"id": "1", "regions": ["north", "süd"]},
    "param_types": {"id": {"code": INT64}, "regions": {"code": 8, "array_element_type": {"code": STRING}}},
    "resume_token": b"\0\1\2",
    "query_mode": 2,
    "seqno": -1,
    "query_options": {"optimizer_version": "7"},
    "directed_read_options": {"include_replicas": {"replica_selections": [{"location": "eu", "type_": 1}]}},
    "data_boost_enabled": True,
    "last_statement": True,
    "request_options": FORGED,
    "routing_hint": ROUTING_HINT,
}
READ = {
    "table": "Orders",
    "index": "OrdersByCustomer",
    "columns": ["OrderId", "Total", "Total"],
    "key_set": {"keys": [["1"], ["2"]], "ranges": [{"start_closed": ["a"], "end_open": ["b"]}]},
    "limit": 10,
    "order_by": 1,
    "lock_hint": 2,
    "request_options": FORGED,
    "routing_hint": ROUTING_HINT,
}
INSERT = {"insert": {"table": "Orders", "columns": ["OrderId", "Total"], "values": [["1", "2"], ["3", "4"]]}}
SEND = {"send": {"queue": "Work", "key": ["1"], "deliver_time": {"seconds": 1}, "payload": "do it"}}
ACK = {"ack": {"queue": "Work", "key": ["1"], "ignore_not_found": True}}
MUTATIONS = [
    INSERT,
    {"update": {"table": "Orders", "columns": ["OrderId", "Status"], "values": [["1", "paid"]]}},
    {"insert_or_update": {"table": "Carts", "columns": [], "values": []}},
    {"replace": {"table": "Carts", "columns": ["CartId"], "values": [["1"]]}},
    {"delete": {"table": "Orders", "key_set": {"all_": True}}},
    INSERT,
]
DML = {"sql": "UPDATE Orders SET Status = @s WHERE TRUE", "params": {"s": "x"}, "param_types": {"s": {"code": STRING}}}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sql, everything set": ("ExecuteSql", {**SQL, "transaction": {"begin": READ_WRITE}}),
    "sql, streaming, single use": ("ExecuteStreamingSql", {**SQL, "transaction": {"single_use": READ_ONLY}}),
    "sql, in a transaction": ("ExecuteSql", {"sql": "SELECT 1", "transaction": {"id": b"\0\xfftx"}}),
    "sql, nothing but the statement": ("ExecuteSql", {"sql": "SELECT 1"}),
    "sql, empty options": ("ExecuteSql", {"sql": "SELECT 1", "request_options": {}}),
    "sql, only a client context": ("ExecuteSql", {"sql": "S", "request_options": {"client_context": {}}}),
    "sql, only a routing hint": ("ExecuteSql", {"sql": "S", "routing_hint": {}}),
    "sql, long": ("ExecuteSql", {"sql": "SELECT '" + "ä\0:," * 50_000 + "'", "request_options": FORGED}),
    "sql, not excluded from change streams": (
        "ExecuteSql",
        {"sql": "S", "transaction": {"begin": {"read_write": {}, "isolation_level": 2}}},
    ),
    "batch": (
        "ExecuteBatchDml",
        {
            "statements": [DML, DML, {"sql": "DELETE FROM Orders WHERE FALSE"}],
            "transaction": {"begin": READ_WRITE},
            "seqno": 3,
            "last_statements": True,
            "request_options": FORGED,
        },
    ),
    "read, by an index": ("Read", {**READ, "transaction": {"single_use": READ_ONLY}}),
    "read, streaming, by key": (
        "StreamingRead",
        {"table": "Orders", "columns": ["OrderId"], "key_set": {"all_": True}},
    ),
    "begin": ("BeginTransaction", {"options": READ_WRITE, "request_options": FORGED, "routing_hint": ROUTING_HINT}),
    "begin, with a mutation key": ("BeginTransaction", {"options": READ_WRITE, "mutation_key": INSERT}),
    "commit, everything set": (
        "Commit",
        {
            "transaction_id": b"\0tx",
            "mutations": MUTATIONS,
            "return_commit_stats": True,
            "request_options": FORGED,
            "max_commit_delay": {"nanos": 1_000_000},
            "precommit_token": {"precommit_token": b"t", "seq_num": 4},
            "routing_hint": ROUTING_HINT,
        },
    ),
    "commit, single use": ("Commit", {"single_use_transaction": READ_WRITE, "mutations": [INSERT]}),
    "commit, no mutation": ("Commit", {"transaction_id": b"tx"}),
    "sql, hidden from change streams": (
        "ExecuteSql",
        {"sql": "S", "transaction": {"begin": {"read_write": {}, "exclude_txn_from_change_streams": True}}},
    ),
    "sql, partitioned DML begun": ("ExecuteSql", {"sql": "S", "transaction": {"begin": {"partitioned_dml": {}}}}),
    "sql, of a partition": ("ExecuteStreamingSql", {"sql": "S", "partition_token": b"token"}),
    "read, of a partition": ("StreamingRead", {"table": "Orders", "partition_token": b"token"}),
    "partition a query": (
        "PartitionQuery",
        {
            **{key: SQL[key] for key in ("sql", "params", "param_types")},
            "transaction": {"begin": READ_ONLY},
            "partition_options": {"partition_size_bytes": 1, "max_partitions": 2},
        },
    ),
    "partition a read": (
        "PartitionRead",
        {
            **{key: READ[key] for key in ("table", "index", "columns", "key_set")},
            "transaction": {"id": b"tx"},
            "partition_options": {"max_partitions": 2},
        },
    ),
    "begin, partitioned DML, hidden": (
        "BeginTransaction",
        {"options": {"partitioned_dml": {}, "exclude_txn_from_change_streams": True}},
    ),
    "commit, hidden": (
        "Commit",
        {"single_use_transaction": {"read_write": {}, "exclude_txn_from_change_streams": True}, "mutations": [INSERT]},
    ),
    "commit, queues": ("Commit", {"transaction_id": b"tx", "mutations": [SEND, ACK, INSERT]}),
    "batch write": (
        "BatchWrite",
        {
            "mutation_groups": [{"mutations": MUTATIONS}, {"mutations": []}, {"mutations": [SEND, INSERT]}],
            "request_options": FORGED,
            "exclude_txn_from_change_streams": True,
        },
    ),
    "batch write, nothing": ("BatchWrite", {}),
    "sessions, listed": ("ListSessions", {"page_size": 5, "page_token": "t", "filter": "labels.a:b"}),
    "schema": ("GetDatabaseDdl", {}),
    "the database": ("GetDatabase", {}),
    "schema, changed": (
        "UpdateDatabaseDdl",
        {
            "statements": ["CREATE TABLE T (A INT64) PRIMARY KEY (A)", "DROP TABLE T"],
            "operation_id": "one",
            "proto_descriptors": b"p",
            "throughput_mode": True,
        },
    ),
    "operation": ("GetOperation", {}),
    "rollback": ("Rollback", {"transaction_id": b"tx"}),
    "session": ("CreateSession", {}),
    "session, role and all": (
        "CreateSession",
        {"session": {"labels": {"a": "b", "c": "d"}, "creator_role": "admin", "multiplexed": True, "name": "n"}},
    ),
    "sessions": ("BatchCreateSessions", {"session_template": {"creator_role": "admin"}, "session_count": 25}),
    "sessions, no template": ("BatchCreateSessions", {"session_count": 1}),
    "session, looked at": ("GetSession", {}),
    "session, ended": ("DeleteSession", {}),
}


TAGGED = {method for method, request in REQUESTS.items() if "request_options" in request.DESCRIPTOR.fields_by_name}


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker()


def sent(worker: Worker, method: str, request: Any) -> tuple[Stream, bytes]:
    """The stream, and the shape that the filter asked about."""
    # A new epoch each time: nothing is remembered.
    worker.now_ms += 1000
    checkpoint = FakeCheckpoint(epoch=b"e%d" % worker.now_ms)
    stream = worker.send(path(method), framed(request.SerializeToString()), checkpoint)
    assert stream.admitted, (stream.metadata, stream.log)
    [(identity, shape)] = checkpoint.asked
    assert identity == IDENTITY
    return stream, shape


def rewritten(method: str, request: Any) -> Any:
    """What Spanner must receive for `request`."""
    return expected_rewrite(method, request, ROLE.decode(), TAG.decode(), OWNER.decode())


def received(stream: Stream, request: Any) -> Any:
    """What Spanner parses."""
    body = stream.body
    assert body[0] == 0
    assert int.from_bytes(body[1:5], "big") == len(body) - 5
    return type(request).FromString(body[5:])


@pytest.mark.parametrize("case", CASES)
def test_a_request_has_the_shape_that_its_message_means(worker, case):
    method, fields = CASES[case]
    request = message(method, **fields)
    _, shape = sent(worker, method, request)
    assert comparable(decode_shape(shape)) == comparable(expected_shape(method, request))


@pytest.mark.parametrize("case", CASES)
def test_a_request_is_sent_on_as_it_was_but_for_the_changes_meant(worker, case):
    method, fields = CASES[case]
    request = message(method, **fields)
    stream, _ = sent(worker, method, request)
    assert received(stream, request) == rewritten(method, request)


def test_every_method_has_a_case():
    assert {method for method, _ in CASES.values()} == set(REQUESTS)


@pytest.mark.parametrize("method", sorted(CREATES))
def test_the_role_is_forced_whatever_the_client_asked(worker, method):
    template = {"creator_role": "admin", "labels": {"a": "b"}}
    request = message(method, **{CREATES[method]: template})
    stream, _ = sent(worker, method, request)
    session = getattr(received(stream, request), CREATES[method])
    assert session.creator_role == ROLE.decode()
    assert dict(session.labels) == {"a": "b", OWNER_LABEL: "i" + OWNER.decode()}


@pytest.mark.parametrize("method", sorted(TAGGED))
def test_the_tag_is_forced_and_the_secure_context_is_gone(worker, method):
    request = message(method, request_options=FORGED, **({"statements": [DML]} if method == "ExecuteBatchDml" else {}))
    stream, _ = sent(worker, method, request)
    options = received(stream, request).request_options
    assert options.transaction_tag == TAG.decode()
    assert not options.HasField("client_context")
    assert (options.priority, options.request_tag) == (1, "mine")
    assert b"admin" not in stream.body


@pytest.mark.parametrize("hint_first", [False, True])
def test_what_is_cut_may_stand_in_any_order(worker, hint_first):
    whole = message("ExecuteSql", sql="SELECT 1", routing_hint=ROUTING_HINT, request_options=FORGED)
    hint, options, base = type(whole)(), type(whole)(), type(whole)()
    hint.routing_hint.CopyFrom(whole.routing_hint)
    options.request_options.CopyFrom(whole.request_options)
    base.session, base.sql = whole.session, whole.sql
    parts = [hint, base, options] if hint_first else [options, base, hint]
    body = framed(b"".join(part.SerializeToString() for part in parts))
    stream = worker.send(path("ExecuteSql"), body, FakeCheckpoint())
    assert stream.admitted, (stream.metadata, stream.log)
    assert received(stream, whole) == rewritten("ExecuteSql", whole)


def test_a_request_that_takes_neither_role_nor_tag_is_sent_on_with_nothing_but_its_raw_session(worker):
    for method in sorted(set(REQUESTS) - set(CREATES) - TAGGED):
        request = message(method)
        stream, _ = sent(worker, method, request)
        name = RAW_SESSION.encode()
        more = bytes([10, len(name)]) + name if NAMES[method][1] == SESSION else b""
        assert stream.body == framed(request.SerializeToString() + more)


def test_the_same_statement_twice_in_a_batch_is_one_statement(worker):
    _, shape = sent(worker, "ExecuteBatchDml", message("ExecuteBatchDml", statements=[DML] * 50))
    assert [statement.sql for statement in decode_shape(shape).statements] == [DML["sql"]]


def test_number_and_order_of_mutations_do_not_matter(worker):
    _, one = sent(worker, "Commit", message("Commit", mutations=MUTATIONS))
    _, two = sent(worker, "Commit", message("Commit", mutations=[*reversed(MUTATIONS), *MUTATIONS]))
    assert one == two
    assert len(decode_shape(one).mutations) == 5


def test_values_and_keys_are_no_part_of_a_shape(worker):
    for fields in ({"values": [["1", "2"]]}, {"values": [["7", "8"]] * 9}):
        mutation = {"insert": {"table": "Orders", "columns": ["OrderId", "Total"], **fields}}
        _, shape = sent(worker, "Commit", message("Commit", mutations=[mutation]))
        expected = MutationShape(MutationKind.INSERT, "Orders", ("OrderId", "Total"))
        assert decode_shape(shape).mutations == (expected,)


def test_no_text_passes_for_two(worker):
    shapes = set()
    for table, columns in (("T", ["a", "b"]), ("T", ["a,1:b"]), ("T,1:a", ["b"]), ("T", ["a", "", "b"]), ("T", ["ab"])):
        _, shape = sent(worker, "Read", message("Read", table=table, columns=columns))
        assert decode_shape(shape).read == ReadShape(table, "", tuple(columns))
        shapes.add(shape)
    assert len(shapes) == 5


def test_a_statement_with_a_nul_in_it_is_read_to_its_end(worker):
    sql = "SELECT '\0' FROM Orders"
    _, shape = sent(worker, "ExecuteSql", message("ExecuteSql", sql=sql))
    assert decode_shape(shape).statements == (Statement(sql, {}),)


@pytest.mark.parametrize("claimed", [f"{DATABASE}x", "", "projects/other/instances/i/databases/d"])
def test_the_resource_prefix_is_that_of_the_body(worker, claimed):
    worker.now_ms += 1000
    body = framed(message("ExecuteSql", sql="S").SerializeToString())
    headers = {b"google-cloud-resource-prefix": claimed.encode()}
    stream = worker.send(path("ExecuteSql"), body, FakeCheckpoint(), headers=headers)
    assert stream.admitted
    assert stream.headers[b"google-cloud-resource-prefix"] == DATABASE.encode()


@pytest.mark.parametrize("own", [DATABASE, "projects/other/instances/i/databases/d"])
def test_of_several_resource_prefixes_one_is_left(worker, own):
    worker.now_ms += 1000
    name = b"google-cloud-resource-prefix"
    body = framed(message("ExecuteSql", sql="S").SerializeToString())
    more = [(name, own.encode()), (name, b"projects/other/instances/i/databases/e")]
    stream = worker.send(path("ExecuteSql"), body, FakeCheckpoint(), more_headers=more)
    assert stream.headers[name] == DATABASE.encode()


def test_no_resource_prefix_is_added(worker):
    stream, _ = sent(worker, "ExecuteSql", message("ExecuteSql", sql="S"))
    assert b"google-cloud-resource-prefix" not in stream.headers


# Tags and the secure context ------------------------------------------------------------------------------------------


def options_sent(worker: Worker, method: str, more: dict[bytes, bytes], **fields: Any) -> Any:
    worker.now_ms += 1000
    request = message(method, **fields)
    checkpoint = FakeCheckpoint(epoch=b"e%d" % worker.now_ms, more=more)
    for _ in range(2):  # asked, and remembered
        stream = worker.send(path(method), framed(request.SerializeToString()), checkpoint)
        assert stream.admitted, (stream.metadata, stream.log)
    assert len(checkpoint.asked) == 1
    return received(stream, request).request_options


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        ("", TAG.decode()),
        ("pay", TAG.decode() + ":pay"),
        ("x" * 20, TAG.decode() + ":" + "x" * 20),
        ("x" * 2000, TAG.decode() + ":" + "x" * 20),
        ("sg:someone:else", TAG.decode() + ":sg:someone:else"),
        ("a\tb\x7fc", TAG.decode() + ":a_b_c"),
        ("ä" * 30, TAG.decode() + ":" + "_" * 20),
    ],
)
@pytest.mark.parametrize("forged", [{}, {"client_context": {"secure_context": {"user": "admin"}}}])
def test_the_applications_own_tag_is_kept_where_the_policy_says_so(worker, own, kept, forged):
    options = {"transaction_tag": own, "request_tag": "mine", **forged}
    found = options_sent(worker, "ExecuteSql", {b"x-spangate-keep-tags": b"1"}, sql="S", request_options=options)
    assert (found.transaction_tag, found.request_tag) == (kept, "mine")
    assert len(found.transaction_tag) <= 50
    assert not found.HasField("client_context")
    for more in ({}, {b"x-spangate-keep-tags": b"0"}, {b"x-spangate-keep-tags": b""}):
        found = options_sent(worker, "ExecuteSql", more, sql="S", request_options=options)
        assert found.transaction_tag == TAG.decode()


@pytest.mark.parametrize("method", sorted(TAGGED))
@pytest.mark.parametrize("options", [None, {}, FORGED])
def test_the_secure_context_is_the_identity_and_nothing_that_a_client_says(worker, method, options):
    fields = {} if options is None else {"request_options": options}
    if method == "ExecuteBatchDml":
        fields["statements"] = [DML]
    found = options_sent(worker, method, {b"x-spangate-context": IDENTITY}, **fields)
    context = dict(found.client_context.secure_context.items())
    assert {key: value.string_value for key, value in context.items()} == {"spangate_identity": IDENTITY.decode()}
    assert found.transaction_tag == TAG.decode()


@pytest.mark.parametrize("content_type", [b"application/grpc", b"application/grpc+proto"])
def test_the_content_types_of_grpc_with_protobuf_are_taken(worker, content_type):
    body = framed(message("GetSession").SerializeToString())
    stream = worker.send(path("GetSession"), body, FakeCheckpoint(), headers={b"content-type": content_type})
    assert stream.admitted


def test_the_answer_to_a_commit_is_asked_for_uncompressed(worker):
    for method, left in (("Commit", False), ("ExecuteSql", True)):
        headers = {b"grpc-accept-encoding": b"identity,gzip", b"x-response-encoding": b"gzip"}
        body = framed(message(method).SerializeToString())
        stream = worker.send(path(method), body, FakeCheckpoint(), headers=headers)
        assert stream.admitted
        assert (b"grpc-accept-encoding" in stream.headers) is left
        assert (b"x-response-encoding" in stream.headers) is left


@pytest.mark.parametrize("size", [127, 128, 16_383, 16_384, 70_000])
def test_lengths_are_right_on_both_sides_of_a_varints_steps(worker, size):
    options = {"request_tag": "t" * size, "client_context": {"secure_context": {"u": "x" * size}}}
    request = message("ExecuteSql", sql="s" * size, request_options=options)
    stream, _ = sent(worker, "ExecuteSql", request)
    assert received(stream, request) == rewritten("ExecuteSql", request)


@given(st.sampled_from(sorted(REQUESTS)), st.integers(0, 2**64 - 1))
@settings(max_examples=400, deadline=None)
def test_any_valid_request_is_read_and_sent_on_as_google_protobuf_reads_it(worker, method, seed):
    request = random_request(method, Random(seed))
    stream, shape = sent(worker, method, request)
    assert comparable(decode_shape(shape)) == comparable(expected_shape(method, request))
    assert received(stream, request) == rewritten(method, request)


@given(st.text(), st.lists(st.text(), max_size=5), st.sampled_from(["insert", "update", "replace"]))
@settings(max_examples=100, deadline=None)
def test_any_names_arrive_as_they_are(worker, table, columns, kind):
    request = message("Commit", mutations=[{kind: {"table": table, "columns": columns}}])
    _, shape = sent(worker, "Commit", request)
    assert decode_shape(shape).mutations == (MutationShape(MutationKind(kind), table, tuple(columns)),)
