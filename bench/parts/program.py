"""What all measuring programs do alike: arguments, one line for what went wrong, a table or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.parts.numbers import between, machine, machine_line
from bench.parts.processes import BenchError
from spangate.errors import SpangateError


@dataclass(frozen=True)
class Option:
    """A whole number that can be chosen."""

    name: str
    default: int
    low: int
    high: int
    help: str


@dataclass(frozen=True)
class Found:
    """`values` for programs, `text` for people."""

    values: dict[str, object]
    text: str


def program(name: str, about: str, options: Sequence[Option], run: Callable[[argparse.Namespace], Found]) -> int:
    """Parse, run, print: the exit code, 0, or 1 if it could not be measured."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=about.splitlines()[0])
    for one in options:
        parser.add_argument(
            f"--{one.name}",
            type=between(one.low, one.high),
            default=one.default,
            metavar="N",
            help=f"{one.help} ({one.default:,})",
        )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    try:
        found = run(arguments)
    except (BenchError, SpangateError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({**machine(), **found.values}, indent=2))
    else:
        print(found.text)
        print(machine_line())
    return 0
