"""Promise: SQLAlchemy with Spanner's dialect, unchanged, does through the gateway what it does without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Up
from e2e.other_clients.parts import check_denial, denials_of, printed
from spangate.app.run import EMULATOR_SETTINGS

pytestmark = pytest.mark.e2e

PROGRAM = [sys.executable, str(Path(__file__).with_name("orm_cases.py"))]
EXPECTED: dict[str, Any] = {
    "objects": {"found": ["Zoë", True, 1.5, "2030-01-02", None], "count": 4, "heavy": [201], "ids": [202, 203]},
    "statements": {"returned": [[210, "c"]], "typed": "b", "left": 2},
    "read_only": [1, "c", "d"],
}


@pytest.fixture(scope="module")
def through(cases: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return cases("orm", PROGRAM, *EXPECTED)


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


def test_who_may_not_is_told_so_at_once_and_does_not_go_on_asking(
    post: Up, cases: Callable[..., dict[str, Any]]
) -> None:
    audit = post.audit()
    found = cases("guest", PROGRAM, "denied")["denied"]
    assert found.pop("allowed") == []
    denials = denials_of(audit, "guest", len(found))
    for name, told in found.items():
        assert told["kind"] == "PermissionDenied", name
        check_denial(told, denials)
