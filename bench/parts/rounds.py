"""Rounds of load over several ways to the same backend, in turn, so that a change of the machine hits all alike.

Rules: a request counts only if the backend saw it: an answer that a gateway made itself (a denial is HTTP 200, too)
makes the run fail. Numbers are the machine's of this hour; only ratios and differences within one run mean something.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.parts import load
from bench.parts.load import Load, Target
from bench.parts.numbers import lower_quartile, noise_percent, p50_p99_ms
from bench.parts.processes import BenchError, cpu_seconds

# Keeps both cores busy without a queue that would hide the gateway behind it.
BUSY_CLIENTS, BUSY_STREAMS = 4, 8
# A moderate rate: far from saturation on two cores, with some requests that meet.
MODERATE_CLIENTS, MODERATE_STREAMS = 4, 4


@dataclass
class Series:
    """What the rounds found for one way and one kind of load."""

    per_second: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)


@dataclass
class Way:
    """One way from the load to the backend. `gateway_pid` is the process whose CPU time is read, if there is one."""

    name: str
    port: int
    gateway_pid: int | None
    series: dict[str, Series] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What all runs share. `answered` says how many requests the backend has answered so far."""

    target: Target
    answered: Callable[[], int]

    def round(self, ways: Sequence[Way], loads: dict[str, Load], turn: int) -> None:
        """One round: every way with every load. Each round begins with another way: being first is no advantage."""
        order = [ways[(turn + i) % len(ways)] for i in range(len(ways))]
        for kind, what in loads.items():
            for way in order:
                self.measure(way, kind, what)

    def measure(self, way: Way, kind: str, what: Load) -> None:
        """One way with one load; the results are appended to its series."""
        before = cpu_seconds(way.gateway_pid) if way.gateway_pid is not None else 0.0
        reached = self.answered()
        outcome = load.run(self.target, way.port, what)
        series = way.series.setdefault(kind, Series())
        if way.gateway_pid is not None:
            series.cpu_us.append((cpu_seconds(way.gateway_pid) - before) * 1e6 / what.requests)
        # Looked up sessions and the like may come on top; requests must not be missing.
        reached = self.answered() - reached
        if reached < what.requests:
            raise BenchError(
                f"{way.name}: {reached} of {what.requests} requests reached the backend; the others were refused"
            )
        series.per_second.append(outcome.requests_per_second)
        p50, p99 = p50_p99_ms(outcome.latencies_us)
        series.p50_ms.append(p50)
        series.p99_ms.append(p99)


@dataclass(frozen=True)
class Row:
    """One line of a table: CPU time as the lower quartile over the rounds, the others as medians. None where there is
    nothing to measure."""

    name: str
    load: str
    requests_per_second: int
    gateway_cpu_us: float | None
    cpu_noise_percent: float | None
    p50_ms: float
    p99_ms: float


def row(way: Way, kind: str) -> Row:
    """The medians of a way that has been measured."""
    series = way.series[kind]
    return Row(
        name=way.name,
        load=kind,
        requests_per_second=round(statistics.median(series.per_second)),
        gateway_cpu_us=round(lower_quartile(series.cpu_us), 1) if series.cpu_us else None,
        cpu_noise_percent=noise_percent(series.cpu_us) if series.cpu_us else None,
        p50_ms=round(statistics.median(series.p50_ms), 3),
        p99_ms=round(statistics.median(series.p99_ms), 3),
    )


@dataclass(frozen=True)
class Added:
    """What one way costs more than another: latencies as medians of the differences round by round."""

    load: str
    cpu_us: float
    cpu_ratio: float
    p50_ms: float
    p99_ms: float


def added(way: Way, over: Way, kind: str) -> Added:
    """`cpu_ratio` is `over`'s CPU time per request divided by `way`'s: 1 means no cost at all."""
    mine, other = way.series[kind], over.series[kind]
    dear, cheap = lower_quartile(mine.cpu_us), lower_quartile(other.cpu_us)
    if min(dear, cheap) <= 0:
        raise BenchError("the gateway used less CPU time than the clock can tell; measure more --requests")
    return Added(
        load=kind,
        cpu_us=round(dear - cheap, 1),
        cpu_ratio=round(cheap / dear, 2),
        p50_ms=round(_difference(mine.p50_ms, other.p50_ms), 3),
        p99_ms=round(_difference(mine.p99_ms, other.p99_ms), 3),
    )


def _difference(dear: Sequence[float], cheap: Sequence[float]) -> float:
    return statistics.median(a - b for a, b in zip(dear, cheap, strict=True))
