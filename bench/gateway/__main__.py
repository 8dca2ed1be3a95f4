"""`python -m bench.gateway`: what a checked request costs, beside plain Envoy with the same TLS, in one run.

    h2load -> sidecar Envoy -> (mutual TLS) -> gateway Envoy -> backend Envoy that answers by itself

Everything is on loopback, bounded in count and time, and has ended when this ends.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench.gateway import report
from bench.parts import calls, load
from bench.parts.envoys import framed
from bench.parts.load import Load, Target
from bench.parts.numbers import between
from bench.parts.processes import BenchError
from bench.parts.rig import CHECKED, PLAIN, SHOP, WITH_TOKEN, rig
from bench.parts.rounds import BUSY_CLIENTS, BUSY_STREAMS, MODERATE_CLIENTS, MODERATE_STREAMS, Bench, added, row
from bench.parts.statements import SQL
from spangate.errors import SpangateError

SATURATED, MODERATE, SINGLE = "saturated", "moderate", "one by one"


def main() -> int:
    """The exit code: 0, or 1 if it could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=between(1, 100), default=5, metavar="N")
    parser.add_argument(
        "--requests", type=between(1_000, 1_000_000), default=10_000, metavar="N", help="saturated, a round"
    )
    parser.add_argument(
        "--moderate", type=between(100, 1_000_000), default=2_000, metavar="N", help="moderate, a round"
    )
    parser.add_argument("--rate", type=between(100, 20_000), default=1_000, metavar="N", help="a second, moderate")
    parser.add_argument("--single", type=between(100, 100_000), default=1_000, metavar="N", help="one by one, a round")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    loads = {
        SATURATED: Load(arguments.requests, BUSY_CLIENTS, BUSY_STREAMS),
        MODERATE: Load(arguments.moderate, MODERATE_CLIENTS, MODERATE_STREAMS, per_second=arguments.rate),
        SINGLE: Load(arguments.single, 1, 1),
    }
    try:
        found = run(arguments.rounds, loads)
    except (BenchError, SpangateError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(report.as_json(found) if arguments.json else report.as_table(found))
    return 0


def run(rounds: int, loads: dict[str, Load]) -> report.Report:
    """Everything that is measured. Raises BenchError or SpangateError."""
    h2load = load.find_h2load()
    with tempfile.TemporaryDirectory(prefix="spangate-bench-") as name:
        folder = Path(name)
        with rig(folder, SHOP, with_token=True) as made:
            body = folder / "body"
            body.write_bytes(framed(calls.message(made.session, SQL)))
            bench = Bench(Target(h2load, calls.METHOD, body, folder), made.answered)
            for way in made.ways:
                # Connections are made, the decision is cached and LuaJIT compiles before anything counts.
                bench.measure(way, "warm-up", Load(1_000, BUSY_CLIENTS, BUSY_STREAMS))
            if not made.tokens_asked(made.way(WITH_TOKEN)):
                raise BenchError(f"{WITH_TOKEN}: the gateway sends requests on without one")
            for turn in range(rounds):
                bench.round(made.ways, loads, turn)
            checked, plain = made.way(CHECKED), made.way(PLAIN)
            return report.Report(
                rounds=rounds,
                loads=loads,
                rows=[row(way, kind) for kind in loads for way in made.ways],
                added=[added(checked, plain, kind) for kind in loads],
                with_token=[added(made.way(WITH_TOKEN), checked, kind) for kind in loads],
            )


if __name__ == "__main__":
    sys.exit(main())
