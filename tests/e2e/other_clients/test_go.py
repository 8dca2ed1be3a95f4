"""Promise: Google's Go client, unchanged, does through the gateway what it does without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Audit, Up
from e2e.other_clients.parts import AT_ONCE_SECONDS, denials_of, printed, workload
from spangate.app.run import EMULATOR_SETTINGS

pytestmark = pytest.mark.e2e

PROGRAM = [sys.executable, str(Path(__file__).with_name("go_cases.py"))]
EXPECTED: dict[str, Any] = {
    "mutations": [[True, True, True], [["101", "updated"], ["102", "replaced"]]],
    "parameters": {
        "echoed": {
            "Sender": "Zoë",
            "Fragile": True,
            "Weight": 1.5,
            "Value": "12.34",
            "Label": "AP8=",
            "Posted": "2030-01-02",
            "Scanned": "2030-01-02T03:04:05.678901Z",
            "Details": '{"a":[1,null]}',
            "Stops": ["1", None, "3"],
        },
        "same": True,
    },
    "transactions": {
        "inserted": 2,
        "returned": [["120", "c"]],
        "batch": [1, 1],
        "committed": True,
        "left": [[["120"], ["122"], ["123"]], [["3"]]],
    },
    "statements": [[["1"]], [["2"]], [["d"]]],
    "aborted": {"problems": [], "weight": [[2.0]]},
    "many_at_once": [1, [["many"]]],
    "schema": [["1"]],
}


@pytest.fixture(scope="module")
def audit(post: Up) -> Audit:
    return post.audit()


@pytest.fixture(scope="module")
def through(audit: Audit, cases: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return cases("go", PROGRAM, *EXPECTED)


@pytest.mark.parametrize("case", EXPECTED)
def test_the_client_gets_through_the_gateway_what_it_should(through: dict[str, Any], case: str) -> None:
    assert through[case] == EXPECTED[case]


def test_without_the_gateway_the_same_program_finds_the_same(post: Up, through: dict[str, Any]) -> None:
    """What is expected above is Spanner's answer, not ours."""
    env = os.environ | {"SPANNER_EMULATOR_HOST": post.running["spanner"], "GOOGLE_CLOUD_PROJECT": "spangate-local"}
    done = subprocess.run(
        [*PROGRAM, *EXPECTED], env=env | EMULATOR_SETTINGS, capture_output=True, text=True, timeout=90, check=True
    )
    assert printed(done.stdout) == EXPECTED


def test_an_abort_reached_the_client_and_it_tried_again(audit: Audit, through: dict[str, Any]) -> None:
    assert "ABORTED" in {line["grpc_status"] for line in audit.lines(workload("go"))}


def test_who_may_not_is_told_so_at_once_and_does_not_go_on_asking(
    post: Up, cases: Callable[..., dict[str, Any]]
) -> None:
    """The client asks for the dialect first, which needs no grant of its own."""
    audit = post.audit()
    found = cases("guest", PROGRAM, "denied")["denied"]
    assert found.pop("allowed") == [["0"]]
    denials = denials_of(audit, "guest", len(found))
    for name, told in found.items():
        assert told["code"] == 7, name
        assert told["seconds"] < AT_ONCE_SECONDS, name
    # The Python side of this library, 0.1.1, cannot show a message of more than 127 bytes; its Go side has it.
    assert {line["reason"] for line in denials} == {"missing-grant"}
