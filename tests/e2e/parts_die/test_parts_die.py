"""Promise: whichever part is killed, programs with Google's client see no failure, and no commit is lost or doubled.

The gateway sends nothing on without a token of Google's, so that broker and stand-in are parts as the others are.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import GOOGLE, SPANGATE, Up, descendants, eventually, shop_folder

pytestmark = pytest.mark.e2e

KINDS = {"query", "fresh query", "read", "transaction", "batch"}
AUTHORITY, CHECKPOINT, GATEWAY, CLIENT = "authority_process", "checkpoint_process", "gateway.json", "client.json"
BROKER, STANDIN = "broker_process", "standin_process"
# gRPC pauses before it connects again, up to some seconds after a few ends in a row.
SECONDS_BETWEEN = 4.0


class Program:
    """steady.py under `spangate run`."""

    def __init__(self, up: Up) -> None:
        self.up = up
        command = [str(SPANGATE), "run", "--as", "checkout", "--", sys.executable]
        self.process = subprocess.Popen(
            [*command, str(Path(__file__).with_name("steady.py"))],
            cwd=up.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self, part: str) -> None:
        """SIGKILL, and back when there is another one."""
        if part != CLIENT:
            self.up.kill_part(part)
            return
        before = self._client()
        assert before is not None
        os.kill(before, signal.SIGKILL)
        eventually(lambda: self._client() not in (before, None), "the client side is started again", 10)

    def _client(self) -> int | None:
        return next((pid for pid, line in descendants(self.process.pid).items() if CLIENT in line), None)

    def report(self) -> tuple[dict[str, Any], str]:
        """What it counted, and what `run` said."""
        output, said = self.process.communicate("\n", timeout=120)
        assert self.process.returncode == 0, said
        return json.loads(output), said

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def up(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One of its own, so that nobody else's ends count."""
    folder = shop_folder(tmp_path_factory.mktemp("up") / "shop")
    intent = folder / "spangate.yaml"
    intent.write_text(intent.read_text() + GOOGLE)
    found = Up(folder).wait_until_up()
    try:
        found.program("loader", "load.py")
        yield found
    finally:
        code = found.end()
    assert code == 0, found.printed


@pytest.fixture
def program(up: Up) -> Iterator[Program]:
    found = Program(up)
    yield found
    found.end()


def check(report: dict[str, Any]) -> None:
    assert report["failures"] == []
    assert report["missing"] == []
    assert report["extra"] == []
    assert set(report["done"]) == KINDS, "one of them never came to its end"
    # Each took half a minute of attempts: more than a few are a failure whatever their text is.
    assert sum(report["turned away by the emulator"].values()) <= 3, report


def test_no_failure_reaches_a_program_when_any_part_is_killed(up: Up, program: Program) -> None:
    root = (up.state / "up.json").read_text()
    # The gateway after the broker: neither has a token any more.
    for part in (AUTHORITY, CHECKPOINT, STANDIN, BROKER, GATEWAY, CLIENT):
        program.kill(part)
        time.sleep(SECONDS_BETWEEN)
    report, said = program.report()
    check(report)
    assert said == "spangate: the client ended (signal 9); started again\n"
    for name in ("authority", "checkpoint", "stand-in for Google", "broker", "gateway"):
        assert f"the {name} ended (signal 9); started again\n" in up.printed
    # Addresses, sockets and issuer are what they were.
    assert (up.state / "up.json").read_text() == root


def test_no_failure_reaches_a_program_when_all_parts_are_killed_at_once(up: Up, program: Program) -> None:
    for part in (AUTHORITY, CHECKPOINT, STANDIN, BROKER, GATEWAY, CLIENT):
        program.kill(part)
    time.sleep(SECONDS_BETWEEN)
    check(program.report()[0])


@pytest.mark.thorough
def test_no_failure_reaches_a_program_however_often_parts_are_killed(up: Up, program: Program) -> None:
    """Each at another moment of what is under way; fewer than would be given up."""
    for round_ in range(4):
        for part in (CHECKPOINT, BROKER, GATEWAY, STANDIN, CLIENT, AUTHORITY):
            program.kill(part)
            time.sleep(3.4 + 0.137 * round_)
    check(program.report()[0])
