"""Promise: the example's programs are ordinary Spanner programs; without a gateway nothing denies them anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spangate.adapters.spanner import create_database
from spangate.model.database import DatabasePath
from spangate.sql.ddl import parse_ddl

pytestmark = pytest.mark.e2e

SHOP = Path(__file__).parents[3] / "examples" / "shop"
PROJECT = "shop-test"


@pytest.fixture(scope="module")
def address(emulator_address: str) -> str:
    """An emulator that holds the shop's database, empty."""
    ddl = parse_ddl((SHOP / "schema.sql").read_text()).statements
    create_database(emulator_address, DatabasePath(PROJECT, "main", "shop"), ddl)
    return emulator_address


def run(program: str, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    multiplexed = "GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS"
    env = {
        "PATH": os.environ["PATH"],
        "SPANNER_EMULATOR_HOST": address,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "SPANNER_DISABLE_BUILTIN_METRICS": "true",
        **{multiplexed + suffix: "false" for suffix in ("", "_PARTITIONED_OPS", "_FOR_RW")},
    }
    return subprocess.run(
        [sys.executable, str(SHOP / program), *arguments], env=env, capture_output=True, text=True, timeout=60
    )


def test_customers_can_be_loaded_twice_and_an_order_placed(address):
    for program in ("load.py", "load.py", "checkout.py"):
        done = run(program, address)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "read back `paid`, 3 items, total 95.40" in done.stdout


def test_reports_notices_that_nothing_keeps_it_from_the_addresses(address):
    run("load.py", address)
    run("checkout.py", address)
    done = run("reports.py", address)
    assert (done.returncode, done.stderr) == (1, "")
    assert "emea: 1 orders" in done.stdout or "emea: 2 orders" in done.stdout
    assert "read 4 e-mail addresses; nothing stands between" in done.stdout


def test_the_intruder_notices_that_nothing_stops_it_and_destroys_nothing(address):
    run("load.py", address)
    done = run("intruder.py", address)
    assert (done.returncode, done.stderr) == (1, "")
    assert "query: allowed" in done.stdout
    assert run("checkout.py", address).returncode == 0, "the customers are still there"


def test_latency_prints_both_sides_as_json(address):
    run("load.py", address)
    done = run("latency.py", address, "--direct", address, "--through", address, "--calls", "20")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["calls"] == 20
    assert 0 < found["direct"]["p50_ms"] <= found["direct"]["p99_ms"]
    assert 0 < found["through"]["p50_ms"] <= found["through"]["p99_ms"]
