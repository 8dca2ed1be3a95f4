"""Promise: results stream through the gateway: it never waits for the end of one, nor keeps it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from google.cloud.spanner_v1 import types
from google.protobuf.struct_pb2 import Value

from e2e.harness import CHECKOUT, LAB, MIB, SESSION, TESTER, Site, Up, encode, memory_kib

pytestmark = pytest.mark.e2e

SELECT = types.ExecuteSqlRequest(session=SESSION, sql="SELECT OrderId FROM Orders")
READ = types.ReadRequest(session=SESSION, table="Orders", columns=["OrderId"], key_set={"all_": True})
PartialResultSet = types.PartialResultSet.pb()
CHUNK_BYTES = 256 * 1024
CHUNKS = 400
# 100 MiB pass through; windows and buffers on the way hold some 20 of them at the worst.
GROWTH_KIB_MAX = 40 * 1024


def chunk(number: int) -> bytes:
    value = Value(string_value=f"{number:06}" + "x" * CHUNK_BYTES)
    return bytes(PartialResultSet(values=[value]).SerializeToString())


@pytest.mark.parametrize(("rpc", "message"), [("ExecuteStreamingSql", SELECT), ("StreamingRead", READ)])
def test_each_part_of_a_result_arrives_before_the_next_is_made(own_site: Site, rpc: str, message: object) -> None:
    received = threading.Semaphore(0)
    waited: list[bool] = []

    def one_after_the_other(_rpc: str, _body: bytes) -> Iterator[bytes]:
        for number in range(5):
            yield chunk(number)
            # Made only once the client has what was made before.
            waited.append(received.acquire(timeout=20))

    own_site.spanner.answers = one_after_the_other
    gateway = own_site.start_gateway()
    try:
        with gateway.client(CHECKOUT) as client:
            for number, part in enumerate(client.stream(rpc, message)):
                assert part == chunk(number)
                received.release()
        assert waited == [True] * 5
    finally:
        gateway.envoy.stop()


def test_the_gateways_memory_does_not_grow_with_a_result(own_site: Site) -> None:
    own_site.spanner.answers = lambda _rpc, _body: (chunk(number) for number in range(CHUNKS))
    gateway = own_site.start_gateway()
    try:
        with gateway.client(CHECKOUT) as client:
            next(client.stream("ExecuteStreamingSql", SELECT))
            before = memory_kib(gateway.pid)
            total = sum(len(part) for part in client.stream("ExecuteStreamingSql", SELECT, 60))
        assert total > CHUNKS * CHUNK_BYTES > 100 * MIB - 1
        assert memory_kib(gateway.pid, "VmHWM") - before < GROWTH_KIB_MAX
    finally:
        gateway.envoy.stop()


def test_a_client_that_does_not_read_makes_spanner_wait_and_not_the_gateway_swell(own_site: Site) -> None:
    made: list[int] = []

    def counted(_rpc: str, _body: bytes) -> Iterator[bytes]:
        for number in range(CHUNKS):
            made.append(number)
            yield chunk(number)

    own_site.spanner.answers = counted
    gateway = own_site.start_gateway()
    try:
        with gateway.client(CHECKOUT) as client:
            stream = client.channel.unary_stream("/google.spanner.v1.Spanner/ExecuteStreamingSql")(
                encode(SELECT), timeout=60
            )
            next(stream)
            before = memory_kib(gateway.pid)
            settled, last = 0, -1
            while settled < 20:
                # Nothing more is made for a second: everybody waits for the client.
                settled, last = (settled + 1, last) if len(made) == last else (0, len(made))
                threading.Event().wait(0.05)
            assert len(made) < CHUNKS
            assert memory_kib(gateway.pid) - before < GROWTH_KIB_MAX
            assert sum(1 for _ in stream) == CHUNKS - 1
    finally:
        gateway.envoy.stop()


def test_a_large_result_of_the_real_spanner_arrives_whole(shop: Up) -> None:
    rows, width = 64, 128 * 1024
    sql = f"SELECT REPEAT('x', {width}) FROM UNNEST(GENERATE_ARRAY(1, {rows}))"
    with shop.client(TESTER) as client:
        session = client.session(LAB)
        parts = list(client.stream("ExecuteStreamingSql", types.ExecuteSqlRequest(session=session, sql=sql)))
        client.call("DeleteSession", types.DeleteSessionRequest(name=session))
    assert len(parts) > 1
    text = sum(len(value.string_value) for part in parts for value in PartialResultSet.FromString(part).values)
    assert text == rows * width
