"""The first sight of a statement: distinct statements, one after the other, from a small gRPC client in Python.

h2load can send only one body, so this part has a client of its own. Its share is in every time, which is why the
same client sends the same statements once more (now known), and through plain Envoy: the differences are the cost.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import grpc
from google.cloud.spanner_v1 import ExecuteSqlRequest

from bench.gateway.load import quantile
from bench.gateway.processes import BenchError

METHOD = "/google.spanner.v1.Spanner/ExecuteSql"
CALL_SECONDS = 10.0
WARM_UP_CALLS = 50


@dataclass(frozen=True)
class Sight:
    """Times that the client saw, in milliseconds."""

    name: str
    p50_ms: float
    p99_ms: float


def message(session: str, sql: str) -> bytes:
    """An encoded ExecuteSqlRequest."""
    return bytes(ExecuteSqlRequest.serialize(ExecuteSqlRequest(session=session, sql=sql)))


def measure(checked_port: int, plain_port: int, session: str, sql: str, count: int) -> list[Sight]:
    """`count` distinct statements: unknown, then known, then past a gateway that checks nothing."""
    warm_up = [sql] * WARM_UP_CALLS
    for port in (checked_port, plain_port):
        times_us(port, session, warm_up)
    statements = [f"{sql} AND {number} = {number}" for number in range(count)]
    return [
        _sight("first sight", times_us(checked_port, session, statements)),
        _sight("known", times_us(checked_port, session, statements)),
        _sight("plain Envoy", times_us(plain_port, session, statements)),
    ]


def times_us(port: int, session: str, statements: list[str]) -> tuple[int, ...]:
    """Send the statements one after the other; how long each answer took, sorted, in microseconds."""
    found = []
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.enable_http_proxy", 0),)) as channel:
        call = channel.unary_stream(METHOD, request_serializer=bytes, response_deserializer=bytes)
        for number, sql in enumerate(statements):
            request = message(session, sql)
            begin = time.perf_counter_ns()
            try:
                # Read as a stream: the backend's answer is a status without a message, which a unary call refuses.
                list(call(request, timeout=CALL_SECONDS))
            except grpc.RpcError as error:
                raise BenchError(f"statement {number}: {error.code().name} {error.details()}") from error
            found.append((time.perf_counter_ns() - begin) // 1000)
    return tuple(sorted(found))


def _sight(name: str, times: tuple[int, ...]) -> Sight:
    return Sight(name, round(quantile(times, 0.5) / 1000, 3), round(quantile(times, 0.99) / 1000, 3))
