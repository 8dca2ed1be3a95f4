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

from bench.gateway import first_sight, load, report
from bench.gateway.measure import Bench, added, row
from bench.gateway.processes import BenchError
from bench.gateway.rig import CHECKED, CHECKOUT, PLAIN, rig
from bench.sessions import sealed_session
from spangate.adapters.intent_files import load_policy
from spangate.adapters.seal_keys import FILE
from spangate.errors import SpangateError

INTENT = Path(__file__).parents[2] / "examples" / "shop" / "spangate.yaml"
SQL = "SELECT o.Status, o.Total FROM Orders AS o WHERE o.OrderId = 'd4d182d4-0d2c-4a9e-9d0f-2f3a44d7a6c1'"


def main() -> int:
    """The exit code: 0, or 1 if it could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=between(1, 100), default=5, metavar="N")
    parser.add_argument("--requests", type=between(1_000, 1_000_000), default=20_000, metavar="N", help="busy, a round")
    parser.add_argument("--single", type=between(100, 100_000), default=2_000, metavar="N", help="one by one, a round")
    parser.add_argument("--statements", type=between(10, 10_000), default=300, metavar="N", help="for first sight")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    try:
        found = run(arguments.rounds, arguments.requests, arguments.single, arguments.statements)
    except (BenchError, SpangateError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(report.as_json(found) if arguments.json else report.as_table(found))
    return 0


def run(rounds: int, busy_requests: int, single_requests: int, statements: int) -> report.Report:
    """Everything that is measured. Raises BenchError or SpangateError."""
    h2load = load.find_h2load()
    database = load_policy(INTENT).databases["shop"].path
    with tempfile.TemporaryDirectory(prefix="spangate-bench-") as name, rig(Path(name), INTENT) as made:
        folder = Path(name)
        session = sealed_session(folder / FILE, CHECKOUT, f"{database}/sessions/bench")
        body = folder / "body"
        body.write_bytes(framed(first_sight.message(session, SQL)))
        checked, plain = made.way(CHECKED), made.way(PLAIN)
        # Before the rounds, which fill the logs; its warm-up makes the first connections.
        sights = first_sight.measure(checked.port, plain.port, session, SQL, statements)
        bench = Bench(h2load, made.backend_admin, first_sight.METHOD, body, folder)
        for _ in range(rounds):
            bench.round(made.ways, busy_requests, single_requests)
        return report.Report(
            rounds=rounds,
            busy_requests=busy_requests,
            single_requests=single_requests,
            rows=[row(way) for way in made.ways],
            added=added(checked, plain),
            sights=sights,
        )


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
