"""What the tests of rotations share: where one stands, programs that work all the time, and what was signed before."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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
    spangate,
)
from spangate.adapters.clock import SystemClock
from spangate.adapters.google_http import ClientCertificate, Google, GoogleEndpoints
from spangate.adapters.intent_files import load_policy
from spangate.adapters.keys import SystemKeys
from spangate.adapters.peer_client import rotation
from spangate.adapters.svid_client import Svid, SvidClient
from spangate.broker.diagnosis import ChainBroken, GoogleAway, Link
from spangate.broker.exchange import certificate_chain_token
from spangate.errors import SpangateError
from spangate.model.identity import SpiffeId

HERE = Path(__file__).parent
# Each phase takes some seconds; a restart of the authority adds its settling, a loaded machine the rest.
PHASE_SECONDS = 90.0
PHASES = ["NEW_ROOT_TRUSTED", "NEW_ROOT_SIGNS", "OLD_ROOT_RETIRED", "STEADY"]
# Of somebody who sends nothing else.
LOADER = SpiffeId.workload("shop.example", "shop", "loader")
MARK = "rotation-test-peer"
# Somebody has to say when it is changed: a rotation stands in its first phase, and in its last, until then.
TRUST_STORE = (
    "--google-trust-store",
    "projects/123456789012/locations/global/workloadIdentityPools/mesh/providers/spangate",
)


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


def confirm(up: Up) -> None:
    """Somebody has changed Google's trust store as the phase wants it."""
    done = spangate("rotate", "--confirm", "google", cwd=up.folder)
    assert done.returncode == 0, done.stderr


class Load:
    """Programs under `spangate run` that write and read until the end."""

    def __init__(self, up: Up) -> None:
        self._up = up
        self.stop = up.folder / "stop"
        shutil.copy(HERE / "steady.py", up.folder)
        self.running: list[subprocess.Popen[str]] = []

    def start(self, identity: str, what: str, pause: float, *times: str) -> subprocess.Popen[str]:
        return self.run(identity, sys.executable, "steady.py", what, str(self.stop), str(pause), *times)

    def run(self, identity: str, *program: str) -> subprocess.Popen[str]:
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
        self.stop.touch()
        found = []
        for one in self.running:
            out, err = one.communicate(timeout=60)
            assert one.returncode == 0, f"{out}{err}"
            found.append(json.loads(out.splitlines()[-1]))
        self.stop.unlink()
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


def forgotten(up: Up, identity: SpiffeId) -> Svid:
    """A certificate of somebody who says goodbye: no rotation waits for it."""
    client = SvidClient(Path(up.running["authority_socket"]), SystemKeys())
    svid = client.fetch(identity, MARK)
    client.ask("POST", "/gone", {"instance": MARK})
    return svid


class Stolen:
    """A certificate of somebody who says goodbye and goes on using it: on a connection of before, anew, and at Google.

    Made, it is good everywhere.
    """

    def __init__(self, up: Up) -> None:
        self._up = up
        self._svid = forgotten(up, LOADER)
        self._idle: Http2 | None = connection(up, self._svid)
        assert reason_of(up, self._idle) == "granted"
        assert not up.running["sts"] or asked_of_google(up, LOADER, self._svid) == "granted"

    def connects_anew(self, up: Up) -> None:
        """The gateway is another one, and the connection of before gone with it; nothing is sent over this one yet."""
        self._up = up
        if self._idle is not None:
            self._idle.close()

        def connected() -> Http2 | None:
            with contextlib.suppress(OSError):
                return connection(up, self._svid)
            return None

        self._idle = eventually(connected, "the gateway listens again")

    def is_worth_nothing(self) -> None:
        """It has not ended, and nobody takes it any more."""
        assert self._svid.not_after.timestamp() > time.time()
        if self._idle is not None:
            assert reason_of(self._up, self._idle) == "retired-certificate"
            self._idle.close()
            self._idle = None
        assert anew(self._up, self._svid) == "untrusted-certificate"
        assert not self._up.running["sts"] or asked_of_google(self._up, LOADER, self._svid) == Link.CERTIFICATE


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


def asked_of_google(up: Up, identity: SpiffeId, svid: Svid | None = None) -> str:
    """`granted`, or the link that the stand-in for Google says is broken: asked with `svid` as the broker does it, or
    with one that is signed now.
    """
    shown = svid or forgotten(up, identity)
    certificate = ClientCertificate(shown.secrets.chain_pem, shown.secrets.key_pem)
    (line,) = [line for line in descendants(up.process.pid).values() if "broker_process" in line]
    options = dict(itertools.pairwise(line.split()))
    endpoints = GoogleEndpoints(options["--sts"], options["--sts-mtls"], options["--iam-credentials"])
    google = Google(endpoints, now=SystemClock().now, ca_file=Path(options["--google-ca"]))
    federation = load_policy(up.folder / "spangate.yaml").federations[identity]

    def answer() -> str | None:
        # It may have been killed just now.
        with contextlib.suppress(GoogleAway):
            try:
                google.exchange(federation, certificate_chain_token(shown.chain_der), certificate)
            except ChainBroken as refused:
                return str(refused.link)
            return "granted"
        return None

    try:
        return eventually(answer, "the stand-in for Google answers")
    finally:
        google.close()


def busy(up: Up, load: Load) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """A writer and a reader that have begun."""
    audit = up.audit()
    found = load.start("checkout", "writer", 0.05), load.start("reports", "reader", 0.05)
    for identity in (CHECKOUT, REPORTS):
        eventually(lambda identity=identity: audit.lines(identity), f"requests of {identity}", 60)
    return found
