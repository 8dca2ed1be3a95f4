"""Promise: an authority that is killed at any moment, its first one included, comes back as the same authority."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import CHECKOUT, GATEWAY, PATIENCE_SECONDS, TRUST_DOMAIN, eventually, shop_folder
from spangate.adapters.keys import SystemKeys
from spangate.adapters.process import Child
from spangate.adapters.state import runtime_directory
from spangate.adapters.svid_client import SvidClient
from spangate.app.authority_part import AuthorityPlan, plan_authority
from spangate.app.starting import Starting
from spangate.app.stopping import Stop
from spangate.errors import SpangateError

pytestmark = pytest.mark.e2e

# From before Python has begun to after everything serves; the first start makes keys and takes longest.
MOMENTS = [0.05, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.3]
STRANGER = """
import sys
from pathlib import Path
from spangate.adapters.keys import SystemKeys
from spangate.adapters.svid_client import SvidClient
from spangate.model.identity import SpiffeId
SvidClient(Path(sys.argv[1]), SystemKeys()).fetch(SpiffeId.parse(sys.argv[2]))
"""


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[AuthorityPlan]:
    folder = shop_folder(tmp_path / "shop")
    with ExitStack() as stack:
        yield plan_authority(
            stack,
            trust_domain=TRUST_DOMAIN,
            issuer="",
            oidc_port=0,
            keys=None,
            passphrase_file=None,
            state=tmp_path,
            runtime=stack.enter_context(runtime_directory()),
            log=tmp_path / "authority.log",
            rotate_every=None,
            stores=(),
            intent=folder / "spangate.yaml",
            workload=None,
            kubernetes=None,
        )


def kill(child: Child) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)
    child.stop()


def published(plan: AuthorityPlan) -> Any:
    with urllib.request.urlopen(f"{plan.issuer}/keys", timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)


def bundle(plan: AuthorityPlan) -> str:
    """By a certificate that is asked for: whoever asks while it is away waits."""
    client = SvidClient(plan.door, SystemKeys(), timeout_seconds=PATIENCE_SECONDS)
    return client.fetch(CHECKOUT).secrets.bundle_pem


def kept(plan: AuthorityPlan) -> list[str]:
    """The kinds of keys that are kept."""
    return sorted(path.name.split("-")[0] for path in Path(plan.keys).glob("*.key"))


def test_it_is_the_same_after_a_kill_at_any_moment(plan: AuthorityPlan) -> None:
    root = None
    for moment in MOMENTS:
        child = plan.start()
        time.sleep(moment)
        kill(child)
        with contextlib.suppress(sqlite3.Error):
            state = sqlite3.connect(Path(plan.keys).with_name("authority.sqlite"))
            rows = state.execute("SELECT root_pem FROM generations").fetchall()
            state.close()
            if rows:
                assert root in (None, rows), "a root that may have signed something was replaced"
                root = rows
    child = plan.start()
    try:
        before, keys = bundle(plan), published(plan)
        if root is not None:
            assert root == [(before,)]
        kill(child)
        child = plan.start()
        assert bundle(plan) == before
        assert published(plan) == keys
        # Nothing piles up.
        assert kept(plan) == ["intermediate", "jwt", "root"]
    finally:
        kill(child)


def test_its_own_door_lets_in_only_who_started_it(plan: AuthorityPlan) -> None:
    with ExitStack() as stack:
        starting = Starting(stack, plan.start)
        stack.callback(starting.child.stop)
        starting.wait(Stop())
        client = SvidClient(plan.own_door, SystemKeys())
        assert client.fetch(GATEWAY).identity == GATEWAY
        with pytest.raises(SpangateError, match="not Spangate's own"):
            client.fetch(CHECKOUT)
        # This process is the parent; a child of it is not.
        done = subprocess.run(
            [sys.executable, "-c", STRANGER, str(plan.own_door), str(GATEWAY)], capture_output=True, text=True
        )
        assert done.returncode == 1
        assert "TryAgain" in done.stderr


def test_the_passphrase_is_nowhere_to_be_seen(plan: AuthorityPlan) -> None:
    child = plan.start()
    try:
        bundle(plan)
        assert plan.passphrase.decode() not in repr(plan)
        for name in ("cmdline", "environ"):
            assert plan.passphrase not in Path(f"/proc/{child.pid}/{name}").read_bytes()
        for path in [*plan.runtime.rglob("*"), plan.log]:
            if path.is_file():
                assert plan.passphrase not in path.read_bytes()
                assert b"PRIVATE KEY" not in path.read_bytes()
    finally:
        child.stop()
    eventually(lambda: not Path(f"/proc/{child.pid}").exists(), "it ends")
