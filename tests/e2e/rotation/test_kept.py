"""Promise: with kept keys a rotation that is due begins by itself, and outlives `up`: killed in the middle of it, with
everything that it runs, the next `up` carries it on to its end. Whoever lived through it goes on.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from e2e.harness import REPORTS, TRUST_DOMAIN, Up, descendants, eventually, shop_folder
from e2e.rotation.parts import TRUST_STORE, Load, Stolen, busy, confirm, status, until
from fakes.clock import FakeClock
from spangate.adapters.authority_store import FILE, AuthorityFile
from spangate.adapters.emulator import free_port
from spangate.adapters.key_keepers import KeyFiles
from spangate.adapters.keys import SystemKeys
from spangate.authority.ca import Authority

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

PASSPHRASE = b"correct horse battery staple"
# What the operator says; by itself a root would become older (authority.rotator.EVERY).
EVERY = timedelta(days=30)


def due(folder: Path) -> Path:
    """A folder with the keys and the state of an authority whose root is as old as a root gets here: made by the
    authority's own code, whose clock says so.
    """
    shop_folder(folder)
    (folder / "passphrase").write_bytes(PASSPHRASE)
    (folder / "passphrase").chmod(0o600)
    (folder / ".spangate").mkdir(mode=0o700)
    clock = FakeClock(datetime.now(UTC) - EVERY - timedelta(minutes=1))
    store = AuthorityFile(folder / ".spangate" / FILE, clock.now)
    keeper = KeyFiles(folder / "keys", PASSPHRASE)
    Authority.open(TRUST_DOMAIN, clock, SystemKeys(), keeper, store, record=store.record)
    store.close()
    return folder


@pytest.fixture
def started(start_up: Callable[..., Up], tmp_path: Path) -> Callable[[], Up]:
    """`up` on the same folder, keys and port; its rotation stands in the first phase until somebody confirms."""
    folder = due(tmp_path / "shop")
    options = ("--keys", "keys", "--passphrase-file", "passphrase", "--port", str(free_port()), *TRUST_STORE)
    options += ("--rotate-every", f"{EVERY.days}d")
    return lambda: start_up(folder, *options).wait_until_up()


def test_a_rotation_that_is_due_begins_by_itself_and_goes_on_after_up_was_killed(started: Callable[[], Up]) -> None:
    up = started()
    assert status(up)["phase"] == "NEW_ROOT_TRUSTED", "nobody has begun it"
    (old,) = [root["fingerprint"] for root in status(up)["roots"] if root["signs"]]
    stolen = Stolen(up)
    load = Load(up)
    try:
        dying, _ = busy(up, load)
        confirm(up)
        before = until(up, "NEW_ROOT_SIGNS")
        up.kill()
        # It dies while there is nobody who could notice; the command outlives `run`.
        command = [pid for pid, line in descendants(dying.pid).items() if "steady.py" in line]
        dying.kill()
        for pid in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        dying.wait()

        up = started()
        stolen.connects_anew(up)
        found = status(up)
        assert found["phase"] == "NEW_ROOT_SIGNS"
        assert found["roots"] == before["roots"], "the trust of before holds"
        until(up, "OLD_ROOT_RETIRED")
        confirm(up)
        found = until(up, "STEADY")
        assert old not in {root["fingerprint"] for root in found["roots"]}
        # The next one is due when this root is as old.
        left = datetime.fromisoformat(found["next"]) - datetime.now(UTC)
        assert EVERY - timedelta(minutes=10) < left <= EVERY
        stolen.is_worth_nothing()
        # The one that lives has found the other `up` by itself, and has a certificate under the new root.
        audit = up.audit()
        granted = lambda: [line for line in audit.lines(REPORTS) if line["reason"] == "granted"]  # noqa: E731
        eventually(granted, "it reads again", 30)
    finally:
        load.kill()
