"""Sessions, transactions and partition tokens belong to the identity and database that they were given to.

What the filter seals is held against the second implementation of the seals (fakes/seals.py).
"""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import unquote

import pytest
from google.cloud.spanner_v1 import types
from google.protobuf.struct_pb2 import Value
from google.rpc.error_details_pb2 import ResourceInfo
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.checkpoint import TAG, FakeCheckpoint
from fakes.envoy import IDENTITY, Stream, Tls, Worker
from fakes.seals import KEY, KEY_ID, KEYS, POLICY, opened, opened_name, seal, seal_name
from fakes.spanner_oracle import DATABASE, NAMES, RAW_SESSION, REQUESTS, SESSION, framed, path
from spangate.rpc.shape import decode_shape

OTHER = b"spiffe://shop.example/ns/analytics/sa/reports"
ELSEWHERE = "projects/spangate-local/instances/main/databases/other"
PERMISSION_DENIED, NOT_FOUND, ABORTED, INTERNAL = b"7", b"5", b"10", b"13"
FOREIGN_SESSION = (PERMISSION_DENIED, b"foreign-session")
FOREIGN_TRANSACTION = (PERMISSION_DENIED, b"foreign-transaction")
D = DATABASE.encode()
READ_WRITE, READ_ONLY = {"read_write": {}}, {"read_only": {}}


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker()


def send(
    worker: Worker, method: str, identity: bytes = IDENTITY, checkpoint: FakeCheckpoint | None = None, **fields: Any
) -> Stream:
    """A request whose fields are taken as they are."""
    field, usual = NAMES[method]
    fields.setdefault(field, seal_name(RAW_SESSION, identity, DATABASE) if usual == SESSION else usual)
    worker.now_ms += 1000
    body = framed(REQUESTS[method](**fields).SerializeToString())
    stream = worker.send(path(method), body, checkpoint or FakeCheckpoint(), tls=Tls(uris=(identity,)))
    assert not stream.failed, stream.log
    return stream


def sent_on(stream: Stream, method: str) -> Any:
    """What Spanner parses."""
    assert stream.admitted, stream.metadata
    return REQUESTS[method].FromString(stream.body[5:])


def answer(stream: Stream, message: Any, kind: Any) -> Any:
    """What the client parses of Spanner's answer."""
    stream.spanner_answers(framed(kind.serialize(kind(**message))))
    assert not stream.failed, stream.log
    body = stream.answer_body
    assert int.from_bytes(body[1:5], "big") == len(body) - 5
    found = kind.deserialize(body[5:])
    # Nothing is there twice: not every decoder merges messages. Entries of maps have no order.
    assert len(kind.serialize(found)) == len(body) - 5
    return found


# Sessions -------------------------------------------------------------------------------------------------------------

ON_SESSIONS = sorted(method for method, (_, usual) in NAMES.items() if usual == SESSION)


@pytest.mark.parametrize("method", ON_SESSIONS)
def test_a_session_of_ones_own_reaches_spanner_by_its_raw_name(worker, method):
    stream = send(worker, method)
    request = sent_on(stream, method)
    field, _ = NAMES[method]
    assert getattr(request, field) == RAW_SESSION
    assert stream.headers[b"x-goog-request-params"] == f"{field}={RAW_SESSION}".encode()


FOREIGN_SESSIONS = {
    "another identity's": seal_name(RAW_SESSION, OTHER, DATABASE),
    "a raw one": RAW_SESSION,
    "a raw one with a tail": RAW_SESSION + "sg" + KEY_ID.hex() + "0" * 32,
    "one of another database under this name": seal_name(RAW_SESSION, IDENTITY, ELSEWHERE),
    "one in capitals": SESSION[:-10] + SESSION[-10:].upper() + "",
    "one cut short": SESSION[:-1],
    "one that is longer": SESSION + "0",
    "another one with this one's tail": DATABASE + "/sessions/other" + SESSION[-42:],
    "a tail alone": DATABASE + "/sessions/" + SESSION[-42:],
    "one under another key of that id": seal_name(RAW_SESSION, IDENTITY, DATABASE, key=bytes(16)),
}


@pytest.mark.parametrize("case", FOREIGN_SESSIONS)
def test_any_other_session_is_refused_before_anything_is_decided(worker, case):
    name = FOREIGN_SESSIONS[case]
    if name == SESSION:
        pytest.fail("the case is none")
    for method in ON_SESSIONS:
        checkpoint = FakeCheckpoint()
        stream = send(worker, method, checkpoint=checkpoint, **{NAMES[method][0]: name})
        assert stream.refusal == FOREIGN_SESSION
        assert b"CreateSession" in stream.metadata[b"detail"]
        assert checkpoint.asked == []
        assert not stream.admitted


def test_what_one_identity_has_opened_stays_closed_to_another(worker):
    for _ in range(2):
        assert send(worker, "Rollback", session=SESSION).admitted
        assert send(worker, "Rollback", identity=OTHER, session=SESSION).refusal == FOREIGN_SESSION


def test_a_session_under_a_key_that_is_gone_is_not_found_in_spanners_own_words(worker):
    name = seal_name(RAW_SESSION, IDENTITY, DATABASE, key_id=b"gone")
    stream = send(worker, "ExecuteSql", session=name, sql="SELECT 1")
    assert stream.refusal == (NOT_FOUND, b"foreign-session")
    assert unquote(stream.answered[b"grpc-message"].decode()) == f"Session not found: {name}"
    info = ResourceInfo.FromString(base64.b64decode(stream.answered[b"google.rpc.resourceinfo-bin"]))
    assert (info.resource_type, info.resource_name) == ("type.googleapis.com/google.spanner.v1.Session", name)
    status = Status.FromString(base64.b64decode(stream.answered[b"grpc-status-details-bin"]))
    assert (status.code, status.message) == (5, f"Session not found: {name}")
    unpacked = ResourceInfo()
    assert status.details[0].Unpack(unpacked)
    assert unpacked == info


@pytest.mark.parametrize("key_id", [KEY_ID, b"gone"])
def test_a_name_longer_than_any_of_spanners_is_refused_and_not_echoed(worker, key_id):
    """It would be hashed, and stand in the headers of the answer."""
    for size, reason in ((1024, None), (1025, FOREIGN_SESSION)):
        raw = DATABASE + "/sessions/" + "s" * (size - 42 - len(DATABASE) - 10)
        stream = send(worker, "Rollback", session=seal_name(raw, IDENTITY, DATABASE, key_id=key_id))
        if reason is None and key_id == b"gone":
            reason = (NOT_FOUND, b"foreign-session")
        assert stream.refusal == reason
        assert sum(map(len, (stream.answered or {}).values())) < 8192


@pytest.mark.parametrize(("size", "opens"), [(2**20, True), (2**20 + 1, False)])
def test_a_token_may_be_large_but_not_so_large_that_it_holds_up_a_worker(worker, size, opens):
    token = seal(bytes(size - 27), b"t", IDENTITY, D)
    stream = send(worker, "Read", table="T", partition_token=token)
    assert stream.refusal == (None if opens else FOREIGN_TRANSACTION)


def test_a_transaction_that_nobody_asked_for_is_sealed_for_nobody(worker):
    """Spanner begins none without options; an id must not leave raw, whatever it does."""
    found = answer(send(worker, "BeginTransaction"), {"id": RAW}, types.Transaction)
    assert found.id != RAW
    assert send(worker, "Rollback", transaction_id=found.id).refusal == FOREIGN_TRANSACTION


def test_a_created_session_leaves_sealed(worker):
    stream = send(worker, "CreateSession")
    session = answer(stream, {"name": RAW_SESSION, "multiplexed": True, "creator_role": "r"}, types.Session)
    assert session.name == SESSION
    assert (session.multiplexed, session.creator_role) == (True, "r")
    assert b"grpc-accept-encoding" not in stream.headers
    assert answer(send(worker, "GetSession"), {"name": RAW_SESSION}, types.Session).name == SESSION


def test_created_sessions_leave_sealed(worker):
    sessions = [{"name": f"{DATABASE}/sessions/{n}", "labels": {"a": "b"}} for n in range(25)]
    found = answer(
        send(worker, "BatchCreateSessions", session_count=25), {"session": sessions}, types.BatchCreateSessionsResponse
    )
    assert [opened_name(one.name, IDENTITY, DATABASE) for one in found.session] == [one["name"] for one in sessions]
    assert [dict(one.labels) for one in found.session] == [{"a": "b"}] * 25


@pytest.mark.parametrize("multiplexed", [False, True])
def test_a_regular_session_gets_its_owners_label_and_a_multiplexed_one_none(worker, multiplexed):
    stream = send(worker, "CreateSession", session={"multiplexed": multiplexed})
    assert dict(sent_on(stream, "CreateSession").session.labels) == (
        {} if multiplexed else {"spangate-owner": "iabcdefghijklm"}
    )


# Transactions ---------------------------------------------------------------------------------------------------------

RAW = b"\x00raw\xff"
OWN = seal(RAW, b"w", IDENTITY, D)
SELECTS = ["ExecuteSql", "ExecuteStreamingSql", "ExecuteBatchDml", "Read", "StreamingRead"]
FOREIGN_IDS = {
    "another identity's": seal(RAW, b"w", OTHER, D),
    "another database's": seal(RAW, b"w", IDENTITY, ELSEWHERE.encode()),
    "a raw one": RAW,
    "an empty one": b"",
    "a long raw one": bytes(64),
    "of another kind": OWN[:5] + b"p" + OWN[6:],
    "of another policy": OWN[:-20] + b"\xff" + OWN[-19:],
    "a partition token": seal(RAW, b"t", IDENTITY, D),
    "a changed raw value": b"\x01" + OWN[1:],
    "a changed seal": OWN[:-1] + bytes([OWN[-1] ^ 1]),
    "nothing but a seal": seal(b"", b"w", IDENTITY, D),
    "a session's name": SESSION.encode(),
    "under another key of that id": seal(RAW, b"w", IDENTITY, D, key=bytes(16)),
}


@pytest.mark.parametrize("kind", [b"r", b"w"])
def test_a_transaction_of_ones_own_reaches_spanner_by_its_raw_id(worker, kind):
    own = seal(RAW, kind, IDENTITY, D)
    for method in SELECTS:
        assert sent_on(send(worker, method, transaction={"id": own}), method).transaction.id == RAW
    for method in ("Commit", "Rollback"):
        assert sent_on(send(worker, method, transaction_id=own), method).transaction_id == RAW


@pytest.mark.parametrize("case", FOREIGN_IDS)
def test_any_other_transaction_is_refused(worker, case):
    value = FOREIGN_IDS[case]
    send(worker, "Rollback", transaction_id=OWN)  # so that it is remembered
    requests = [("Commit", {"transaction_id": value}), ("Rollback", {"transaction_id": value})] if value else []
    requests += [(method, {"transaction": {"id": value}}) for method in SELECTS]
    for method, fields in requests:
        stream = send(worker, method, **fields)
        assert stream.refusal == FOREIGN_TRANSACTION, method
        assert not stream.admitted


def test_a_transaction_is_not_anothers_even_on_ones_own_session(worker):
    theirs = seal(RAW, b"w", OTHER, D)
    assert send(worker, "ExecuteSql", identity=OTHER, transaction={"id": theirs}).admitted
    assert send(worker, "ExecuteSql", transaction={"id": theirs}).refusal == FOREIGN_TRANSACTION


def test_a_transaction_under_a_key_that_is_gone_is_aborted_so_that_it_begins_again(worker):
    value = seal(RAW, b"w", IDENTITY, D, key_id=b"gone")
    assert send(worker, "Commit", transaction_id=value).refusal == (ABORTED, b"foreign-transaction")
    assert send(worker, "ExecuteSql", transaction={"id": value}).refusal == (ABORTED, b"foreign-transaction")


def options_with(previous: bytes) -> dict[str, Any]:
    return {"read_write": {"read_lock_mode": 1, "multiplexed_session_previous_transaction_id": previous}}


def previous_of(options: Any) -> bytes:
    assert options.read_write.read_lock_mode == 1
    found: bytes = options.read_write.multiplexed_session_previous_transaction_id
    return found


@pytest.mark.parametrize("case", [*FOREIGN_IDS, "own", "gone"])
def test_the_id_of_an_earlier_attempt_is_opened_too(worker, case):
    value = {**FOREIGN_IDS, "own": OWN, "gone": seal(RAW, b"w", IDENTITY, D, key_id=b"gone")}[case]
    options = options_with(value)
    requests: list[tuple[str, dict[str, Any], Any]] = [
        ("BeginTransaction", {"options": options}, lambda r: r.options),
        ("Commit", {"single_use_transaction": options}, lambda r: r.single_use_transaction),
        *[(method, {"transaction": {"begin": options}}, lambda r: r.transaction.begin) for method in SELECTS],
        *[(method, {"transaction": {"single_use": options}}, lambda r: r.transaction.single_use) for method in SELECTS],
    ]
    for method, fields, part in requests:
        stream = send(worker, method, **fields)
        if case == "own":
            assert previous_of(part(sent_on(stream, method))) == RAW
        elif case in ("gone", "an empty one"):
            assert previous_of(part(sent_on(stream, method))) == b""
        elif case == "a partition token":
            continue
        else:
            assert stream.refusal == FOREIGN_TRANSACTION


def test_a_partition_token_is_its_identitys_and_nothing_else(worker):
    token = seal(b"token" * 300, b"t", IDENTITY, D)
    for method in ("ExecuteSql", "ExecuteStreamingSql", "Read", "StreamingRead"):
        request = sent_on(send(worker, method, partition_token=token, transaction={"id": OWN}), method)
        assert (request.partition_token, request.transaction.id) == (b"token" * 300, RAW)
        for value in (seal(b"token", b"t", OTHER, D), b"token", OWN, token[:-1]):
            assert send(worker, method, partition_token=value).refusal == FOREIGN_TRANSACTION
        theirs = send(worker, method, partition_token=token, transaction={"id": seal(RAW, b"r", OTHER, D)})
        assert theirs.refusal == FOREIGN_TRANSACTION


# What leaves --------------------------------------------------------------------------------------------------------

KINDS = [(READ_WRITE, b"w"), (READ_ONLY, b"r"), ({}, b"w")]


def is_sealed_as(value: bytes, kind: bytes) -> bool:
    return opened(value, kind, IDENTITY, D) == RAW and value[-22:-16].hex().encode() == POLICY


@pytest.mark.parametrize(("options", "kind"), KINDS)
def test_a_transaction_that_begins_leaves_sealed(worker, options, kind):
    found = answer(send(worker, "BeginTransaction", options=options), {"id": RAW}, types.Transaction)
    assert is_sealed_as(found.id, kind)
    result = {"metadata": {"transaction": {"id": RAW}}, "rows": [["1"], ["2"]]}
    for method in ("ExecuteSql", "Read"):
        rows = answer(send(worker, method, transaction={"begin": options}), result, types.ResultSet)
        assert is_sealed_as(rows.metadata.transaction.id, kind)
        assert len(rows.rows) == 2
    batch = {"result_sets": [result, {"stats": {"row_count_exact": 1}}], "status": {"code": 3, "message": "m"}}
    found = answer(
        send(worker, "ExecuteBatchDml", transaction={"begin": options}), batch, types.ExecuteBatchDmlResponse
    )
    assert is_sealed_as(found.result_sets[0].metadata.transaction.id, kind)
    assert (found.result_sets[1].stats.row_count_exact, found.status.message) == (1, "m")


def test_what_gives_out_no_id_is_not_read(worker):
    for method in SELECTS:
        for transaction in ({}, {"single_use": READ_ONLY}, {"id": OWN}):
            stream = send(worker, method, transaction=transaction)
            assert not {b"answer", b"seal"} & set(stream.metadata), stream.metadata


PARTS = [
    {"metadata": {"transaction": {"id": RAW}}, "values": ["x" * 3000], "resume_token": b"a"},
    {"values": ["y" * 50], "resume_token": b"b"},
    {"values": ["z"], "stats": {"row_count_exact": 3}},
]


def part_of(values: list[str], **fields: Any) -> bytes:
    data: bytes = types.PartialResultSet.serialize(types.PartialResultSet(**fields))
    return data + types.PartialResultSet.pb()(values=[Value(string_value=v) for v in values]).SerializeToString()


@pytest.mark.parametrize("method", ["ExecuteStreamingSql", "StreamingRead"])
@pytest.mark.parametrize("size", [1, 4, 5, 6, 100, 3000, 3100, 10_000])
@pytest.mark.parametrize("leading", [0, 2])
def test_a_stream_is_held_back_until_the_message_with_its_id_is_whole(worker, method, size, leading):
    parts = [{"values": ["before"]}] * leading + PARTS
    body = b"".join(framed(part_of(**part)) for part in parts)
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    stream = send(worker, method, transaction={"begin": READ_WRITE})
    stream.spanner_answers(body, chunks)
    assert not stream.failed, stream.log
    found = messages(stream.answer_body)
    assert is_sealed_as(found[leading].metadata.transaction.id, b"w")
    assert [[value.string_value for value in part.values] for part in found] == [part["values"] for part in parts]
    assert found[leading].resume_token == b"a"


def messages(body: bytes) -> list[Any]:
    found = []
    while body:
        size = int.from_bytes(body[1:5], "big")
        assert body[0] == 0
        assert len(body) >= size + 5
        found.append(types.PartialResultSet.pb().FromString(body[5 : 5 + size]))
        assert len(found[-1].SerializeToString()) == size
        body = body[5 + size :]
    return found


ID = types.Transaction.serialize(types.Transaction(id=RAW))
UNREADABLE = {
    "compressed": b"\x01" + framed(ID)[1:],
    "broken off": framed(ID)[:-1],
    "two": framed(ID) * 2,
    "no message": b"\0\0",
    "a group": framed(ID + b"\x0b\x0c"),
    "a broken field": framed(ID + b"\x12\x7f"),
    "two ids": framed(ID + ID),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_answer_that_cannot_be_read_is_withheld(worker, case):
    stream = send(worker, "BeginTransaction", options=READ_WRITE)
    stream.spanner_answers(UNREADABLE[case])
    assert not stream.failed, stream.log
    assert (stream.answer_body, stream.answer_status) == (b"", INTERNAL)
    assert any(b"withheld" in line for line in stream.log)


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("case", ["compressed", "a field that breaks off", "too large"])
def test_a_stream_that_cannot_be_read_is_withheld(worker, case, size):
    body = {
        "compressed": b"\x01\0\0\0\x03abc" + framed(b"later"),
        "a field that breaks off": framed(b"\x12\x7f") + framed(RAW),
        "too large": b"\0\x02\0\0\0" + RAW * 10,
    }[case]
    stream = send(worker, "ExecuteStreamingSql", transaction={"begin": READ_WRITE})
    stream.spanner_answers(body, [body[i : i + size] for i in range(0, len(body), size)])
    assert not stream.failed, stream.log
    assert (stream.answer_body, stream.answer_status) == (b"", INTERNAL)


def test_a_session_of_another_database_does_not_leave(worker):
    stream = send(worker, "CreateSession")
    stream.spanner_answers(framed(types.Session.serialize(types.Session(name=f"{ELSEWHERE}/sessions/s"))))
    assert (stream.answer_body, stream.answer_status) == (b"", INTERNAL)


@pytest.mark.parametrize("body", [None, b""])
def test_a_refusal_of_spanners_passes_as_it_is(worker, body):
    for method, fields in (("CreateSession", {}), ("ExecuteStreamingSql", {"transaction": {"begin": READ_WRITE}})):
        stream = send(worker, method, **fields)
        stream.spanner_answers(body, [] if body is None else [body])
        assert not stream.failed, stream.log


@given(
    st.sampled_from(["BeginTransaction", "ExecuteSql", "ExecuteBatchDml", "ExecuteStreamingSql", "CreateSession"]),
    st.binary(max_size=80),
    st.integers(1, 90),
)
@settings(max_examples=400, deadline=None)
def test_no_answer_makes_the_filter_fail(worker, method, data, size):
    fields = {} if method == "CreateSession" else {"transaction": {"begin": READ_WRITE}}
    if method == "BeginTransaction":
        fields = {"options": READ_WRITE}
    for body in (data, framed(data)):
        stream = send(worker, method, **fields)
        stream.spanner_answers(body, [body[i : i + size] for i in range(0, len(body), size)])
        assert not stream.failed, stream.log


def test_partitions_leave_sealed(worker):
    parts = {"partitions": [{"partition_token": b"one"}, {"partition_token": b"two"}], "transaction": {"id": RAW}}
    for method in ("PartitionQuery", "PartitionRead"):
        stream = send(worker, method, transaction={"begin": READ_ONLY})
        found = answer(stream, parts, types.PartitionResponse)
        assert [opened(one.partition_token, b"t", IDENTITY, D) for one in found.partitions] == [b"one", b"two"]
        assert is_sealed_as(found.transaction.id, b"r")
        within = send(worker, method, transaction={"id": seal(RAW, b"r", IDENTITY, D)})
        assert sent_on(within, method).transaction.id == RAW
        del parts["partitions"][1:]
        found = answer(within, {"partitions": parts["partitions"]}, types.PartitionResponse)
        assert opened(found.partitions[0].partition_token, b"t", IDENTITY, D) == b"one"
        parts["partitions"].append({"partition_token": b"two"})


def test_partitioned_dml_stays_what_it_is(worker):
    checkpoint = FakeCheckpoint()
    options = {"partitioned_dml": {}}
    began = send(worker, "BeginTransaction", checkpoint=checkpoint, options=options)
    own = answer(began, {"id": RAW}, types.Transaction).id
    assert is_sealed_as(own, b"p")
    send(worker, "ExecuteStreamingSql", checkpoint=checkpoint, sql="UPDATE", transaction={"id": own})
    assert [decode_shape(shape).partitioned for _, shape in checkpoint.asked] == [True, True]
    send(worker, "ExecuteStreamingSql", checkpoint=checkpoint, sql="UPDATE", transaction={"id": OWN})
    assert not decode_shape(checkpoint.asked[-1][1]).partitioned


LISTED = [
    {
        "name": f"{DATABASE}/sessions/mine",
        "labels": {"spangate-owner": "iabcdefghijklm", "z": "1"},
        "creator_role": "r",
    },
    {"name": f"{DATABASE}/sessions/theirs", "labels": {"spangate-owner": "ibcdefghijklmn"}},
    {"name": f"{DATABASE}/sessions/nobodys"},
    {"name": f"{DATABASE}/sessions/labelled", "labels": {"owner": "iabcdefghijklm", "x": "spangate-owner"}},
    {"name": f"{DATABASE}/sessions/mine2", "labels": {"spangate-owner": "iabcdefghijklm"}},
]


def test_a_listing_shows_only_ones_own_sessions_and_they_can_be_used(worker):
    stream = send(worker, "ListSessions", filter="labels.env:dev")
    found = answer(stream, {"sessions": LISTED, "next_page_token": "next"}, types.ListSessionsResponse)
    assert found.next_page_token == "next"
    assert [opened_name(one.name, IDENTITY, DATABASE).rpartition("/")[2] for one in found.sessions] == ["mine", "mine2"]
    assert found.sessions[0].creator_role == "r"
    assert send(worker, "GetSession", name=found.sessions[0].name).admitted


# Tags ---------------------------------------------------------------------------------------------------------------


def test_the_tag_of_a_transaction_says_the_policy_that_it_began_under(worker):
    began = answer(send(worker, "BeginTransaction", options=READ_WRITE), {"id": RAW}, types.Transaction).id
    now = FakeCheckpoint(epoch=b"fedcba987654", tag=TAG[:-12] + b"fedcba987654")
    for method in SELECTS:
        stream = send(worker, method, checkpoint=now, transaction={"id": began})
        assert sent_on(stream, method).request_options.transaction_tag == TAG.decode()
    commit = sent_on(send(worker, "Commit", checkpoint=now, transaction_id=began), "Commit")
    assert commit.request_options.transaction_tag == TAG.decode()
    # A new one is of the policy of the moment.
    new = sent_on(send(worker, "ExecuteSql", checkpoint=now, transaction={"begin": READ_WRITE}), "ExecuteSql")
    assert new.request_options.transaction_tag == now.tag.decode()


# Keys ---------------------------------------------------------------------------------------------------------------

OTHER_KEYS = b"0a0b0c0d:" + bytes(range(16, 32)).hex().encode()


def test_the_first_key_seals_and_all_of_them_open(worker):
    both = FakeCheckpoint(keys=OTHER_KEYS + b"," + KEYS)
    session = answer(send(worker, "CreateSession", checkpoint=both), {"name": RAW_SESSION}, types.Session).name
    assert session == seal_name(RAW_SESSION, IDENTITY, DATABASE, key_id=b"\n\x0b\x0c\r", key=bytes(range(16, 32)))
    for name in (session, SESSION):
        assert send(worker, "Rollback", checkpoint=both, session=name).admitted
    # A key that goes takes what was remembered with it.
    only_old = FakeCheckpoint(keys=KEYS)
    assert send(worker, "Rollback", checkpoint=only_old, session=SESSION).admitted
    assert send(worker, "Rollback", checkpoint=only_old, session=session).refusal == (NOT_FOUND, b"foreign-session")


@pytest.mark.parametrize(
    "keys",
    [b"", b"nonsense", b"01020304:" + b"0" * 31, b"010203:" + b"0" * 32, KEYS + b",x", KEYS + b" ," + OTHER_KEYS],
)
def test_without_readable_keys_nothing_is_let_through(keys):
    for method in ("ExecuteSql", "CreateSession"):
        stream = send(Worker(), method, checkpoint=FakeCheckpoint(keys=keys))
        assert stream.refusal == (b"14", b"checkpoint-unavailable")
        assert not stream.admitted


def test_what_is_remembered_is_bounded():
    worker = Worker()
    checkpoint = FakeCheckpoint()
    for number in range(200):
        name = seal_name(f"{DATABASE}/sessions/{number}", IDENTITY, DATABASE)
        assert send(worker, "Rollback", checkpoint=checkpoint, session=name).admitted
    assert send(worker, "Rollback", checkpoint=checkpoint, session=SESSION).admitted


@given(st.binary(max_size=80), st.sampled_from([b"r", b"w", b"t"]), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_a_seal_opens_only_whole(worker, raw, kind, seed):
    sealed = seal(raw or b"x", kind, IDENTITY, D)
    at = seed % len(sealed)
    damaged = sealed[:at] + bytes([sealed[at] ^ (1 << seed // 8 % 8)]) + sealed[at + 1 :]
    fields = {"partition_token": damaged} if kind == b"t" else {"transaction": {"id": damaged}}
    stream = send(worker, "ExecuteSql", **fields)
    assert stream.refusal is not None
    assert stream.refusal[1] == b"foreign-transaction"


def test_the_second_implementation_is_keyed():
    assert seal(RAW, b"w", IDENTITY, D, key=KEY) != seal(RAW, b"w", IDENTITY, D, key=bytes(16))
