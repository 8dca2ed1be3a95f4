"""What cannot be read with certainty is refused, with its reason, and never marked as allowed.

And the invariant behind it: whatever the filter reads, google.protobuf reads the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.checkpoint import OWNER, ROLE, TAG, FakeCheckpoint
from fakes.envoy import IDENTITY, NOON_MS, Stream, Tls, Worker
from fakes.spanner_oracle import (
    DATABASE,
    OWNER_LABEL,
    REQUESTS,
    SESSION,
    claims_an_owner,
    comparable,
    expected_rewrite,
    expected_shape,
    forbidden,
    framed,
    has_unknown_fields,
    is_owned,
    path,
)
from fakes.spanner_requests import random_request
from spangate.model.decision import Reason
from spangate.rpc.shape import BadShape, decode_shape

PERMISSION_DENIED, NOT_FOUND, ABORTED = b"7", b"5", b"10"
MALFORMED, UNSUPPORTED = "malformed-request", "unsupported-feature"
MIB = 1024 * 1024
FORCED = (ROLE.decode(), TAG.decode(), OWNER.decode())


def varint(value: int, *, longer_by: int = 0) -> bytes:
    """`value` as a varint; `longer_by` bytes longer than need be."""
    found = bytearray()
    while value >= 128:
        found.append(value % 128 + 128)
        value //= 128
    if not longer_by:
        return bytes(found) + bytes([value])
    return bytes(found) + bytes([value + 128]) + b"\x80" * (longer_by - 1) + b"\0"


def tag(number: int, wire_type: int) -> bytes:
    return varint(number * 8 + wire_type)


def field(number: int, payload: bytes) -> bytes:
    return tag(number, 2) + varint(len(payload)) + payload


def number(field_number: int, value: int = 1) -> bytes:
    return tag(field_number, 0) + varint(value)


SESSION_FIELD = field(1, SESSION.encode())
DATABASE_FIELD = field(1, DATABASE.encode())
OWNER_KEY = field(1, OWNER_LABEL.encode())
LABEL = field(2, OWNER_KEY + field(2, b"isomeoneelse"))
OTHER_LABEL = field(2, field(1, b"team") + field(2, b"shop"))
SQL = SESSION_FIELD + field(3, b"SELECT 1")
INSERT = field(1, field(1, b"Orders") + field(2, b"OrderId"))


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker()


def sent(worker: Worker, method: str, body: bytes | None, **options: Any) -> tuple[Stream, FakeCheckpoint]:
    worker.now_ms += 1000
    checkpoint = FakeCheckpoint(epoch=b"e%d" % worker.now_ms)
    return worker.send(path(method), body, checkpoint, **options), checkpoint


def assert_refused(worker: Worker, method: str, body: bytes | None, reason: str, **options: Any) -> Stream:
    stream, checkpoint = sent(worker, method, body, **options)
    assert stream.refusal == (PERMISSION_DENIED, reason.encode())
    assert b"allow" not in stream.metadata
    assert not stream.failed
    assert checkpoint.asked == []
    assert stream.answered is not None
    assert stream.answered[b":status"] == b"200"
    assert stream.answered[b"content-type"] == b"application/grpc"
    assert stream.answered[b"grpc-message"].startswith(b"spangate: ")
    assert stream.metadata[b"detail"].startswith(b"spangate: ")
    return stream


# Bodies that are not one readable message: what is wrong -> the body after the path. ----------------------------------

FRAMES: dict[str, tuple[bytes | None, str]] = {
    "no body": (None, MALFORMED),
    "an empty body": (b"", MALFORMED),
    "four bytes": (b"\0\0\0\0", MALFORMED),
    "an empty message": (framed(b""), MALFORMED),
    "the compressed flag": (b"\x01" + framed(SQL)[1:], "compressed-message"),
    "unknown flags": (b"\x02" + framed(SQL)[1:], MALFORMED),
    "the trailers flag of grpc-web": (b"\x80" + framed(SQL)[1:], MALFORMED),
    "two messages": (framed(SQL) * 2, MALFORMED),
    "a second, empty message": (framed(SQL) + framed(b""), MALFORMED),
    "one byte too many": (framed(SQL) + b"\0", MALFORMED),
    "one byte too few": (framed(SQL)[:-1], MALFORMED),
    "a length too small": (b"\0" + (len(SQL) - 1).to_bytes(4, "big") + SQL, MALFORMED),
    "a length beyond all limits": (b"\0\xff\xff\xff\xff" + SQL, "request-too-large"),
}

MESSAGES: dict[str, tuple[str, bytes, str]] = {
    "an unknown field": ("ExecuteSql", SQL + field(19, b"x"), MALFORMED),
    "an unknown number": ("ExecuteSql", SQL + number(12), MALFORMED),
    "field zero": ("ExecuteSql", SQL + b"\x02\x00", MALFORMED),
    "the largest field": ("ExecuteSql", SQL + field(2**29 - 1, b""), MALFORMED),
    # Cut to 32 bits, it would be field 3.
    "a tag of more than 32 bits": ("ExecuteSql", SESSION_FIELD + varint((2**29 + 3) * 8 + 2) + b"\x01x", MALFORMED),
    "a tag of six bytes": ("ExecuteSql", SQL + b"\x9a\x80\x80\x80\x80\x00\x01x", MALFORMED),
    "a statement twice": ("ExecuteSql", SQL + field(3, b"DROP"), MALFORMED),
    "a session twice": ("ExecuteSql", SQL + SESSION_FIELD, MALFORMED),
    "a number twice": ("ExecuteSql", SQL + number(7) + number(7), MALFORMED),
    "a transaction twice": ("ExecuteSql", SQL + field(2, b"") * 2, MALFORMED),
    "a routing hint twice": ("ExecuteSql", SQL + field(18, b"") * 2, MALFORMED),
    "request options twice": ("ExecuteSql", SQL + field(11, b"") * 2, MALFORMED),
    "a client context twice": ("ExecuteSql", SQL + field(11, field(4, b"") * 2), MALFORMED),
    "an unknown request option": ("ExecuteSql", SQL + field(11, field(5, b"")), MALFORMED),
    "a statement as number": ("ExecuteSql", SESSION_FIELD + number(3), MALFORMED),
    "a number as bytes": ("ExecuteSql", SQL + field(7, b"\1"), MALFORMED),
    "a packed number": ("ExecuteSql", SQL + field(9, b"\1\2"), MALFORMED),
    "a fixed 64-bit number": ("ExecuteSql", SQL + tag(9, 1) + bytes(8), MALFORMED),
    "a fixed 32-bit number": ("ExecuteSql", SQL + tag(9, 5) + bytes(4), MALFORMED),
    "a group": ("ExecuteSql", SQL + tag(4, 3) + tag(4, 4), MALFORMED),
    "a group's end": ("ExecuteSql", SQL + tag(4, 4), MALFORMED),
    "an unknown group": ("ExecuteSql", SQL + tag(30, 3) + tag(30, 4), MALFORMED),
    "wire type 6": ("ExecuteSql", SQL + tag(4, 6), MALFORMED),
    "wire type 7": ("ExecuteSql", SQL + tag(4, 7), MALFORMED),
    "an overlong tag": ("ExecuteSql", SESSION_FIELD + varint(3 * 8 + 2, longer_by=1) + b"\x01x", MALFORMED),
    "an overlong length": ("ExecuteSql", SESSION_FIELD + tag(3, 2) + varint(1, longer_by=1) + b"x", MALFORMED),
    "a very overlong length": ("ExecuteSql", SESSION_FIELD + tag(3, 2) + varint(1, longer_by=3) + b"x", MALFORMED),
    "an overlong number": ("ExecuteSql", SQL + tag(7, 0) + varint(1, longer_by=1), MALFORMED),
    "an overlong zero": ("ExecuteSql", SQL + tag(7, 0) + varint(0, longer_by=1), MALFORMED),
    "a number of 65 bits": ("ExecuteSql", SQL + tag(9, 0) + b"\xff" * 9 + b"\x02", MALFORMED),
    "a number of eleven bytes": ("ExecuteSql", SQL + tag(9, 0) + b"\xff" * 10 + b"\x01", MALFORMED),
    "a length of 33 bits": ("ExecuteSql", SQL + tag(4, 2) + b"\xff\xff\xff\xff\x1f", MALFORMED),
    "a length past the end": ("ExecuteSql", SESSION_FIELD + tag(3, 2) + varint(9) + b"x", MALFORMED),
    "a length past its message": ("ExecuteSql", SQL + field(2, tag(2, 2) + varint(9)) + field(4, bytes(9)), MALFORMED),
    "a tag without more": ("ExecuteSql", SQL + tag(7, 0), MALFORMED),
    "half a tag": ("ExecuteSql", SQL + b"\x80", MALFORMED),
    "half a tag in a message": ("ExecuteSql", SQL + field(2, b"\x8a") + field(4, b""), MALFORMED),
    "half a number in a message": ("Commit", SESSION_FIELD + field(3, b"\x28\x81") + field(4, INSERT), MALFORMED),
    "no session": ("ExecuteSql", field(3, b"SELECT 1"), MALFORMED),
    "a session of no database": ("ExecuteSql", field(1, b"sessions/s"), MALFORMED),
    "a database for a session": ("ExecuteSql", field(1, DATABASE.encode()), MALFORMED),
    "a session that goes up": ("ExecuteSql", field(1, f"{DATABASE}/sessions/../s".encode()), MALFORMED),
    "an empty session": ("ExecuteSql", field(1, f"{DATABASE}/sessions/".encode()), MALFORMED),
    "a session and a line": ("ExecuteSql", field(1, SESSION.encode() + b"\n"), MALFORMED),
    "a session and a NUL": ("ExecuteSql", field(1, SESSION.encode() + b"\0"), MALFORMED),
    "two sessions in one": ("ExecuteSql", field(1, f"{SESSION}/{SESSION}".encode()), MALFORMED),
    "a session of no ASCII": ("ExecuteSql", field(1, f"{DATABASE}/sessions/ä".encode()), MALFORMED),
    "a slash before the session": ("ExecuteSql", field(1, f"/{SESSION}".encode()), MALFORMED),
    "an escaped session": ("ExecuteSql", field(1, SESSION.replace("/", "%2F").encode()), MALFORMED),
    "no database": ("CreateSession", b"", MALFORMED),
    "a session for a database": ("CreateSession", field(1, SESSION.encode()), MALFORMED),
    "a database and a slash": ("CreateSession", field(1, f"{DATABASE}/".encode()), MALFORMED),
    "a role twice": ("CreateSession", field(1, DATABASE.encode()) + field(2, field(5, b"a") * 2), MALFORMED),
    "an unknown field of a session": (
        "CreateSession",
        field(1, DATABASE.encode()) + field(2, field(9, b"")),
        MALFORMED,
    ),
    "a template twice": ("BatchCreateSessions", field(1, DATABASE.encode()) + field(2, b"") * 2, MALFORMED),
    "two selectors": ("ExecuteSql", SQL + field(2, field(1, b"") + field(2, b"tx")), MALFORMED),
    "a selector twice": ("ExecuteSql", SQL + field(2, field(2, b"tx") * 2), MALFORMED),
    "single use and begin": ("Read", SESSION_FIELD + field(2, field(1, b"") + field(3, b"")), MALFORMED),
    "an unknown selector": ("ExecuteBatchDml", SESSION_FIELD + field(2, field(4, b"")), MALFORMED),
    "two transactions": ("Commit", SESSION_FIELD + field(2, b"tx") + field(3, b""), MALFORMED),
    "two modes": ("BeginTransaction", SESSION_FIELD + field(2, field(1, b"") + field(2, b"")), MALFORMED),
    "an unknown transaction option": ("BeginTransaction", SESSION_FIELD + field(2, number(7)), MALFORMED),
    "a mutation of no kind": ("Commit", SESSION_FIELD + field(4, b""), MALFORMED),
    "a mutation of two kinds": ("Commit", SESSION_FIELD + field(4, INSERT + field(5, b"")), MALFORMED),
    "a mutation of one kind twice": ("Commit", SESSION_FIELD + field(4, INSERT * 2), MALFORMED),
    "a mutation of an unknown kind": ("Commit", SESSION_FIELD + field(4, field(8, b"")), MALFORMED),
    "a table twice": ("Commit", SESSION_FIELD + field(4, field(1, field(1, b"T") * 2)), MALFORMED),
    "a mutation's unknown field": ("Commit", SESSION_FIELD + field(4, field(1, field(4, b""))), MALFORMED),
    "a delete with values": ("Commit", SESSION_FIELD + field(4, field(5, field(3, b""))), MALFORMED),
    "a key of no kind": ("BeginTransaction", SESSION_FIELD + field(4, b""), MALFORMED),
    "two keys": ("BeginTransaction", SESSION_FIELD + field(4, INSERT) * 2, MALFORMED),
    "two modes, one of them partitioned DML": (
        "BeginTransaction",
        SESSION_FIELD + field(2, field(2, b"") + field(3, b"")),
        MALFORMED,
    ),
    "partitioned DML twice": ("BeginTransaction", SESSION_FIELD + field(2, field(3, b"") * 2), MALFORMED),
    "an unknown mode": ("BeginTransaction", SESSION_FIELD + field(2, field(4, b"")), MALFORMED),
    "read-write with an unknown field": ("ExecuteSql", SQL + field(2, field(3, field(1, field(3, b"")))), MALFORMED),
    "a partition token twice": ("ExecuteSql", SQL + field(8, b"a") * 2, MALFORMED),
    "a message sent twice": ("Commit", SESSION_FIELD + field(4, field(6, b"") * 2), MALFORMED),
    "a message sent with an unknown field": ("Commit", SESSION_FIELD + field(4, field(6, field(5, b""))), MALFORMED),
    "an acknowledgement by time": ("Commit", SESSION_FIELD + field(4, field(7, field(3, b""))), MALFORMED),
    "sent and acknowledged": ("Commit", SESSION_FIELD + field(4, field(6, b"") + field(7, b"")), MALFORMED),
    "a group's unknown field": ("BatchWrite", SESSION_FIELD + field(4, field(2, b"")), MALFORMED),
    "a group's mutation of no kind": ("BatchWrite", SESSION_FIELD + field(4, field(1, b"")), MALFORMED),
    "mutations without a group": ("BatchWrite", SESSION_FIELD + field(2, INSERT), MALFORMED),
    "the owner's label": ("CreateSession", DATABASE_FIELD + field(2, LABEL), UNSUPPORTED),
    "the owner's label for many": ("BatchCreateSessions", DATABASE_FIELD + field(2, LABEL), UNSUPPORTED),
    "the owner's label, empty": ("CreateSession", DATABASE_FIELD + field(2, field(2, OWNER_KEY)), UNSUPPORTED),
    "the owner's label at last": ("CreateSession", DATABASE_FIELD + field(2, OTHER_LABEL + LABEL), UNSUPPORTED),
    "a label's key twice": (
        "CreateSession",
        DATABASE_FIELD + field(2, field(2, field(1, b"a") + OWNER_KEY)),
        MALFORMED,
    ),
    "a label's unknown field": ("CreateSession", DATABASE_FIELD + field(2, field(2, field(3, b""))), MALFORMED),
    "a listing of an instance": ("ListSessions", field(1, b"projects/p/instances/i"), MALFORMED),
    "a listing by session": ("ListSessions", SESSION_FIELD, MALFORMED),
    "a schema of a session": ("GetDatabaseDdl", SESSION_FIELD, MALFORMED),
    "a schema change's unknown field": ("UpdateDatabaseDdl", DATABASE_FIELD + field(6, b""), MALFORMED),
    "an operation of an instance": ("GetOperation", field(1, b"projects/p/instances/i/operations/o"), MALFORMED),
    "an operation of a backup": ("GetOperation", field(1, b"projects/p/instances/i/backups/b/operations/o"), MALFORMED),
    "an operation that goes up": ("GetOperation", field(1, f"{DATABASE}/operations/../o".encode()), MALFORMED),
    "an operation of no name": ("GetOperation", field(1, f"{DATABASE}/operations/".encode()), MALFORMED),
}


@pytest.mark.parametrize("case", FRAMES)
def test_a_body_that_is_not_one_plain_message_is_refused(worker, case):
    body, reason = FRAMES[case]
    assert_refused(worker, "ExecuteSql", body, reason)


@pytest.mark.parametrize("case", MESSAGES)
def test_a_message_that_is_not_certain_or_not_supported_is_refused(worker, case):
    method, data, reason = MESSAGES[case]
    assert_refused(worker, method, framed(data), reason)


def test_the_cases_are_refused_for_what_they_say_not_for_what_they_share(worker):
    for data in (SQL, SQL + field(2, field(1, number(5, 0))), SQL + number(9, 2**64 - 1), SQL + number(30 - 13)):
        stream, _ = sent(worker, "ExecuteSql", framed(data))
        assert stream.admitted, stream.metadata
    stream, _ = sent(worker, "Commit", framed(SESSION_FIELD + field(4, INSERT)))
    assert stream.admitted


@pytest.mark.parametrize(
    "name",
    [
        "/google.spanner.v1.Spanner/FetchCacheUpdate",
        "/google.spanner.v1.Spanner/GetDatabase",
        "/google.spanner.v1.Spanner/GetDatabaseDdl",
        "/google.spanner.admin.database.v1.DatabaseAdmin/CreateDatabase",
        "/google.spanner.admin.database.v1.DatabaseAdmin/DropDatabase",
        "/google.spanner.admin.database.v1.DatabaseAdmin/ExecuteSql",
        "/google.spanner.admin.instance.v1.InstanceAdmin/ListInstances",
        "/google.longrunning.Operations/ListOperations",
        "/google.longrunning.Operations/CancelOperation",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/google.spanner.v1.Spanner/ExecuteSql/",
        "/google.spanner.v1.Spanner/ExecuteSql?alt=json",
        "//google.spanner.v1.Spanner/ExecuteSql",
        "/google.spanner.v1.Spanner/executesql",
        "/$rpc/google.spanner.v1.Spanner/ExecuteSql",
        "/v1/projects/p/instances/i/databases/d/sessions/s:executeSql",
        "/",
        "",
    ],
)
def test_an_rpc_that_is_not_known_is_refused(worker, name):
    checkpoint = FakeCheckpoint()
    stream = worker.send(name.encode(), framed(SQL), checkpoint)
    assert stream.refusal == (PERMISSION_DENIED, b"unsupported-rpc")
    assert not stream.admitted
    assert checkpoint.asked == []


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("/google.spanner.v1.Spanner/FetchCacheUpdate", "past the gateway"),
        ("/google.spanner.admin.database.v1.DatabaseAdmin/DropDatabase", "use gcloud"),
        ("/google.spanner.admin.instance.v1.InstanceAdmin/CreateInstance", "use gcloud"),
        ("/google.longrunning.Operations/DeleteOperation", "use gcloud"),
        ("/google.storage.v2.Storage/ReadObject", "/google.storage.v2.Storage/ReadObject is not supported"),
    ],
)
def test_a_refused_call_is_told_what_to_do(worker, name, word):
    stream = worker.send(name.encode(), framed(b""), FakeCheckpoint())
    assert word in stream.answered[b"grpc-message"].decode()


def test_what_a_client_wrote_is_cleaned_and_shortened_before_it_is_logged(worker):
    stream = worker.send(b"/\xff\n\x1b[31m" + b"x" * 5000, framed(SQL), FakeCheckpoint())
    assert stream.refusal == (PERMISSION_DENIED, b"unsupported-rpc")
    assert stream.metadata[b"detail"].startswith(b"spangate: /???[31mxxx")
    assert len(stream.metadata[b"detail"]) < 200


@pytest.mark.parametrize(
    "headers",
    [
        {b":method": b"GET"},
        {b"content-type": b"application/json"},
        {b"content-type": b"application/grpc-web"},
        {b"content-type": b"application/grpc+json"},
        {b"content-type": b"application/grpc-web-text"},
        {b"content-type": b"application/grpc,application/json"},
        {b"content-type": b""},
        {b"content-encoding": b"gzip"},
        {b"content-encoding": b"deflate"},
        {b"content-encoding": b"identity,deflate"},
        {b"content-encoding": b""},
    ],
)
def test_what_is_not_grpc_with_protobuf_is_refused(worker, headers):
    assert_refused(worker, "ExecuteSql", framed(SQL), MALFORMED, headers=headers)


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        (None, "no-certificate"),
        (Tls(presented=False, validated=False, uris=()), "no-certificate"),
        (Tls(presented=False), "no-certificate"),
        (Tls(validated=False), "untrusted-certificate"),
        (Tls(validated=False, uris=()), "untrusted-certificate"),
        (Tls(uris=()), "untrusted-certificate"),
        (Tls(expires=NOON_MS // 1000), "untrusted-certificate"),
        (Tls(uris=(IDENTITY, IDENTITY)), "untrusted-certificate"),
        (Tls(uris=(IDENTITY, b"spiffe://shop.example/ns/shop/sa/admin")), "untrusted-certificate"),
        (Tls(uris=(b"https://shop.example/",)), "untrusted-certificate"),
        (Tls(uris=(IDENTITY + b"\n10:ExecuteSql,",)), "untrusted-certificate"),
        (Tls(uris=(IDENTITY + b"\0",)), "untrusted-certificate"),
        (Tls(uris=(b"",)), "untrusted-certificate"),
    ],
)
def test_a_peer_without_exactly_one_verified_spiffe_id_is_refused(worker, tls, reason):
    assert_refused(worker, "ExecuteSql", framed(SQL), reason, tls=tls)


def test_a_certificate_that_is_not_accepted_is_named_in_clean_words(worker):
    tls = Tls(validated=False, uris=(b"spiffe://evil\r\n\xff" + b"x" * 9000,))
    stream = assert_refused(worker, "ExecuteSql", framed(SQL), "untrusted-certificate", tls=tls)
    assert b"spiffe://evil???xxx" in stream.metadata[b"detail"]
    assert len(stream.answered[b"grpc-message"]) < 1500


@pytest.mark.parametrize(("method", "limit"), [("ExecuteSql", 10 * MIB), ("Commit", 100 * MIB)])
def test_a_request_of_the_largest_size_passes_and_one_byte_more_does_not(worker, method, limit):
    rest = limit - len(SESSION_FIELD) - 1 - 4
    filler = field(4, bytes(rest)) if method == "ExecuteSql" else field(9, bytes(rest))
    body = framed(SESSION_FIELD + filler)
    assert len(body) - 5 == limit
    stream, _ = sent(worker, method, body)
    assert stream.admitted
    larger = SESSION_FIELD + filler[:1] + varint(rest + 1) + bytes(rest + 1)
    assert_refused(worker, method, framed(larger), "request-too-large")


def test_a_commit_of_millions_of_tiny_mutations_is_refused_before_it_costs_much(worker):
    body = framed(SESSION_FIELD + field(4, INSERT) * 250_001)
    assert_refused(worker, "Commit", body, "request-too-large")
    rows = field(4, field(1, field(1, b"T") + field(3, b"") * 250_000))
    assert_refused(worker, "Commit", framed(SESSION_FIELD + rows), "request-too-large")


def test_the_limit_counts_each_request_by_itself(worker):
    body = framed(SESSION_FIELD + field(4, INSERT) * 100_000)
    for _ in range(2):
        stream, _ = sent(worker, "Commit", body)
        assert stream.admitted


# Generated input ------------------------------------------------------------------------------------------------------


def check(worker: Worker, method: str, body: bytes) -> bool:
    """The invariant; returns whether the request was admitted."""
    stream, checkpoint = sent(worker, method, body)
    assert not stream.failed, stream.log
    if stream.answered is not None:
        status, reason = stream.refusal or (b"", b"")
        # A damaged key id is a key that is not known: the session is gone, the transaction aborted.
        assert status in (PERMISSION_DENIED, NOT_FOUND, ABORTED)
        assert Reason(reason.decode()) is not Reason.FILTER_FAILED, stream.log
        assert b"allow" not in stream.metadata
        return False
    assert stream.admitted
    [(_, encoded)] = checkpoint.asked
    try:
        shape = decode_shape(encoded)
    except BadShape:
        return False  # the real checkpoint refuses it
    cls = REQUESTS[method]
    try:
        received = cls.FromString(stream.body[5:])
    except DecodeError:
        return False  # Spanner refuses it
    # What Spanner reads is what was decided on, and holds what was forced.
    assert comparable(expected_shape(method, received)) == comparable(shape)
    assert received == expected_rewrite(method, received, *FORCED)
    assert forbidden(method, received) is None
    assert not has_unknown_fields(received)
    try:
        original = cls.FromString(body[5:])
    except DecodeError:
        return True  # what was wrong with it was cut out
    assert not claims_an_owner(method, original)
    assert comparable(expected_shape(method, original)) == comparable(shape)
    assert is_owned(method, original)
    assert received == expected_rewrite(method, original, *FORCED)
    return True


def _flip(data: bytearray, random: Random) -> None:
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _replace(data: bytearray, random: Random) -> None:
    data[random.randrange(len(data))] = random.choice((0, 1, 2, 10, 18, 26, 34, 127, 128, 255))


def _drop(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    del data[at : at + random.randrange(1, 4)]


def _repeat(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    data[at:at] = data[at : at + random.randrange(1, 40)]


def _insert_field(data: bytearray, random: Random) -> None:
    at = random.choice((0, len(data), random.randrange(len(data) + 1)))
    payload = random.choice((b"", b"x", b"\x28\x01", field(1, b"a")))
    data[at:at] = random.choice((field(random.randrange(1, 20), payload), number(random.randrange(1, 20))))


def _stretch(data: bytearray, random: Random) -> None:
    small = [at for at, byte in enumerate(data) if byte < 128]
    if small:
        at = random.choice(small)
        data[at : at + 1] = bytes([data[at] | 128, 0])


DAMAGES: list[Callable[[bytearray, Random], None]] = [_flip, _replace, _drop, _repeat, _insert_field, _stretch]


@given(st.sampled_from(sorted(REQUESTS)), st.integers(0, 2**64 - 1))
@settings(max_examples=1200, deadline=None)
def test_whatever_the_filter_reads_of_a_damaged_request_google_protobuf_reads_the_same_way(worker, method, seed):
    random = Random(seed)
    data = bytearray(random_request(method, random).SerializeToString())
    for _ in range(random.randrange(1, 4)):
        if data:
            random.choice(DAMAGES)(data, random)
    check(worker, method, framed(bytes(data)))


@given(st.sampled_from(sorted(REQUESTS)), st.integers(0, 2**64 - 1))
@settings(max_examples=150, deadline=None)
def test_whatever_the_filter_reads_of_two_requests_in_one_google_protobuf_reads_the_same_way(worker, method, seed):
    random = Random(seed)
    one, two = (random_request(method, random).SerializeToString() for _ in range(2))
    cut = random.randrange(len(two) + 1)
    check(worker, method, framed(one + two[cut:]))
    check(worker, method, framed(two[cut:] + one))


@given(st.sampled_from(sorted(REQUESTS)), st.binary(max_size=80))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_are_never_a_failure_of_the_filter(worker, method, data):
    check(worker, method, data)
    check(worker, method, framed(data))
    check(worker, method, framed(SESSION_FIELD + data))


def test_the_generated_requests_are_not_all_refused(worker):
    random = Random(1)
    admitted = 0
    for _ in range(300):
        data = bytearray(random_request("ExecuteSql", random).SerializeToString())
        _flip(data, random)
        admitted += check(worker, "ExecuteSql", framed(bytes(data)))
    assert 20 < admitted < 280
