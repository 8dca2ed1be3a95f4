"""Promise: partitioned DML, partitions, schema changes, reflection and groups of mutations work with real clients."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Up
from e2e.other_clients.parts import AT_ONCE_SECONDS, printed
from spangate.app.run import EMULATOR_SETTINGS

pytestmark = pytest.mark.e2e

PROGRAM = [sys.executable, str(Path(__file__).with_name("steward_cases.py"))]
EXPECTED: dict[str, Any] = {
    "many_at_once": {"changed": 3, "found": [["t"]]},
    "partitions": [301, 301, 302, 303, 303],
    "schema": {"made": ["CREATE TABLE Drafts"], "left": []},
    "reflected": {
        "tables": ["Ledger", "Parcels"],
        "columns": ["EntryId", "Amount"],
        "key": ["ParcelId"],
        "indexes": [["ParcelsBySender", ["Sender"], False]],
        "foreign": [],
    },
    "slips": ["InvalidArgument", "NotFound", "NotFound"],
    "own_sessions": True,
}
# Where the error comes from Spanner, its text is Spanner's: a batch of nothing, and BatchWrite, which the emulator does
# not have (what the gateway makes of it stands in the corpus, and goes through real Envoy there).
SAME_KIND = ("empty_batch", "groups")


@pytest.fixture(scope="module")
def through(cases: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return cases("steward", PROGRAM, *EXPECTED, *SAME_KIND)


@pytest.fixture(scope="module")
def directly(post: Up, through: dict[str, Any]) -> dict[str, Any]:
    env = os.environ | {"SPANNER_EMULATOR_HOST": post.running["spanner"], "GOOGLE_CLOUD_PROJECT": "spangate-local"}
    done = subprocess.run(
        [*PROGRAM, *EXPECTED, *SAME_KIND],
        env=env | EMULATOR_SETTINGS,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return printed(done.stdout)


@pytest.mark.parametrize("case", EXPECTED)
def test_the_client_gets_through_the_gateway_what_it_should(through: dict[str, Any], case: str) -> None:
    assert through[case] == EXPECTED[case]


@pytest.mark.parametrize("case", EXPECTED)
def test_without_the_gateway_the_same_program_finds_the_same(directly: dict[str, Any], case: str) -> None:
    """What is expected above is Spanner's answer, not ours."""
    assert directly[case] == EXPECTED[case]


@pytest.mark.parametrize("case", SAME_KIND)
def test_what_spanner_objects_to_is_spanners_to_say(
    through: dict[str, Any], directly: dict[str, Any], case: str
) -> None:
    assert through[case]["kind"] == directly[case]["kind"]
    # The client adds a number of its own.
    ours, spanners = (told[case]["message"].partition(", request_id")[0] for told in (through, directly))
    assert ours == spanners


def test_who_may_write_may_not_do_so_in_any_way(cases: Callable[..., dict[str, Any]]) -> None:
    found = cases("clerk", PROGRAM, "denied")["denied"]
    missing = {
        "many_at_once": "may not run partitioned DML",
        "schema": "may not change the schema",
        "reading the schema": "may not read the schema",
        "reflection": "may not read INFORMATION_SCHEMA",
    }
    for name, told in found.items():
        assert told.get("kind") == "PermissionDenied", (name, told)
        assert missing[name] in told["message"], told
        assert told["seconds"] < AT_ONCE_SECONDS, name


def test_roles_are_for_nobody_to_make(cases: Callable[..., dict[str, Any]]) -> None:
    told = cases("steward", PROGRAM, "roles")["roles"]
    assert told["kind"] == "PermissionDenied"
    assert "roles" in told["message"]


def test_a_part_of_a_query_serves_nobody_else(post: Up, cases: Callable[..., dict[str, Any]]) -> None:
    part = cases("steward", PROGRAM, "handed_over")["handed_over"]
    own = post.run("steward", *PROGRAM, "part", part)
    assert own.stdout.startswith("["), own.stdout + own.stderr
    stolen = post.run("clerk", *PROGRAM, "part", part)
    assert '"PermissionDenied"' in stolen.stdout, stolen.stdout + stolen.stderr
    assert "this session was not made by this identity" in stolen.stdout
