"""Ending what was started, and reading a process's CPU time.

CPU time comes from /proc/<pid>/stat: user and system, all threads, in clock ticks of 10 ms as a rule.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from spangate.adapters.envoy import EnvoyChild
from spangate.adapters.process import Child
from spangate.compiler.envoy_parts import Json

START_SECONDS_MAX = 30.0
# Fields 14 and 15 of /proc/<pid>/stat, counted after the parenthesised name (proc(5)).
_UTIME, _STIME = 11, 12


class BenchError(Exception):
    """The measurement cannot be made; the message says why."""


def cpu_seconds(pid: int) -> float:
    """User and system time that the process `pid` has used so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[_UTIME]) + int(after_name[_STIME])) / os.sysconf("SC_CLK_TCK")


class Processes:
    """Starts processes that end, the last first, when `stack` does. `folder` takes their files."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self.folder = folder

    def envoy(self, name: str, config: Json, admin: Path, listener: str) -> tuple[int, int]:
        """Start an Envoy with one worker: its process id and the port of its listener."""
        child = EnvoyChild(name, config, self.folder, admin, self.folder / f"{name}.log", workers=1)
        self._stack.callback(child.stop)
        return child.child.pid, child.wait_until_ready(listener)

    def start(self, name: str, command: list[str], ready: Callable[[], bool]) -> int:
        """Start `command`: its process id, as soon as `ready` says so."""
        child = Child(name, command, self.folder / f"{name}.log")
        self._stack.callback(child.stop)
        end = time.monotonic() + START_SECONDS_MAX
        while not ready():
            child.check()
            if time.monotonic() > end:
                raise BenchError(f"{name} is not ready after {START_SECONDS_MAX:g} s:\n{child.tail()}")
            time.sleep(0.02)
        return child.pid
