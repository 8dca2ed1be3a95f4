"""`python -m bench.literals`: statements that differ in their literals only, as clients without parameters send.

At the checkpoint alone: how many of them it analyses, and how fast it answers beside one and the same statement.
Through the gateway: how many it asks the checkpoint for, and so holds in its cache, and how fast.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.parts import calls
from bench.parts.numbers import p50_p99_ms, table
from bench.parts.processes import BenchError
from bench.parts.program import Found, Option, program
from bench.parts.rig import CHECKED, CHECKOUT, SHOP, WAYS, rig
from bench.parts.shapes import Shapes
from bench.parts.statements import shop_statement_with_literal
from spangate.adapters.analysers import AnalyserPool
from spangate.adapters.clock import SystemClock
from spangate.adapters.intent_files import load_policy
from spangate.adapters.zetasql_engine import WasmEngine
from spangate.checkpoint.service import Checkpoint

OPTIONS = (
    Option("statements", 5_000, 10, 20_000, "statements with other literals"),
    Option("in-flight", 16, 1, 1_000, "at once through the gateway"),
)


class CountingEngine(WasmEngine):
    """The product's engine; counts what it analyses, over all instances."""

    analysed = 0

    def call(self, method: str, request: bytes) -> bytes:
        """See WasmEngine.call."""
        if method.endswith("_Analyze"):
            CountingEngine.analysed += 1
        return super().call(method, request)


def run(arguments: argparse.Namespace) -> Found:
    """Raises BenchError or SpangateError."""
    statements = [shop_statement_with_literal(number) for number in range(arguments.statements)]
    analysed, first, again = _alone(statements)
    with tempfile.TemporaryDirectory(prefix="spangate-bench-") as name:
        folder = Path(name)
        with rig(folder, SHOP, {CHECKED: WAYS[CHECKED]}) as made:
            port = made.way(CHECKED).port
            calls.one_by_one_us(port, made.session, ["SELECT 1"])
            before = _lines(made.decisions)
            storm = calls.many_at_once(port, made.session, statements, arguments.in_flight)
            asked = _lines(made.decisions) - before
            repeated = calls.many_at_once(port, made.session, statements, arguments.in_flight)
            asked_again = _lines(made.decisions) - before - asked
    new, known = p50_p99_ms(storm.times_us), p50_p99_ms(repeated.times_us)
    rows = [
        ("checkpoint alone", f"{first:,.0f}", f"{analysed:,} analysed", "", ""),
        ("  once more", f"{again:,.0f}", "", "", ""),
        (
            "through the gateway",
            f"{storm.per_second:,.0f}",
            f"{asked:,} decided",
            f"{new[0]:.3f} ms",
            f"{new[1]:.3f} ms",
        ),
        (
            "  once more",
            f"{repeated.per_second:,.0f}",
            f"{asked_again:,} decided",
            f"{known[0]:.3f} ms",
            f"{known[1]:.3f} ms",
        ),
    ]
    statuses = ", ".join(f"{count:,} {status}" for status, count in sorted(storm.statuses.items()))
    text = "\n".join(
        [
            (
                f"{arguments.statements:,} statements that differ in literals only; "
                f"through the gateway {arguments.in_flight} at once"
            ),
            table(("at", "a second", "work", "p50", "p99"), rows),
            f"answers: {statuses}",
        ]
    )
    values: dict[str, object] = {
        "statements": arguments.statements,
        "analysed": analysed,
        "checkpoint_per_second": {"first": round(first), "again": round(again)},
        "gateway_per_second": {"first": storm.per_second, "again": repeated.per_second},
        "decided": {"first": asked, "again": asked_again},
        "statuses": storm.statuses,
    }
    return Found(values, text)


def _alone(statements: Sequence[str]) -> tuple[int, float, float]:
    """How many were analysed; answers a second; and when all of them are sent once more."""
    policy = load_policy(SHOP)
    (database,) = policy.databases.values()
    pool = AnalyserPool(CountingEngine)
    try:
        pool.warm(database.schema)
        before = CountingEngine.analysed
        checkpoint = Checkpoint(policy, pool, lambda _: None, SystemClock())
        make = Shapes()
        shapes = [make.of(f"{database.path}/sessions/bench", sql) for sql in statements]
        first = _per_second(checkpoint, shapes)
        analysed = CountingEngine.analysed - before
        if not analysed:
            raise BenchError("nothing was analysed: the count is not of this checkpoint's engine")
        return analysed, first, _per_second(checkpoint, shapes)
    finally:
        pool.close()


def _per_second(checkpoint: Checkpoint, shapes: Sequence[bytes]) -> float:
    begin = time.monotonic()
    for shape in shapes:
        checkpoint.answer(str(CHECKOUT), shape)
    return len(shapes) / (time.monotonic() - begin)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


if __name__ == "__main__":
    sys.exit(program("literals", __doc__, OPTIONS, run))
