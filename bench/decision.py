"""`python -m bench.decision`: the time of one decision, and of loading, by the size of the policy.

The checkpoint's own answer to a shape, its statements read beforehand: a small policy and a large one in turn, round by
round, different identities and tables each time. What it takes to read an intent and its schema is beside it.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.parts.numbers import noise_percent, table
from bench.parts.processes import BenchError
from bench.parts.program import Found, Option, program
from bench.parts.shapes import Shapes
from bench.parts.statements import wide_schema
from spangate.adapters.clock import SystemClock
from spangate.adapters.intent_files import load_policy
from spangate.checkpoint.service import Checkpoint
from spangate.model.access import Access, Operation
from spangate.model.policy import Policy
from spangate.model.schema import Schema
from spangate.model.sqltype import SqlType

SMALL_IDENTITIES, SMALL_TABLES = 10, 10
# Each identity reads that many tables.
TABLES_EACH = 2
OPTIONS = (
    Option("identities", 10_000, 10, 100_000, "of the large policy"),
    Option("tables", 1_000, 10, 10_000, "of the large policy"),
    Option("decisions", 2_000, 100, 100_000, "a round and policy"),
    Option("rounds", 9, 3, 100, "rounds"),
)


@dataclass(frozen=True)
class Named:
    """A `checkpoint.SharedStatements`: the statement is the table's name, of which it reads one column."""

    def accesses(
        self, schema: Schema, sql: str, param_types: Mapping[str, SqlType], *, identity: str
    ) -> tuple[Access, ...]:
        """A read of one column of the table that `sql` names."""
        del schema, param_types, identity
        return (Access(Operation.READ, sql, ("Name",)),)

    def keeps(self, schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> bool:
        """Every statement is kept."""
        del schema, sql, param_types
        return True


@dataclass(frozen=True)
class Loaded:
    """A policy, its size, what reading it took, and questions that it allows."""

    identities: int
    tables: int
    file_bytes: int
    seconds: float
    checkpoint: Checkpoint
    questions: list[tuple[str, bytes]]


def run(arguments: argparse.Namespace) -> Found:
    """Raises BenchError or SpangateError."""
    with tempfile.TemporaryDirectory(prefix="spangate-bench-") as name:
        small = _load(Path(name), SMALL_IDENTITIES, SMALL_TABLES, arguments.decisions)
        large = _load(Path(name), arguments.identities, arguments.tables, arguments.decisions)
    times: dict[str, list[float]] = {"small": [], "large": []}
    # A collection would walk the large policy in the middle of a round.
    gc.collect()
    gc.freeze()
    for turn in range(arguments.rounds):
        pair = (("small", small), ("large", large))
        for name, one in pair if turn % 2 else pair[::-1]:
            times[name].append(_decision_us(one))
    ratio = statistics.median(b / a for a, b in zip(times["small"], times["large"], strict=True))
    rows = [
        (
            f"{one.identities:,} x {one.tables:,}",
            f"{statistics.median(times[name]):.1f} us",
            f"{noise_percent(times[name]):.0f} %",
            f"{one.file_bytes / 1024:,.0f} KiB",
            f"{one.seconds:.2f} s",
        )
        for name, one in (("small", small), ("large", large))
    ]
    text = table(("identities x tables", "a decision", "noise", "intent", "loaded in"), rows)
    text += f"\nthe large one takes {ratio:.2f} times as long for a decision"
    values: dict[str, object] = {
        "decision_us": {name: round(statistics.median(found), 2) for name, found in times.items()},
        "ratio": round(ratio, 2),
        "load_seconds": {"small": round(small.seconds, 3), "large": round(large.seconds, 3)},
        "intent_bytes": {"small": small.file_bytes, "large": large.file_bytes},
    }
    return Found(values, text)


def _load(folder: Path, identities: int, tables: int, count: int) -> Loaded:
    intent, size = _write(folder, identities, tables)
    begin = time.monotonic()
    policy = load_policy(intent)
    seconds = time.monotonic() - begin
    checkpoint = Checkpoint(policy, Named(), lambda _: None, SystemClock())
    questions = _questions(policy, count)
    for identity, shape in questions:
        if not checkpoint.answer(identity, shape).decision.allowed:
            raise BenchError(f"{identity} is denied what the policy grants")
    return Loaded(identities, tables, size, seconds, checkpoint, questions)


def _write(folder: Path, identities: int, tables: int) -> tuple[Path, int]:
    (folder / f"schema{tables}.sql").write_text(wide_schema(tables))
    lines = [
        "spangate: v1",
        "trust_domain: shop.example",
        "databases:",
        f"  shop: {{instance: main, database: shop, schema: schema{tables}.sql}}",
        "identities:",
        *(f"  i{number}: {{workload: n/i{number}}}" for number in range(identities)),
        "access:",
    ]
    for number in range(identities):
        names = ", ".join(f"Table{(number + i) % tables}" for i in range(TABLES_EACH))
        lines.append(f"  i{number}: {{shop: {{read: [{names}]}}}}")
    intent = folder / f"intent{identities}.yaml"
    text = "\n".join(lines) + "\n"
    intent.write_text(text)
    return intent, len(text)


def _questions(policy: Policy, count: int) -> list[tuple[str, bytes]]:
    make = Shapes()
    (database,) = policy.databases.values()
    draw = random.Random(1)
    shapes = {name: make.of(f"{database.path}/sessions/bench", name) for name in {g.table for g in policy.grants}}
    identity = {name: str(spiffe_id) for name, spiffe_id in policy.identities.items()}
    return [(identity[grant.identity], shapes[grant.table]) for grant in draw.choices(policy.grants, k=count)]


def _decision_us(one: Loaded) -> float:
    begin = time.perf_counter_ns()
    for identity, shape in one.questions:
        one.checkpoint.answer(identity, shape)
    return (time.perf_counter_ns() - begin) / 1000 / len(one.questions)


if __name__ == "__main__":
    sys.exit(program("decision", __doc__, OPTIONS, run))
