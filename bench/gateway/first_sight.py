"""The first sight of a statement: distinct statements, one after the other, from a small gRPC client in Python.

h2load can send only one body, so this part has a client of its own. Its share is in every time, which is why the
same client also times a statement that is known already: the difference is what first sight costs.
"""

from __future__ import annotations

import time

import grpc
from google.cloud.spanner_v1 import ExecuteSqlRequest

from bench.gateway.processes import BenchError

METHOD = "/google.spanner.v1.Spanner/ExecuteSql"
CALL_SECONDS = 10.0
WARM_UP_CALLS = 50


def message(session: str, sql: str) -> bytes:
    """An encoded ExecuteSqlRequest."""
    return bytes(ExecuteSqlRequest.serialize(ExecuteSqlRequest(session=session, sql=sql)))


def distinct(sql: str, number: int) -> str:
    """A statement of the same meaning and cost that nobody has seen before."""
    return f"{sql} AND {number} = {number}"


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
