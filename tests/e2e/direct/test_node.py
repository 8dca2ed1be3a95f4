"""Promise: Google's library for Node.js, unchanged, gets an identity's tokens as the one for Python does."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.direct.conftest import Direct
from e2e.harness import spangate
from e2e.node_packages import node_program
from fakes.google import POOL

pytestmark = pytest.mark.e2e

CHECKOUT = f"principal://iam.googleapis.com/{POOL}/subject/ns/shop/sa/checkout"


@pytest.fixture(scope="module")
def library() -> list[str]:
    return node_program(Path(__file__).parent / "node", "library.js")


def by_configuration(library: list[str], credentials: Path) -> dict[str, Any]:
    env = os.environ | {
        "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1",
    }
    done = subprocess.run(library, env=env, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_finds_the_endpoint(direct: Direct, library: list[str]) -> None:
    done = spangate("run", "--as", "checkout", "--direct", "--", *library, cwd=direct.up.folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["kind"], found["project"]) == ("Compute", "spangate-local")
    assert direct.whose(found["token"]) == CHECKOUT


def test_it_runs_the_command(direct: Direct, library: list[str], tmp_path: Path) -> None:
    out = tmp_path / "credentials.json"
    assert spangate("credentials", "--as", "checkout", "--out", str(out), cwd=direct.up.folder).returncode == 0
    found = by_configuration(library, direct.pointed_here(out))
    assert found["kind"] == "PluggableAuthClient"
    assert direct.whose(found["token"]) == CHECKOUT


def test_it_asks_the_local_endpoint(
    direct: Direct, library: list[str], endpoint: Callable[..., Any], tmp_path: Path
) -> None:
    port = endpoint("checkout")[1]["GCE_METADATA_HOST"].partition(":")[2]
    out = tmp_path / "credentials.json"
    done = spangate("credentials", "--as", "checkout", "--port", port, "--out", str(out), cwd=direct.up.folder)
    assert done.returncode == 0, done.stderr
    found = by_configuration(library, direct.pointed_here(out))
    assert found["kind"] == "IdentityPoolClient"
    assert direct.whose(found["token"]) == CHECKOUT
