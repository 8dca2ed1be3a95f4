"""`python -m bench.first_sight`: the first sight of a statement, on a schema of many tables.

Distinct joins over the schema, one after the other: unknown, then known, then past a gateway that checks nothing; and
the same statements put to the checkpoint alone, in this process, without HTTP. Then each through a gateway again, but
its client's share is the difference to plain Envoy.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench.parts import calls
from bench.parts.numbers import p50_p99_ms, table
from bench.parts.program import Found, Option, program
from bench.parts.rig import CHECKED, CHECKOUT, PLAIN, WAYS, rig
from bench.parts.shapes import Shapes
from bench.parts.statements import wide_statement, write_wide_intent
from spangate.adapters.analysers import AnalyserPool
from spangate.adapters.clock import SystemClock
from spangate.adapters.decision_log import DecisionLog
from spangate.adapters.intent_files import load_policy
from spangate.checkpoint.service import Checkpoint

WARM_UP_CALLS = 50
OPTIONS = (
    Option("statements", 300, 10, 10_000, "distinct statements"),
    Option("tables", 100, 1, 1_000, "tables of the schema, eight columns each"),
)


def run(arguments: argparse.Namespace) -> Found:
    """Raises BenchError or SpangateError."""
    count, tables = arguments.statements, arguments.tables
    with tempfile.TemporaryDirectory(prefix="spangate-bench-") as name:
        folder = Path(name)
        intent = write_wide_intent(folder, tables)
        statements = [wide_statement(number, tables) for number in range(count)]
        alone = _alone_us(folder, intent, statements)
        with rig(folder, intent, {PLAIN: WAYS[PLAIN], CHECKED: WAYS[CHECKED]}) as made:
            checked, plain = made.way(CHECKED).port, made.way(PLAIN).port
            for port in (checked, plain):
                calls.one_by_one_us(port, made.session, ["SELECT 1"] * WARM_UP_CALLS)
            times = {
                "first sight, whole way": calls.one_by_one_us(checked, made.session, statements),
                "known, whole way": calls.one_by_one_us(checked, made.session, statements),
                "plain Envoy, whole way": calls.one_by_one_us(plain, made.session, statements),
                "the checkpoint alone": alone,
            }
    found = {name: p50_p99_ms(took) for name, took in times.items()}
    rows = [(name, f"{p50:.3f} ms", f"{p99:.3f} ms") for name, (p50, p99) in found.items()]
    text = f"{count} distinct joins, {tables} tables\n" + table(("one after the other", "p50", "p99"), rows)
    values = {name: {"p50_ms": p50, "p99_ms": p99} for name, (p50, p99) in found.items()}
    return Found({"statements": count, "tables": tables, "times": values}, text)


def _alone_us(folder: Path, intent: Path, statements: list[str]) -> list[int]:
    """The product's checkpoint in this process, decisions written down as ever."""
    policy = load_policy(intent)
    (database,) = policy.databases.values()
    pool = AnalyserPool()
    log = DecisionLog(folder / "alone.jsonl")
    try:
        pool.warm(database.schema)
        checkpoint = Checkpoint(policy, pool, log.record, SystemClock())
        shapes = Shapes()
        found = []
        for sql in statements:
            shape = shapes.of(f"{database.path}/sessions/bench", sql)
            begin = time.perf_counter_ns()
            checkpoint.answer(str(CHECKOUT), shape)
            found.append((time.perf_counter_ns() - begin) // 1000)
        return found
    finally:
        pool.close()
        log.close()


if __name__ == "__main__":
    sys.exit(program("first_sight", __doc__, OPTIONS, run))
