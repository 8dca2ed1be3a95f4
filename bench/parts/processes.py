"""Ending what was started, and reading what a process has used.

CPU time comes from /proc/<pid>/task/<tid>/schedstat, in nanoseconds (Documentation/scheduler/sched-stats.rst in
Linux's sources): /proc/<pid>/stat counts ticks of 10 ms, which is more than what is looked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from spangate.adapters.envoy import EnvoyChild
from spangate.adapters.process import Child
from spangate.compiler.envoy_parts import Json

START_SECONDS_MAX = 30.0


class BenchError(Exception):
    """The measurement cannot be made; the message says why."""


def cpu_seconds(pid: int) -> float:
    """User and system time that the threads of the process `pid` have used so far. Threads that ended do not count:
    Envoy starts all of its own before it serves."""
    nanoseconds = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def resident_kib(pid: int) -> int:
    """VmRSS of the process `pid` (proc_pid_status(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise BenchError(f"the process {pid} has no memory: it has ended")


class Processes:
    """Starts processes that end, the last first, when `stack` does. `folder` takes their files."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self.folder = folder

    def envoys(self, configs: Sequence[tuple[str, Json, Path]], listener: str) -> list[tuple[int, int]]:
        """Start an Envoy with one worker for each (name, configuration, admin socket), all at once: the process ids
        and the ports of the listener of that name."""
        children = []
        for name, config, admin in configs:
            child = EnvoyChild(name, config, self.folder, admin, self.folder / f"{name}.log", workers=1)
            self._stack.callback(child.stop)
            children.append(child)
        return [(child.child.pid, child.wait_until_ready(listener)) for child in children]

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
