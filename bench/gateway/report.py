"""The table for people and the JSON for programs, from the same values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from bench.parts.load import Load
from bench.parts.numbers import machine, machine_line, table
from bench.parts.rounds import Added, Row

HEADING = ("way", "req/s", "gateway CPU/req", "noise", "p50", "p99")


@dataclass(frozen=True)
class Report:
    """Everything one run found."""

    rounds: int
    loads: Mapping[str, Load]
    rows: Sequence[Row]
    # The gateway over plain Envoy, and with an access token over the gateway without.
    added: Sequence[Added]
    with_token: Sequence[Added]


def as_json(report: Report) -> str:
    """One JSON object; times as their names say."""
    return json.dumps({**machine(), **asdict(report)}, indent=2)


def as_table(report: Report) -> str:
    """A table for each kind of load, and what the gateway adds in one sentence."""
    parts = []
    for cost, token in zip(report.added, report.with_token, strict=True):
        rows = [_cells(row) for row in report.rows if row.load == cost.load]
        parts += [
            f"{cost.load}: {_described(report.loads[cost.load])}",
            table(HEADING, rows),
            (
                f"the gateway costs {cost.cpu_us:+.1f} us of CPU per request over plain Envoy "
                f"(ratio {cost.cpu_ratio:.2f}), {cost.p50_ms:+.3f} ms at p50, "
                f"{cost.p99_ms:+.3f} ms at p99;\nan access token more {token.cpu_us:+.1f} us of CPU and "
                f"{token.p50_ms:+.3f} ms at p50\n"
            ),
        ]
    parts += [
        f"{report.rounds} rounds, medians; CPU time: the lower quartile, noise: half the interquartile range",
        f"load, sidecar, gateway and backend share the machine: {machine_line()}",
    ]
    return "\n".join(parts)


def _described(load: Load) -> str:
    rate = f", {load.per_second} a second" if load.per_second else ""
    return f"{load.requests} requests a round, {load.clients * load.streams} in flight at most{rate}"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.requests_per_second:,}",
        "" if row.gateway_cpu_us is None else f"{row.gateway_cpu_us:.1f} us",
        "" if row.cpu_noise_percent is None else f"{row.cpu_noise_percent:.0f} %",
        f"{row.p50_ms:.3f} ms",
        f"{row.p99_ms:.3f} ms",
    )
