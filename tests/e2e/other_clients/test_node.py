"""Promise: Google's client for Node.js, unchanged, does through the gateway what it does without it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from e2e.harness import Audit, Up
from e2e.other_clients.parts import check_denial, denials_of, printed, workload
from spangate.app.run import EMULATOR_SETTINGS

pytestmark = pytest.mark.e2e

ROW = {
    "Sender": "Zoë",
    "Fragile": True,
    "Weight": 1.5,
    "Value": "12.34",
    "Label": "AP8=",
    "Posted": "2030-01-02",
    "Scanned": "2030-01-02T03:04:05.678000000Z",
    "Details": {"a": [1, None]},
    "Marks": ["x", ""],
    "Stops": [1, None, 3],
}
EXPECTED: dict[str, Any] = {
    "mutations": {
        "before": [
            {"ParcelId": 1, "Sender": "updated"},
            {"ParcelId": 2, "Sender": "changed"},
            {"ParcelId": 3, "Sender": "replaced"},
            {"ParcelId": 4, "Sender": "new"},
        ],
        "left": 2,
    },
    "types": {"read": ROW, "echoed": ROW, "empty": dict.fromkeys(ROW)},
    "structs": [[{"id": 10, "sender": "Zoë"}], [{"ParcelId": 10}]],
    "snapshots": [[{"Sender": "Zoë"}], [{"ParcelId": 10, "Fragile": True}], *[[{"Sender": "Zoë"}]] * 4],
    "transactions": {
        "inserted": 2,
        "returned": [{"ParcelId": 20, "Sender": "c"}],
        "counts": [1, 1, 1],
        "seen": [{"ParcelId": 20}, {"ParcelId": 22}],
        "rolledBack": "on purpose",
        "left": 3,
    },
    "aborted": 2,
    # ALREADY_EXISTS and OUT_OF_RANGE: Spanner's own errors stay what they are.
    "errors": [6, 11],
    "manyAtOnce": {"changed": 2, "left": 2},
    "partitions": [31, 31, 32],
    "schema": [1, 0],
}


@pytest.fixture(scope="module")
def audit(post: Up) -> Audit:
    return post.audit()


@pytest.fixture(scope="module")
def through(audit: Audit, cases: Callable[..., dict[str, Any]], node_client: list[str]) -> dict[str, Any]:
    return cases("node", node_client, *EXPECTED)


@pytest.mark.parametrize("case", EXPECTED)
def test_the_client_gets_through_the_gateway_what_it_should(through: dict[str, Any], case: str) -> None:
    assert through[case] == EXPECTED[case]


def test_without_the_gateway_the_same_program_finds_the_same(
    post: Up, through: dict[str, Any], node_client: list[str]
) -> None:
    """What is expected above is Spanner's answer, not ours."""
    env = os.environ | {"SPANNER_EMULATOR_HOST": post.running["spanner"], "GOOGLE_CLOUD_PROJECT": "spangate-local"}
    done = subprocess.run(
        [*node_client, *EXPECTED], env=env | EMULATOR_SETTINGS, capture_output=True, text=True, timeout=90, check=True
    )
    assert printed(done.stdout) == EXPECTED


def test_an_abort_reached_the_client_and_it_tried_again(audit: Audit, through: dict[str, Any]) -> None:
    assert "ABORTED" in {line["grpc_status"] for line in audit.lines(workload("node"))}


def test_who_may_not_is_told_so_at_once_and_does_not_go_on_asking(
    post: Up, cases: Callable[..., dict[str, Any]], node_client: list[str]
) -> None:
    audit = post.audit()
    found = cases("guest", node_client, "denied")["denied"]
    assert found.pop("allowed") == []
    denials = denials_of(audit, "guest", len(found))
    for name, told in found.items():
        assert told["code"] == 7, name
        check_denial(told, denials)
