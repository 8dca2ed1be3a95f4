"""Load from h2load (nghttp2), a native generator, and what it says about it.

h2load knows no client certificates; it speaks plaintext HTTP/2 to the client's sidecar, as an application does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.parts.processes import BenchError

RUN_SECONDS_MAX = 120
_DONE = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")
_COUNTS = re.compile(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed")


@dataclass(frozen=True)
class Load:
    """Each of `clients` connections keeps `streams` requests in flight: a closed loop. With `per_second`, all of them
    together begin that many requests a second, as far as the closed loop allows."""

    requests: int
    clients: int
    streams: int
    per_second: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What h2load saw: `answers` are (microseconds since the epoch when it began, microseconds it took)."""

    requests_per_second: float
    answers: Sequence[tuple[int, int]]

    @property
    def latencies_us(self) -> list[int]:
        """Sorted."""
        return sorted(took for _, took in self.answers)


def find_h2load() -> str:
    """The path of h2load, or BenchError with the way to get it."""
    found = shutil.which("h2load")
    if found is None:
        raise BenchError("h2load not found; get it with: sudo apt-get install nghttp2-client")
    return found


@dataclass(frozen=True)
class Target:
    """What is asked: `path` of the RPC, `body` a file with the framed message."""

    h2load: str
    path: str
    body: Path
    folder: Path


class Running:
    """A load under way. `result` waits for its end; `stop` is safe to call at any time."""

    def __init__(self, target: Target, port: int, load: Load, name: str = "h2load") -> None:
        self._load = load
        self._log = target.folder / f"{name}.log"
        self._log.unlink(missing_ok=True)
        command = [
            target.h2load,
            f"--requests={load.requests}",
            f"--clients={load.clients}",
            f"--max-concurrent-streams={load.streams}",
            f"--data={target.body}",
            f"--log-file={self._log}",
            "--header=content-type: application/grpc",
            "--header=te: trailers",
        ]
        if load.per_second is not None:
            # h2load starts with a burst of what its streams allow, so there are few of them.
            command.append(f"--rps={max(1, load.per_second // load.clients)}")
        command.append(f"http://127.0.0.1:{port}{target.path}")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def result(self) -> Outcome:
        """BenchError unless every single request was answered with a 2xx."""
        try:
            out, err = self._process.communicate(timeout=RUN_SECONDS_MAX)
        except subprocess.TimeoutExpired as error:
            self.stop()
            raise BenchError(f"h2load is not done after {RUN_SECONDS_MAX} s") from error
        rate, counts = _DONE.search(out), _COUNTS.search(out)
        if self._process.returncode != 0 or rate is None or counts is None:
            raise BenchError(f"h2load failed:\n{out[-500:]}{err[-500:]}")
        if not int(counts[1]) == int(counts[3]) == self._load.requests:
            raise BenchError(f"not every request was answered: {counts[0]}")
        rows = (line.split("\t") for line in self._log.read_text().splitlines())
        return Outcome(float(rate[1]), [(int(row[0]), int(row[2])) for row in rows])

    def stop(self) -> None:
        """End it now."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def run(target: Target, port: int, load: Load) -> Outcome:
    """Send `load` to 127.0.0.1:`port` and wait for its end."""
    return Running(target, port, load).result()
