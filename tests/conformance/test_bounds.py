"""The largest requests, and the most expensive ones for their size: read, or refused before they cost much.

Times under LuaJIT on one core of the machine they were written on, body to answer; the filter holds up its worker that
long. No time is asserted: on another machine it is another. None may come near a second.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fakes.checkpoint import FakeCheckpoint
from fakes.envoy import Worker
from fakes.spanner_oracle import DATABASE, SESSION, framed, path
from spangate.rpc.shape import decode_shape
from spangate.settings import LIMITS, MIB


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    length, found = len(payload), bytearray([number * 8 + 2])
    while length >= 128:
        found.append(length % 128 + 128)
        length //= 128
    return bytes([*found, length]) + payload


SESSION_FIELD = field(1, SESSION.encode())
ROW = field(3, field(1, field(3, b"1")))
# Spanner's "80,000 mutations per commit" are 80,000 columns of rows: this many, in the form that needs most entries.
SPANNERS_MUTATIONS_MAX = 80_000


def insert(columns: int, value: bytes = ROW, table: bytes = b"Orders") -> bytes:
    names = b"".join(field(2, b"Column%d" % n) for n in range(columns))
    return field(4, field(1, field(1, table) + names + value))


def deletes(count: int) -> bytes:
    return b"".join(field(4, field(5, field(1, b"T%d" % n))) for n in range(count))


def statements(count: int) -> bytes:
    return b"".join(field(3, field(1, b"S%d" % n)) for n in range(count))


# What -> the call, its message without the session, and how many statements or mutations its shape has.
READ: dict[str, tuple[str, Callable[[], bytes], int]] = {
    # 70 ms
    "80,000 mutations of one column": ("Commit", lambda: insert(1) * SPANNERS_MUTATIONS_MAX, 1),
    # 50 ms
    "80,000 mutations of two columns": ("Commit", lambda: insert(2) * (SPANNERS_MUTATIONS_MAX // 2), 1),
    # 40 ms
    "10,000 tables": ("Commit", lambda: deletes(LIMITS.distinct_max), LIMITS.distinct_max),
    # 155 ms
    "250,000 equal mutations": ("Commit", lambda: field(4, field(5, b"")) * 250_000, 1),
    # 30 ms
    "one mutation of 249,999 rows": ("Commit", lambda: insert(0, field(3, b"") * 249_999), 1),
    # 45 ms
    "one mutation of 249,998 columns": ("Commit", lambda: insert(0, field(2, b"c") * 249_998), 1),
    # 60 ms
    "100 MiB in 80,000 mutations": (
        "Commit",
        lambda: insert(1, field(3, bytes(1250))) * SPANNERS_MUTATIONS_MAX,
        1,
    ),
    # 190 ms
    "100 MiB in one value": ("Commit", lambda: insert(1, field(3, bytes(99 * MIB))), 1),
    # 300 ms
    "100 MiB of empty keys": ("Commit", lambda: field(4, field(5, field(2, b"\x0a\x00" * (49 * MIB)))), 1),
    # 100 ms
    "125,000 groups": ("BatchWrite", lambda: field(4, field(1, field(5, b""))) * 125_000, 1),
    # 2 ms
    "1,000,000 characters": ("ExecuteSql", lambda: field(3, b"x" * 1_000_000), 1),
    # 15 ms
    "a statement of 10 MB": ("ExecuteSql", lambda: field(3, b"x" * 10_000_000), 1),
    # below 1 ms
    "950 parameters": (
        "ExecuteSql",
        lambda: b"".join(field(5, field(1, b"p%d" % n) + field(2, b"\x08\x02")) for n in range(950)),
        1,
    ),
    # 90 ms
    "250,000 equal statements": ("ExecuteBatchDml", lambda: field(3, field(1, b"S")) * 250_000, 1),
    # 15 ms
    "10,000 statements": ("ExecuteBatchDml", lambda: statements(LIMITS.distinct_max), LIMITS.distinct_max),
}
REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    # 45 ms; without the limit 1.8 s
    "10,001 tables": ("Commit", lambda: deletes(LIMITS.distinct_max + 1)),
    "10,001 statements": ("ExecuteBatchDml", lambda: statements(LIMITS.distinct_max + 1)),
    "10,001 tables in as many groups": (
        "BatchWrite",
        lambda: b"".join(field(4, field(1, field(5, field(1, b"T%d" % n)))) for n in range(LIMITS.distinct_max + 1)),
    ),
    # 30 ms
    "10 MB of empty groups": ("BatchWrite", lambda: field(4, b"") * 5_000_000),
    "100 MB of empty mutations": ("Commit", lambda: field(4, b"") * 50_000_000),
    "250,001 labels": ("CreateSession", lambda: field(2, field(2, b"") * 250_001)),
}


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.mark.parametrize("case", READ)
def test_a_request_within_the_limits_is_read(worker: Worker, case: str) -> None:
    method, message, parts = READ[case]
    checkpoint = FakeCheckpoint()
    stream = worker.send(path(method), framed(SESSION_FIELD + message()), checkpoint)
    assert stream.admitted, stream.metadata
    [(_, encoded)] = checkpoint.asked
    shape = decode_shape(encoded)
    assert len(shape.statements) + len(shape.mutations) == parts


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_beyond_them_is_refused(worker: Worker, case: str) -> None:
    method, message = REFUSED[case]
    name = field(1, DATABASE.encode()) if method == "CreateSession" else SESSION_FIELD
    stream = worker.send(path(method), framed(name + message()), FakeCheckpoint())
    assert stream.refusal == (b"7", b"request-too-large")
