"""`python -m bench.storm`: thousands of statements nobody has sent before, while known ones go on.

Known requests are sent at a steady rate; after a while the storm begins: all at once, up to `--in-flight`. It is not
repeated: what the gateway refuses stays refused, with the status that is shown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.parts import calls, load
from bench.parts.calls import Storm
from bench.parts.envoys import framed
from bench.parts.load import Load, Running, Target
from bench.parts.numbers import p50_p99_ms, table
from bench.parts.processes import BenchError
from bench.parts.program import Found, Option, program
from bench.parts.rig import CHECKED, SHOP, WAYS, Rig, rig
from bench.parts.statements import SQL, shop_statement

KNOWN_CLIENTS, KNOWN_STREAMS = 2, 4
OPTIONS = (
    Option("statements", 5_000, 10, 20_000, "distinct statements of the storm"),
    Option("in-flight", 1_000, 1, 5_000, "of them at once"),
    Option("rate", 200, 10, 5_000, "known requests a second"),
    Option("before", 5, 1, 60, "seconds before the storm"),
    Option("seconds", 45, 5, 110, "seconds of known requests in all"),
)


def run(arguments: argparse.Namespace) -> Found:
    """Raises BenchError or SpangateError."""
    statements = [shop_statement(number) for number in range(arguments.statements)]
    h2load = load.find_h2load()
    with tempfile.TemporaryDirectory(prefix="spangate-bench-") as name:
        folder = Path(name)
        with rig(folder, SHOP, {CHECKED: WAYS[CHECKED]}) as made:
            body = folder / "body"
            body.write_bytes(framed(calls.message(made.session, SQL)))
            target = Target(h2load, calls.METHOD, body, folder)
            load.run(target, made.way(CHECKED).port, Load(1_000, KNOWN_CLIENTS, KNOWN_STREAMS))
            return _storm(arguments, made, target, statements)


def _storm(arguments: argparse.Namespace, made: Rig, target: Target, statements: Sequence[str]) -> Found:
    port = made.way(CHECKED).port
    known = Load(arguments.rate * arguments.seconds, KNOWN_CLIENTS, KNOWN_STREAMS, per_second=arguments.rate)
    reached = made.answered()
    running = Running(target, port, known, "known")
    try:
        time.sleep(arguments.before)
        storm = calls.many_at_once(port, made.session, statements, arguments.in_flight)
        outcome = running.result()
    finally:
        running.stop()
    # A storm may outlast the known requests; what counts is what it met.
    begun, ended = storm.begun_at * 1e6, storm.ended_at * 1e6
    before = [took for at, took in outcome.answers if at + took < begun]
    during = [took for at, took in outcome.answers if begun <= at + took and at <= ended]
    if not before or not during:
        raise BenchError("no known request fell before or into the storm; choose other times")
    refused = known.requests - (made.answered() - reached - storm.statuses.get("OK", 0))
    return _found(arguments, storm, {"before": before, "during": during}, refused, max(during))


def _found(
    arguments: argparse.Namespace, storm: Storm, known: dict[str, list[int]], refused: int, longest_us: int
) -> Found:
    times = {name: p50_p99_ms(took) for name, took in known.items()}
    rows = [
        (f"known, {name} the storm", f"{len(known[name]):,}", f"{p50:.3f} ms", f"{p99:.3f} ms")
        for name, (p50, p99) in times.items()
    ]
    new = p50_p99_ms(storm.times_us)
    rows.append(("new ones", f"{len(storm.times_us):,}", f"{new[0]:.3f} ms", f"{new[1]:.3f} ms"))
    lines = [
        (
            f"{arguments.statements:,} distinct statements, {arguments.in_flight:,} at once; "
            f"known ones at {arguments.rate} a second"
        ),
        table(("requests", "number", "p50", "p99"), rows),
        f"known ones refused: {refused}; the longest took {longest_us / 1000:.0f} ms",
        f"new ones answered: {storm.seconds:.1f} s, {storm.per_second:.0f} a second: "
        + ", ".join(f"{count:,} {status}" for status, count in sorted(storm.statuses.items())),
        *(f"  {status} says: {text}" for status, text in sorted(storm.said.items())),
    ]
    values: dict[str, object] = {
        "known": {name: {"p50_ms": p50, "p99_ms": p99} for name, (p50, p99) in times.items()},
        "known_refused": refused,
        "known_longest_ms": longest_us / 1000,
        "new": {
            "statuses": storm.statuses,
            "said": storm.said,
            "seconds": round(storm.seconds, 2),
            "p50_ms": new[0],
            "p99_ms": new[1],
        },
    }
    return Found(values, "\n".join(lines))


if __name__ == "__main__":
    sys.exit(program("storm", __doc__, OPTIONS, run))
