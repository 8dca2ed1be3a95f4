"""`python -m bench.gateway`: what the gateway costs, beside plain Envoy with the same TLS, in one run.

    h2load -> sidecar Envoy -> (mutual TLS) -> gateway Envoy -> backend Envoy that answers by itself

The backend is an Envoy because every real or emulated Spanner is slower than the gateway. Everything is on loopback,
bounded in count and time, and has ended when this ends.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.gateway import load, report
from bench.gateway.first_sight import METHOD, message
from bench.gateway.measure import Bench, row
from bench.gateway.processes import BenchError
from bench.gateway.rig import rig

SESSION = "projects/spangate-bench/instances/main/databases/shop/sessions/bench"
SQL = "SELECT o.Status, o.Total FROM Orders AS o WHERE o.OrderId = @order"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=between(1, 100), default=5, metavar="N")
    parser.add_argument("--requests", type=between(100, 1_000_000), default=20_000, metavar="N")
    parser.add_argument("--single", type=between(100, 100_000), default=2_000, metavar="N")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    try:
        h2load = load.find_h2load()
        with tempfile.TemporaryDirectory(prefix="spangate-bench-") as name, rig(Path(name)) as made:
            body = Path(name) / "body"
            body.write_bytes(framed(message(SESSION, SQL)))
            bench = Bench(h2load, made.backend_admin, METHOD, body, Path(name))
            for _ in range(arguments.rounds):
                bench.round(made.ways, arguments.requests, arguments.single)
            rows = [row(way) for way in made.ways]
            found = report.Report(arguments.rounds, arguments.requests, arguments.single, rows, None)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(report.as_json(found) if arguments.json else report.as_table(found))
    return 0


def between(low: int, high: int) -> Callable[[str], int]:
    """An argument type: a whole number within limits (choices=range(...) would print all of them in its error)."""

    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return number


def framed(encoded: bytes) -> bytes:
    """A gRPC message: not compressed, length, bytes."""
    return b"\0" + len(encoded).to_bytes(4, "big") + encoded


if __name__ == "__main__":
    sys.exit(main())
