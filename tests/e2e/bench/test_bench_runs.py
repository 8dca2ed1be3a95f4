"""Promise: each measuring program measures the product as it is now, says so as JSON, and leaves no process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spangate.broker.cache import BURST_MAX, EXCHANGE_RATE_MAX, IN_FLIGHT_MAX

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[3]
needs_h2load = pytest.mark.skipif(shutil.which("h2load") is None, reason="needs h2load (Debian package nghttp2-client)")


def bench(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"bench.{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)


def found(name: str, *arguments: str) -> Any:
    done = bench(name, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_h2load
def test_the_gateway_is_measured_on_every_way_with_every_load():
    gateway = found("gateway", "--rounds=1", "--requests=1000", "--moderate=200", "--single=100")
    ways = ["direct", "plain Envoy", "+ access log", "+ empty Lua", "+ the check", "+ a token"]
    for kind in ("saturated", "moderate", "one by one"):
        assert [row["name"] for row in gateway["rows"] if row["load"] == kind] == ways
    assert all(row["requests_per_second"] > 0 and 0 < row["p50_ms"] <= row["p99_ms"] for row in gateway["rows"])
    for what in ("added", "with_token"):
        assert [cost["load"] for cost in gateway[what]] == ["saturated", "moderate", "one by one"]


@needs_h2load
def test_the_profile_goes_from_plain_envoy_to_the_product():
    stages = found("profile", "--rounds=1", "--requests=1000")["stages"]
    assert (stages[0]["stage"], stages[-1]["stage"]) == ("plain Envoy", "+ the check")
    assert all(stage["cpu_us"] > 0 for stage in stages)


def test_the_first_sight_is_measured_the_whole_way_and_at_the_checkpoint_alone():
    times = found("first_sight", "--statements=10", "--tables=3")["times"]
    assert len(times) == 4
    assert all(0 < time["p50_ms"] <= time["p99_ms"] for time in times.values())


@needs_h2load
def test_every_statement_of_a_storm_gets_an_answer():
    storm = found("storm", "--statements=100", "--in-flight=50", "--before=1", "--seconds=5")
    assert sum(storm["new"]["statuses"].values()) == 100
    assert set(storm["known"]) == {"before", "during"}


def test_statements_with_literals_are_counted_where_work_is_done():
    literals = found("literals", "--statements=20")
    assert 0 < literals["analysed"] <= 20
    assert 0 < literals["decided"]["first"] <= 20
    assert literals["decided"]["again"] == 0


def test_the_memory_of_cached_shapes_is_read_step_by_step():
    assert len(found("memory", "--shapes=1000", "--steps=2")["resident_kib"]) == 3


def test_a_large_policy_is_held_beside_a_small_one():
    decision = found("decision", "--identities=50", "--tables=20", "--decisions=100", "--rounds=3")
    assert decision["ratio"] > 0
    assert decision["load_seconds"]["large"] > 0


def test_identities_are_issued_held_and_exchanged_and_the_gateway_shakes_hands():
    small = ("--rounds=3", "--issued=10", "--streams=300", "--hits=100", "--exchanged=60", "--identities=200")
    identity = found("identity", *small, "--handshakes=10")
    assert all(one["a_second_and_core"] > 0 for one in identity["issued"].values())
    assert identity["streams"]["held"] == 300
    assert identity["streams"]["bytes_per_stream"] > 0
    tokens = identity["tokens"]
    assert 0 < tokens["hit"]["p50_us"] <= tokens["hit"]["p99_us"]
    for storm, identities in ((tokens["storm"], 60), (tokens["simulated"], 200)):
        # A token for each, asked for once; never more than the burst and one second's rate.
        assert storm["exchanges"] == identities
        assert storm["most_in_a_second"] <= BURST_MAX + EXCHANGE_RATE_MAX
        assert storm["in_flight_max"] <= IN_FLIGHT_MAX
    assert len(identity["handshakes"]) == 4
    assert all(0 < one["p50_ms"] <= one["p99_ms"] for one in identity["handshakes"].values())


def test_a_number_out_of_bounds_is_refused_in_one_line():
    done = bench("gateway", "--requests=1")
    assert done.returncode == 2
    assert "1 is not between 1000 and 1000000" in done.stderr
    assert len(done.stderr) < 1000


def test_tokens_are_measured_and_a_storm_is_no_herd():
    tokens = found("tokens", "--identities=500", "--rounds=3")
    assert tokens["broker_hit_us"] > 0
    assert tokens["filter_hit_us"] > 0
    storm = tokens["storm"]
    assert storm["exchanges"] == 500
    assert storm["in_flight_max"] <= 24
    assert storm["most_in_a_second"] <= 100
    assert storm["most_renewals_in_a_second"] <= 100
