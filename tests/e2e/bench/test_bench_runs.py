"""Promise: the bench measures the product as it is now, says so as a table and as JSON, and leaves no process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[3]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.gateway", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)


@pytest.mark.skipif(shutil.which("h2load") is None, reason="needs h2load (Debian package nghttp2-client)")
def test_a_small_run_measures_every_way():
    done = bench("--rounds", "1", "--requests", "2000", "--single", "100", "--statements", "10", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["name"] for row in found["rows"]] == ["direct", "plain Envoy", "+ access log", "+ the check"]
    assert all(row["requests_per_second"] > 0 and 0 < row["p50_ms"] <= row["p99_ms"] for row in found["rows"])
    assert [sight["name"] for sight in found["sights"]] == ["first sight", "known", "plain Envoy"]


def test_a_number_out_of_bounds_is_refused_in_one_line():
    done = bench("--requests", "1")
    assert done.returncode == 2
    assert "1 is not between 1000 and 1000000" in done.stderr
    assert len(done.stderr) < 1000
