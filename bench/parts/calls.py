"""Statements one after the other or many at once, from a small gRPC client in Python.

h2load can send only one body, so distinct statements need a client of their own. Its share is in every time, which is
why the same client sends the same statements once more (now known), and through plain Envoy: the differences are the
cost.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from google.cloud.spanner_v1 import ExecuteSqlRequest

from bench.parts.processes import BenchError

METHOD = "/google.spanner.v1.Spanner/ExecuteSql"
CALL_SECONDS = 20.0
_OPTIONS = (("grpc.enable_http_proxy", 0),)


def message(session: str, sql: str) -> bytes:
    """An encoded ExecuteSqlRequest."""
    return bytes(ExecuteSqlRequest.serialize(ExecuteSqlRequest(session=session, sql=sql)))


def one_by_one_us(port: int, session: str, statements: Sequence[str]) -> list[int]:
    """How long each answer took, in microseconds. BenchError if one is refused."""
    found = []
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS) as channel:
        # Read as a stream: the backend's answer is a status without a message, which a unary call refuses.
        call = channel.unary_stream(METHOD, request_serializer=bytes, response_deserializer=bytes)
        for number, sql in enumerate(statements):
            request = message(session, sql)
            begin = time.perf_counter_ns()
            try:
                list(call(request, timeout=CALL_SECONDS))
            except grpc.RpcError as error:
                raise BenchError(f"statement {number}: {error.code().name} {error.details()}") from error
            found.append((time.perf_counter_ns() - begin) // 1000)
    return found


@dataclass(frozen=True)
class Storm:
    """What became of statements that were sent many at once. `statuses` counts gRPC status names; `said` holds one
    message of each status but OK."""

    statuses: dict[str, int]
    said: dict[str, str]
    seconds: float
    begun_at: float
    ended_at: float
    times_us: list[int]

    @property
    def per_second(self) -> float:
        """Answers of any kind a second."""
        return round(sum(self.statuses.values()) / self.seconds, 1)


def many_at_once(port: int, session: str, statements: Sequence[str], in_flight: int) -> Storm:
    """Send all statements, `in_flight` at once, each once: nothing is tried again."""
    return asyncio.run(_many(port, session, statements, in_flight))


async def _many(port: int, session: str, statements: Sequence[str], in_flight: int) -> Storm:
    statuses: Counter[str] = Counter()
    said: dict[str, str] = {}
    times: list[int] = []
    waiting = iter(statements)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS) as channel:
        call = channel.unary_stream(METHOD, request_serializer=bytes, response_deserializer=bytes)

        async def worker() -> None:
            for sql in waiting:
                begin = time.perf_counter_ns()
                try:
                    async for _ in call(message(session, sql), timeout=CALL_SECONDS):
                        pass
                    status = "OK"
                except grpc.aio.AioRpcError as error:
                    status = error.code().name
                    said.setdefault(status, error.details() or "")
                times.append((time.perf_counter_ns() - begin) // 1000)
                statuses[status] += 1

        begun_at, begin = time.time(), time.monotonic()
        await asyncio.gather(*(worker() for _ in range(in_flight)))
        seconds = time.monotonic() - begin
    return Storm(dict(statuses), said, seconds, begun_at, time.time(), times)
