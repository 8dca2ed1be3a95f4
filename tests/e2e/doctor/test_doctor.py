"""Promise: whatever is unplugged, `spangate doctor` names the link, and says what mends it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Up, edit, eventually, shop_folder, spangate
from fakes.keys import FakeKeys
from spangate.adapters.clock import SystemClock
from spangate.adapters.state import Running
from spangate.adapters.svid_client import Svid, sign_here
from spangate.app.doctor.chain import Chain
from spangate.app.doctor.walk import Finding, State, walk
from spangate.app.doctor.world import World
from spangate.authority.ca import Authority
from spangate.model.identity import SpiffeId

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def clinic(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """An `up` of one's own, which the tests do harm to."""
    up = Up(shop_folder(tmp_path_factory.mktemp("clinic") / "shop")).wait_until_up()
    yield up
    up.end()


def told(folder: Path, identity: str, code: int) -> dict[str, dict[str, Any]]:
    done = spangate("doctor", "--as", identity, "--json", cwd=folder)
    assert done.returncode == code, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["fine"] == (code == 0)
    return {entry["link"]: entry for entry in found["links"]}


def broken(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: entry["sentence"] for name, entry in found.items() if entry["state"] == "problem"}


def walked(up: Up, world: World, clock: Any) -> dict[str, Finding]:
    return {finding.link: finding for finding in walk(Chain("checkout", world, clock).links())}


def test_when_all_is_well_it_says_so(clinic: Up) -> None:
    done = spangate("doctor", "--as", "checkout", cwd=clinic.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1] == "nothing is wrong"
    assert {line.split()[0] for line in lines[:-1]} == {"ok", "skipped"}
    assert "the emulator does not enforce roles" in done.stdout


def test_looking_leaves_no_session_behind_and_no_secret_anywhere(clinic: Up) -> None:
    audit = clinic.audit()
    told(clinic.folder, "reports", 0)
    lines = audit.wait(3, "spiffe://shop.example/ns/analytics/sa/reports")
    assert {line["rpc"] for line in lines} == {"CreateSession", "ExecuteSql", "DeleteSession"}
    for path in clinic.folder.rglob("*"):
        assert not path.is_file() or b"PRIVATE KEY" not in path.read_bytes(), path


def test_a_workload_that_the_intent_does_not_name(clinic: Up) -> None:
    found = told(clinic.folder, "shop/intruder", 1)
    assert set(broken(found)) == {"intent"}
    assert found["certificate"]["state"] == "ok"
    assert "under `identities`" in found["intent"]["fix"]


def test_a_name_that_is_mistyped(clinic: Up) -> None:
    found = told(clinic.folder, "chekout", 1)
    assert "did you mean `checkout`?" in found["intent"]["fix"]


def test_a_broken_intent_while_the_gate_runs(clinic: Up) -> None:
    file = clinic.folder / "spangate.yaml"
    good = file.read_text()
    edit(file, ("Customers(CustomerId, Name)", "Customers(CustomerId, Nme)"))
    try:
        found = told(clinic.folder, "checkout", 1)
    finally:
        file.write_text(good)
    assert set(broken(found)) == {"intent"}
    assert "Nme" in found["intent"]["sentence"]
    eventually(lambda: not broken(told_or_none(clinic.folder)), "the gate decides by the good file again")


def told_or_none(folder: Path) -> dict[str, dict[str, Any]]:
    done = spangate("doctor", "--as", "checkout", "--json", cwd=folder)
    return {entry["link"]: entry for entry in json.loads(done.stdout)["links"]}


class WrongClock:
    """This machine's clock, if it were that much off."""

    def __init__(self, off: timedelta) -> None:
        self._off = off

    def now(self) -> datetime:
        return SystemClock().now() + self._off


@pytest.mark.parametrize(
    ("off", "link", "sentence"),
    [
        (timedelta(minutes=-5), "clock", "its certificates begin at"),
        (timedelta(minutes=5), "clock", "s ahead of that of the authority"),
        (timedelta(hours=3), "certificate", "has ended already"),
    ],
)
def test_a_wrong_clock(clinic: Up, off: timedelta, link: str, sentence: str) -> None:
    found = walked(clinic, World(clinic.folder / "spangate.yaml"), WrongClock(off))
    assert found[link].state is State.PROBLEM
    assert sentence in found[link].sentence
    assert "timedatectl" in found[link].fix


class AnotherAuthority(World):
    """The certificates come from an authority that the gateway does not know; in its own bundle, they are good."""

    authority = Authority.create("shop.example", SystemClock(), FakeKeys())

    def svid(self, running: Running, identity: SpiffeId) -> Svid:
        return sign_here(self.authority, FakeKeys(), identity)


class AnotherAuthoritysCertificate(AnotherAuthority):
    """Only the certificate is foreign; the gateway is found to be the right one."""

    def gateways_certificate(self, address: str, bundle_pem: str) -> Any:
        return super().gateways_certificate(address, World.svid(self, self.running(), GATE_USER).secrets.bundle_pem)

    def session(self, address: str, svid: Svid, database: str) -> str:
        good = World.svid(self, self.running(), GATE_USER).secrets.bundle_pem
        secrets = type(svid.secrets)(svid.secrets.chain_pem, svid.secrets.key_pem, good)
        return super().session(address, type(svid)(svid.identity, secrets, svid.not_after, svid.serial), database)


GATE_USER = SpiffeId.workload("shop.example", "shop", "checkout")


def test_a_bundle_that_does_not_vouch_for_the_gateway(clinic: Up) -> None:
    found = walked(clinic, AnotherAuthority(clinic.folder / "spangate.yaml"), SystemClock())
    assert found["trust"].state is State.PROBLEM
    assert "is not vouched for by the bundle" in found["trust"].sentence
    assert found["permission"].state is State.SKIPPED


def test_a_certificate_that_the_gateway_does_not_accept(clinic: Up) -> None:
    found = walked(clinic, AnotherAuthoritysCertificate(clinic.folder / "spangate.yaml"), SystemClock())
    assert found["trust"].state is State.OK
    assert found["gateway"].state is State.PROBLEM
    assert "the client certificate of" in found["gateway"].sentence


def test_a_checkpoint_that_hangs(clinic: Up) -> None:
    pid = clinic.child("checkpoint_process")
    os.kill(pid, signal.SIGSTOP)
    try:
        found = told(clinic.folder, "checkout", 1)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "the checkpoint does not answer" in found["up"]["sentence"]


def test_where_nothing_runs(start_up: Callable[..., Up], tmp_path: Path) -> None:
    folder = shop_folder(tmp_path / "quiet")
    found = told(folder, "checkout", 1)
    assert set(broken(found)) == {"up"}
    assert "does not run" in found["up"]["sentence"]
    assert found["intent"]["state"] == "ok"
    assert found["certificate"]["sentence"] == "not checked: mend `up` first"


def test_where_there_is_no_intent(tmp_path: Path) -> None:
    found = told(tmp_path, "checkout", 1)
    assert set(broken(found)) == {"up", "intent"}
    assert "spangate init" in found["intent"]["fix"]
