"""Rounds of load over several ways to the same backend, in turn, so that a change of the machine hits all alike.

Rules: a request counts only if the backend saw it: an answer that a gateway made itself (a denial is HTTP 200, too)
makes the run fail. Numbers are the machine's of this hour; only ratios and differences within one run mean something.
"""

from __future__ import annotations

import http.client
import socket
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.gateway import load
from bench.gateway.load import Load
from bench.gateway.processes import BenchError, cpu_seconds

ADMIN_SECONDS = 5.0
# Keeps both cores busy without a queue that would hide the gateway behind it.
BUSY = {"clients": 4, "streams": 8}


@dataclass
class Way:
    """One way from the load to the backend. `gateway_pid` is the process whose CPU time is read, if there is one."""

    name: str
    port: int
    gateway_pid: int | None
    per_second: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """What all runs share. `backend_admin` is the backend Envoy's admin socket."""

    h2load: str
    backend_admin: Path
    path: str
    body: Path
    folder: Path

    def round(self, ways: Sequence[Way], busy_requests: int, single_requests: int) -> None:
        """One round: every way busy, then every way with one request at a time; results are appended to the ways."""
        for way in ways:
            self._busy(way, busy_requests)
        for way in ways:
            outcome = self._run(way, Load(single_requests, clients=1, streams=1))
            way.p50_us.append(load.quantile(outcome.latencies_us, 0.5))
            way.p99_us.append(load.quantile(outcome.latencies_us, 0.99))

    def _busy(self, way: Way, requests: int) -> None:
        before = cpu_seconds(way.gateway_pid) if way.gateway_pid is not None else 0.0
        outcome = self._run(way, Load(requests, **BUSY))
        way.per_second.append(outcome.requests_per_second)
        if way.gateway_pid is not None:
            way.cpu_us.append((cpu_seconds(way.gateway_pid) - before) * 1e6 / requests)

    def _run(self, way: Way, what: Load) -> load.Outcome:
        before = self._answered()
        outcome = load.run(self.h2load, way.port, self.path, self.body, what, self.folder / "h2load.log")
        reached = self._answered() - before
        if reached != what.requests:
            raise BenchError(
                f"{way.name}: {reached} of {what.requests} requests reached the backend; the others were refused"
            )
        return outcome

    def _answered(self) -> int:
        """How many requests the backend has answered since it was started."""
        connection = http.client.HTTPConnection("localhost", timeout=ADMIN_SECONDS)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(ADMIN_SECONDS)
            connection.sock.connect(str(self.backend_admin))
            connection.request("GET", "/stats?filter=%5Ehttp%5C.backend%5C.downstream_rq_2xx%24")
            return int(connection.getresponse().read().rpartition(b":")[2])
        finally:
            connection.close()


@dataclass(frozen=True)
class Row:
    """One line of the table; medians over the rounds. None where there is nothing to measure."""

    name: str
    requests_per_second: float | None
    gateway_cpu_us: float | None
    p50_ms: float
    p99_ms: float


def row(way: Way) -> Row:
    """The medians of a way that has been measured."""
    return Row(
        name=way.name,
        requests_per_second=round(statistics.median(way.per_second)),
        gateway_cpu_us=round(statistics.median(way.cpu_us), 1) if way.cpu_us else None,
        p50_ms=round(statistics.median(way.p50_us) / 1000, 3),
        p99_ms=round(statistics.median(way.p99_us) / 1000, 3),
    )


@dataclass(frozen=True)
class Added:
    """What one way costs more than another: medians of the differences round by round."""

    cpu_us: float
    cpu_ratio: float
    p50_ms: float
    p99_ms: float


def added(way: Way, over: Way) -> Added:
    """`cpu_ratio` is `over`'s CPU time per request divided by `way`'s: 1 means no cost at all."""

    def difference(dear: list[float], cheap: list[float]) -> float:
        return statistics.median(a - b for a, b in zip(dear, cheap, strict=True))

    mine, other = statistics.median(way.cpu_us), statistics.median(over.cpu_us)
    if min(mine, other) <= 0:
        raise BenchError("the gateway used less CPU time than the clock can tell; measure more --requests")
    return Added(
        cpu_us=round(difference(way.cpu_us, over.cpu_us), 1),
        cpu_ratio=round(other / mine, 2),
        p50_ms=round(difference(way.p50_us, over.p50_us) / 1000, 3),
        p99_ms=round(difference(way.p99_us, over.p99_us) / 1000, 3),
    )
