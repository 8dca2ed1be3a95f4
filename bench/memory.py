"""`python -m bench.memory`: what 10,000 cached shapes cost the gateway's worker, and that more cost no more.

Distinct statements through the product's gateway; resident memory of its process before and after. The checkpoint is
the product's, too, but for the analyser, which would take minutes: here every statement reads the same column.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.parts import calls
from bench.parts.numbers import table
from bench.parts.processes import BenchError, resident_kib
from bench.parts.program import Found, Option, program
from bench.parts.rig import CHECKED, SHOP, WAYS, rig
from bench.parts.statements import shop_statement
from spangate.adapters.checkpoint_door import checkpoint_app
from spangate.adapters.clock import SystemClock
from spangate.adapters.intent_files import load_policy
from spangate.adapters.seal_keys import FILE, FileSealKeys, new_seal_key
from spangate.adapters.unix_server import UnixServer
from spangate.checkpoint.sealing import SealKeys
from spangate.checkpoint.service import Checkpoint
from spangate.model.access import Access, Operation
from spangate.model.schema import Schema
from spangate.model.sqltype import SqlType

IN_FLIGHT = 64
OPTIONS = (
    Option("shapes", 10_000, 1_000, 50_000, "distinct statements in one step"),
    Option("steps", 4, 1, 20, "steps; the gateway holds two times 10,000 at most"),
)


@dataclass(frozen=True)
class OneColumn:
    """A `checkpoint.SharedStatements` to which every statement is the same."""

    def accesses(
        self, schema: Schema, sql: str, param_types: Mapping[str, SqlType], *, identity: str
    ) -> tuple[Access, ...]:
        """One column of one table."""
        del schema, sql, param_types, identity
        return (Access(Operation.READ, "Orders", ("Status",)),)

    def keeps(self, schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> bool:
        """Every statement is kept."""
        del schema, sql, param_types
        return True


def run(arguments: argparse.Namespace) -> Found:
    """Raises BenchError or SpangateError."""
    with (
        tempfile.TemporaryDirectory(prefix="spangate-bench-") as name,
        rig(Path(name), SHOP, {CHECKED: WAYS[CHECKED]}, _start_checkpoint) as made,
    ):
        way = made.way(CHECKED)
        if way.gateway_pid is None:
            raise BenchError("the gateway has no process")
        # What a process takes for working at all is not what its cache takes.
        _send(way.port, made.session, range(2_000_000, 2_000_500))
        _send(way.port, made.session, [0] * arguments.shapes)
        sizes = [resident_kib(way.gateway_pid)]
        for step in range(arguments.steps):
            _send(way.port, made.session, range(step * arguments.shapes, (step + 1) * arguments.shapes))
            sizes.append(resident_kib(way.gateway_pid))
    rows = [
        (f"{i * arguments.shapes:,}", f"{size / 1024:.1f} MiB", f"{(size - sizes[max(0, i - 1)]) / 1024:+.1f} MiB")
        for i, size in enumerate(sizes)
    ]
    first = (sizes[1] - sizes[0]) / 1024
    text = table(("distinct shapes so far", "resident", "more"), rows)
    text += (
        f"\n{first:.1f} MiB for the first {arguments.shapes:,}: {first * 1024 * 1024 / arguments.shapes:.0f} bytes each"
    )
    return Found({"shapes_a_step": arguments.shapes, "resident_kib": sizes}, text)


def _start_checkpoint(stack: ExitStack, socket: Path) -> None:
    checkpoint = Checkpoint(load_policy(SHOP), OneColumn(), lambda _: None, SystemClock())
    keys = SealKeys(FileSealKeys(socket.parent / FILE), new_seal_key, SystemClock().now)
    keys.renew()
    stack.enter_context(UnixServer(checkpoint_app(checkpoint, lambda: keys.header), socket, name="checkpoint"))


def _send(port: int, session: str, numbers: range | list[int]) -> None:
    storm = calls.many_at_once(port, session, [shop_statement(number) for number in numbers], IN_FLIGHT)
    if set(storm.statuses) != {"OK"}:
        raise BenchError(f"not every statement was decided: {storm.statuses} {storm.said}")


if __name__ == "__main__":
    sys.exit(program("memory", __doc__, OPTIONS, run))
