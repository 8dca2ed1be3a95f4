"""`python -m bench.profile`: where the microseconds of a checked request go, stage by stage.

One gateway for each stage, one load on all of them in turn, round by round; the CPU time of the gateway per request,
and how much more it is than the stage before.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.parts import calls, load
from bench.parts.envoys import framed
from bench.parts.load import Load, Target
from bench.parts.numbers import between, lower_quartile, machine, machine_line, noise_percent, table
from bench.parts.processes import BenchError
from bench.parts.rig import SHOP, rig
from bench.parts.rounds import BUSY_CLIENTS, BUSY_STREAMS, Bench, Way
from bench.parts.statements import SQL
from bench.profile.stages import stages
from spangate.errors import SpangateError

KIND = "busy"


@dataclass(frozen=True)
class Line:
    """`more_us` is the difference to the stage before; None for the first."""

    stage: str
    cpu_us: float
    more_us: float | None
    noise_percent: float


def main() -> int:
    """The exit code: 0, or 1 if it could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=between(1, 100), default=15, metavar="N")
    parser.add_argument(
        "--requests", type=between(1_000, 1_000_000), default=2_000, metavar="N", help="a round and stage"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    try:
        lines = run(arguments.rounds, arguments.requests)
    except (BenchError, SpangateError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({**machine(), "stages": [asdict(line) for line in lines]}, indent=2))
        return 0
    print(table(("stage", "CPU/req", "more", "noise"), [_cells(line) for line in lines]))
    print(
        f"\n{arguments.rounds} rounds of {arguments.requests} requests; CPU time: the lower quartile, "
        "noise: half the interquartile range"
    )
    print(machine_line())
    return 0


def run(rounds: int, requests: int) -> list[Line]:
    """Raises BenchError or SpangateError."""
    h2load = load.find_h2load()
    with tempfile.TemporaryDirectory(prefix="spangate-bench-") as name:
        folder = Path(name)
        with rig(folder, SHOP, {stage.name: stage.change for stage in stages()}) as made:
            body = folder / "body"
            body.write_bytes(framed(calls.message(made.session, SQL)))
            bench = Bench(Target(h2load, calls.METHOD, body, folder), made.answered)
            ways = made.ways[1:]
            for way in ways:
                # One by one until the decision is cached: many would ask the checkpoint at once.
                bench.measure(way, "first", Load(10, 1, 1))
                # Connections are made, and LuaJIT compiles, before anything counts.
                bench.measure(way, "warm-up", Load(2_000, BUSY_CLIENTS, BUSY_STREAMS))
            for turn in range(rounds):
                bench.round(ways, {KIND: Load(requests, BUSY_CLIENTS, BUSY_STREAMS)}, turn)
            for way in ways:
                if errors := made.script_errors(way):
                    raise BenchError(f"the script of the stage `{way.name}` failed {errors} times")
            return [_line(ways, i) for i in range(len(ways))]


def _line(ways: list[Way], i: int) -> Line:
    mine = ways[i].series[KIND].cpu_us
    before = lower_quartile(ways[i - 1].series[KIND].cpu_us) if i else None
    return Line(
        stage=ways[i].name,
        cpu_us=round(lower_quartile(mine), 1),
        more_us=None if before is None else round(lower_quartile(mine) - before, 1),
        noise_percent=noise_percent(mine),
    )


def _cells(line: Line) -> tuple[str, str, str, str]:
    more = "" if line.more_us is None else f"{line.more_us:+.1f} us"
    return line.stage, f"{line.cpu_us:.1f} us", more, f"{line.noise_percent:.0f} %"


if __name__ == "__main__":
    sys.exit(main())
