"""Load from h2load (nghttp2), a native generator, and what it says about it.

h2load knows no client certificates; it speaks plaintext HTTP/2 to the client's sidecar, as an application does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.gateway.processes import BenchError

RUN_SECONDS_MAX = 120
_DONE = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")
_COUNTS = re.compile(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed")


@dataclass(frozen=True)
class Load:
    """One closed loop: each of `clients` connections keeps `streams` requests in flight."""

    requests: int
    clients: int
    streams: int


@dataclass(frozen=True)
class Outcome:
    """What h2load saw. Latencies are in microseconds, sorted."""

    requests_per_second: float
    latencies_us: tuple[int, ...]


def find_h2load() -> str:
    """The path of h2load, or BenchError with the way to get it."""
    found = shutil.which("h2load")
    if found is None:
        raise BenchError("h2load not found; get it with: sudo apt-get install nghttp2-client")
    return found


def run(h2load: str, port: int, path: str, body: Path, load: Load, log: Path) -> Outcome:
    """Send `load` to 127.0.0.1:`port`. BenchError unless every single request was answered with a 2xx."""
    log.unlink(missing_ok=True)
    command = [
        h2load,
        f"--requests={load.requests}",
        f"--clients={load.clients}",
        f"--max-concurrent-streams={load.streams}",
        f"--data={body}",
        f"--log-file={log}",
        "--header=content-type: application/grpc",
        "--header=te: trailers",
        f"http://127.0.0.1:{port}{path}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
    rate, counts = _DONE.search(done.stdout), _COUNTS.search(done.stdout)
    if done.returncode != 0 or rate is None or counts is None:
        raise BenchError(f"h2load failed:\n{done.stdout[-500:]}{done.stderr[-500:]}")
    if not int(counts[1]) == int(counts[3]) == load.requests:
        raise BenchError(f"not every request was answered: {counts[0]}")
    rows = (line.split("\t") for line in log.read_text().splitlines())
    return Outcome(float(rate[1]), tuple(sorted(int(row[2]) for row in rows)))


def quantile(sorted_values: tuple[int, ...], q: float) -> int:
    """The nearest-rank quantile."""
    return sorted_values[min(len(sorted_values) - 1, int(q * len(sorted_values)))]
