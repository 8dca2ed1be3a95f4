"""Promise: two rotations under load, with every part killed in the middle, and no client notices; what was signed under
a retired root is worth nothing afterwards. Whoever cannot follow holds a rotation, is named, and it can be turned back.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.spanner_v1 import types

from conformance.engines.http2 import Http2
from e2e.harness import (
    CHECKOUT,
    DATABASE,
    REPORTS,
    SERVICE,
    SPANGATE,
    Up,
    descendants,
    encode,
    eventually,
    shop_folder,
    spangate,
)
from spangate.adapters.keys import SystemKeys
from spangate.adapters.peer_client import rotation
from spangate.adapters.svid_client import Svid, SvidClient
from spangate.errors import SpangateError
from spangate.model.identity import SpiffeId

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]

HERE = Path(__file__).parent
# Each phase takes some seconds; a restart of the authority adds its settling, a loaded machine the rest.
PHASE_SECONDS = 90.0
PHASES = ["NEW_ROOT_TRUSTED", "NEW_ROOT_SIGNS", "OLD_ROOT_RETIRED", "STEADY"]
# Of somebody who sends nothing else.
LOADER = SpiffeId.workload("shop.example", "shop", "loader")
MARK = "rotation-test-peer"


def status(up: Up) -> dict[str, Any]:
    """What `--status --json` says, without starting a program for it; asked again while the authority is away."""

    def asked() -> dict[str, Any] | None:
        with contextlib.suppress(SpangateError):
            return dict(rotation(SvidClient(Path(up.running["authority_socket"]), SystemKeys())))
        return None

    return eventually(asked, "the authority says where the rotation stands", 30)


def until(up: Up, phase: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def reached() -> bool:
        found.update(status(up))
        return bool(found["phase"] == phase)

    try:
        eventually(reached, phase, PHASE_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}: {found}\n{up.printed}") from None
    return found


def begin(up: Up) -> None:
    done = spangate("rotate", "--no-wait", cwd=up.folder)
    assert done.returncode == 0, done.stderr


class Load:
    """Programs under `spangate run` that write and read until the end."""

    def __init__(self, up: Up) -> None:
        self._up = up
        self._stop = up.folder / "stop"
        shutil.copy(HERE / "steady.py", up.folder)
        self.running: list[subprocess.Popen[str]] = []

    def start(self, identity: str, what: str, pause: float, *times: str) -> subprocess.Popen[str]:
        program = [sys.executable, "steady.py", what, str(self._stop), str(pause), *times]
        started = subprocess.Popen(
            [str(SPANGATE), "run", "--as", identity, "--", *program],
            cwd=self._up.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(started)
        return started

    def results(self) -> list[dict[str, Any]]:
        self._stop.touch()
        found = []
        for one in self.running:
            out, err = one.communicate(timeout=60)
            assert one.returncode == 0, f"{out}{err}"
            found.append(json.loads(out.splitlines()[-1]))
        self._stop.unlink()
        return found

    def kill(self) -> None:
        for one in self.running:
            if one.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    one.send_signal(signal.SIGCONT)
                one.kill()
                one.wait()
            for pipe in (one.stdout, one.stderr):
                if pipe is not None:
                    pipe.close()


def kill(root: int, part: str) -> None:
    """SIGKILL to what runs `part` below the process `root`; another one takes its place."""
    victim = next(pid for pid, line in descendants(root).items() if part in line)
    os.kill(victim, signal.SIGKILL)
    eventually(
        lambda: any(part in line and pid != victim for pid, line in descendants(root).items()), f"another {part}", 30
    )


def stolen(up: Up) -> Svid:
    """A certificate of somebody who says goodbye and goes on using it."""
    client = SvidClient(Path(up.running["authority_socket"]), SystemKeys())
    svid = client.fetch(LOADER, MARK)
    client.ask("POST", "/gone", {"instance": MARK})
    return svid


def connection(up: Up, svid: Svid) -> Http2:
    context = ssl.create_default_context()
    context.check_hostname = False
    # The gateway's certificate is not what is tested.
    context.verify_mode = ssl.CERT_NONE
    file = up.folder / "client.pem"
    file.write_text(svid.secrets.key_pem + svid.secrets.chain_pem, encoding="ascii")
    context.load_cert_chain(file)
    file.unlink()
    return Http2(up.running["gateway"], context)


def reason_of(up: Up, through: Http2) -> str:
    """What the gateway says to a request of somebody's."""
    audit = up.audit()
    body = encode(types.CreateSessionRequest(database=DATABASE))
    # A gateway that wants the client to connect anew says so before it answers.
    with contextlib.suppress(ConnectionError):
        through.call(SERVICE + "CreateSession", b"\0" + len(body).to_bytes(4, "big") + body, {})
    (line,) = audit.wait(1, LOADER)
    return str(line["reason"])


def anew(up: Up, svid: Svid) -> str:
    """The same on a new connection."""
    through = connection(up, svid)
    try:
        return reason_of(up, through)
    finally:
        through.close()


def busy(up: Up, load: Load) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """A writer and a reader that have begun."""
    audit = up.audit()
    found = load.start("checkout", "writer", 0.05), load.start("reports", "reader", 0.05)
    for identity in (CHECKOUT, REPORTS):
        eventually(lambda identity=identity: audit.lines(identity), f"requests of {identity}", 60)
    return found


@pytest.fixture(scope="module")
def up(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One for all tests: each leaves it as it found it, but for its root."""
    found = Up(shop_folder(tmp_path_factory.mktemp("rotation") / "shop")).wait_until_up()
    try:
        found.program("loader", "load.py")
        yield found
    finally:
        found.end()


@pytest.fixture
def load(up: Up) -> Iterator[Load]:
    found = Load(up)
    yield found
    found.kill()


def test_two_rotations_under_load_with_every_part_killed_and_no_client_notices(up: Up, load: Load) -> None:
    old = stolen(up)
    idle = connection(up, old)
    assert reason_of(up, idle) == "granted"
    roots = {root["fingerprint"] for root in status(up)["roots"]}
    load.start("checkout", "writer", 0.02)
    reader = load.start("reports", "reader", 0.02)
    time.sleep(3)

    begin(up)
    load.start("reports", "reader", 0.01, "20")
    kill(up.process.pid, "authority_process")
    until(up, "NEW_ROOT_SIGNS")
    load.start("checkout", "writer", 0.01, "10")
    kill(reader.pid, "client.json")
    kill(up.process.pid, "checkpoint_process")
    until(up, "STEADY")

    # What was signed under the first root has not ended, and is worth nothing: on a connection of before, and anew.
    assert old.not_after.timestamp() > time.time()
    assert reason_of(up, idle) == "retired-certificate"
    idle.close()
    assert anew(up, old) == "untrusted-certificate"

    begin(up)
    until(up, "NEW_ROOT_SIGNS")
    load.start("reports", "reader", 0.01, "20")
    kill(up.process.pid, "gateway.json")
    until(up, "OLD_ROOT_RETIRED")
    kill(up.process.pid, "authority_process")
    found = until(up, "STEADY")
    load.start("checkout", "writer", 0.01, "5")
    time.sleep(3)

    results = load.results()
    failed = [failure for one in results for failure in one["failed"]]
    assert failed == [], failed[0]
    assert sum(one["done"] for one in results) > 200, results
    assert len(found["roots"]) == 1
    assert not roots & {root["fingerprint"] for root in found["roots"]}
    assert len(found["let_go"]) == 2
    assert anew(up, old) == "untrusted-certificate"
    printed = up.printed
    for phase in PHASES:
        assert printed.count(f"rotation: {phase}") == 2, printed


def test_a_client_that_is_stopped_holds_the_rotation_is_named_and_it_is_turned_back(up: Up, load: Load) -> None:
    client, other = busy(up, load)
    before = status(up)["roots"]
    os.kill(client.pid, signal.SIGSTOP)
    begin(up)

    def only_it() -> dict[str, Any] | None:
        found = status(up)
        assert found["phase"] == "NEW_ROOT_TRUSTED"
        names = [wait["who"] for wait in found["waits"]]
        return found["waits"][0] if len(names) == 1 and "shop/sa/checkout" in names[0] else None

    wait = eventually(only_it, "the stopped client alone is waited for", 30)
    told = spangate("rotate", "--status", cwd=up.folder).stdout
    assert "waits for run spiffe://shop.example/ns/shop/sa/checkout" in told
    # Silence is no consent, however long it lasts.
    eventually(lambda: "silent" in status(up)["waits"][0]["why"], f"{wait} falls silent", 40)
    assert status(up)["waits"][0]["until"] is not None
    time.sleep(3)
    assert status(up)["phase"] == "NEW_ROOT_TRUSTED"

    done = spangate("rotate", "--abandon", cwd=up.folder)
    assert done.returncode == 0, done.stderr
    found = status(up)
    assert found["phase"] == "STEADY"
    assert found["roots"] == before
    os.kill(client.pid, signal.SIGCONT)
    time.sleep(2)
    assert other.poll() is None
    assert [one["failed"] for one in load.results()] == [[], []]


def test_whoever_was_killed_holds_nothing_up_and_a_rotation_that_signs_can_be_turned_back(up: Up, load: Load) -> None:
    client, _ = busy(up, load)
    before = status(up)["roots"][0]["fingerprint"]
    # The command outlives a killed `run`, and would keep its pipes open.
    command = [pid for pid, line in descendants(client.pid).items() if "steady.py" in line]
    client.kill()
    for pid in command:
        os.kill(pid, signal.SIGKILL)
    client.communicate(timeout=30)
    load.running.remove(client)
    begin(up)
    until(up, "NEW_ROOT_SIGNS")
    done = spangate("rotate", "--abandon", cwd=up.folder)
    assert done.returncode == 0, done.stderr
    found = status(up)
    assert found["phase"] == "STEADY"
    assert [root["fingerprint"] for root in found["roots"]] == [before]
    assert [one["failed"] for one in load.results()] == [[]]


def test_googles_trust_store_is_a_peer_that_a_person_confirms(start_up: Callable[..., Up], tmp_path: Path) -> None:
    provider = "projects/123456789012/locations/global/workloadIdentityPools/mesh/providers/spangate"
    up = start_up(shop_folder(tmp_path / "shop"), "--google-trust-store", provider).wait_until_up()
    assert spangate("rotate", "--confirm", "google", cwd=up.folder).returncode == 2
    begin(up)
    eventually(lambda: [one["who"] for one in status(up)["waits"]] == ["google"], "Google's store alone is waited for")
    told = spangate("rotate", "--status", cwd=up.folder).stdout
    assert told.count("BEGIN CERTIFICATE") == 2
    assert "providers update-x509 spangate --project=123456789012" in told
    assert spangate("rotate", "--abandon", "--no-wait", cwd=up.folder).returncode == 0
    assert status(up)["phase"] == "NEW_ROOT_DROPPED"
    eventually(lambda: [one["who"] for one in status(up)["waits"]] == ["google"], "it is waited for again")
    assert spangate("rotate", "--status", cwd=up.folder).stdout.count("BEGIN CERTIFICATE") == 1
    assert spangate("rotate", "--confirm", "google", cwd=up.folder).returncode == 0
    until(up, "STEADY")


# An unmodified SPIFFE client that says under which roots it is, whenever that changes, until it is told to end.
SPIFFE_PROGRAM = """
import hashlib, json, sys, threading
from cryptography.hazmat.primitives.serialization import Encoding
from spiffe import X509Source

ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
before = None
with X509Source(timeout_in_seconds=30) as source:
    while not ended.wait(0.1):
        svid = source.svid
        roots = source.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain).x509_authorities
        found = {hashlib.sha256(one.public_bytes(Encoding.DER)).hexdigest(): one for one in roots}
        def signed(root):
            try:
                svid.cert_chain[-1].verify_directly_issued_by(root)
            except Exception:
                return False
            return True
        now = {"trusts": sorted(found), "uses": [name for name, root in found.items() if signed(root)]}
        if now != before:
            print(json.dumps(now), flush=True)
            before = now
"""


def test_a_program_that_uses_the_workload_api_of_run_is_waited_for_and_follows(up: Up) -> None:
    old = status(up)["roots"][0]["fingerprint"]
    argv = [SPANGATE, "run", "--as", "checkout", "--", sys.executable, "-c", SPIFFE_PROGRAM]
    with subprocess.Popen(
        argv, cwd=up.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.stdout is not None
            assert json.loads(program.stdout.readline()) == {"trusts": [old], "uses": [old]}
            begin(up)
            until(up, "STEADY")
            new = status(up)["roots"][0]["fingerprint"]
            assert new != old
            told, complaints = program.communicate("", timeout=30)
        finally:
            program.kill()
    lines = [json.loads(line) for line in told.splitlines()]
    # Both are trusted before the new one signs, and until nothing of the old one is in use.
    assert {"trusts": sorted([old, new]), "uses": [old]} in lines, (lines, complaints)
    assert lines[-1] == {"trusts": [new], "uses": [new]}


def test_a_doctor_that_has_looked_holds_nothing_up(up: Up) -> None:
    before = status(up)["roots"][0]["fingerprint"]
    done = spangate("doctor", "--as", "reports", cwd=up.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    begin(up)
    until(up, "STEADY")
    assert status(up)["roots"][0]["fingerprint"] != before
