"""Promise: a pod is who its service account token proves, at the door of a running `up`; whoever proves nothing gets
nothing. It follows a rotation of roots within seconds, and no program in it notices.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import SPANGATE, Up, eventually, shop_folder, spangate
from e2e.rotation.parts import SPIFFE_PROGRAM, begin, status, until
from fakes.cluster import AUDIENCE, ApiServer, Cluster, api_server
from spangate.adapters.attest_client import AttestClient
from spangate.adapters.authority_store import FILE, AuthorityFile
from spangate.adapters.keys import SystemKeys
from spangate.adapters.svid_client import SvidClient
from spangate.app.run import EMULATOR_SETTINGS
from spangate.errors import YourFault
from spangate.model.identity import SpiffeId

pytestmark = pytest.mark.e2e

STEADY = Path(__file__).parents[1] / "rotation" / "steady.py"
CHECKOUT = "spiffe://shop.example/ns/shop/sa/checkout"
PROGRAM = """
import json, os, socket
from spiffe import X509Source
with X509Source(timeout_in_seconds=20) as source:
    svid = source.get_x509_context().default_svid
host, _, port = os.environ["SPANNER_EMULATOR_HOST"].partition(":")
socket.create_connection((host, int(port)), 5).close()
print(json.dumps({"id": str(svid.spiffe_id)}))
"""


class Place:
    """A cluster, `up` that lets its pods in, and what is in a pod: a token and the bundle."""

    def __init__(self, up: Up, cluster: Cluster, server: ApiServer, folder: Path) -> None:
        self.up, self.cluster, self.server = up, cluster, server
        self.pods = 0
        self.token, self.bundle = folder / "token", folder / "bundle.pem"
        self.bundle.write_text(SvidClient(Path(up.running["authority_socket"]), SystemKeys()).bundle())

    @property
    def url(self) -> str:
        return f"https://{self.up.running['pods']}"

    def client(self) -> AttestClient:
        return AttestClient(self.url, self.bundle, self.token, SystemKeys())

    def options(self, token: Path) -> list[str]:
        """Of `run` in a pod with that token."""
        where = ["--authority", self.url, "--bundle", str(self.bundle), "--gateway", self.up.running["gateway"]]
        return ["run", *where, "--kubernetes-token", str(token), "--"]

    def run(self, *command: str) -> tuple[int, str, str]:
        done = spangate(*self.options(self.token), *command, cwd=self.token.parent)
        return done.returncode, done.stdout, done.stderr

    def start(self, account: str, *program: str) -> subprocess.Popen[str]:
        """A pod of that service account, with a program in Python; it is left to whoever starts it to end it."""
        namespace, _, name = account.partition("/")
        self.pods += 1
        token = self.up.folder / f"token-{self.pods}"
        token.write_text(self.cluster.token(namespace, name))
        return subprocess.Popen(
            [str(SPANGATE), *self.options(token), sys.executable, *program],
            cwd=self.up.folder,
            # What `run` on the machine of `up` sets, and a pod's manifest has to.
            env=os.environ | EMULATOR_SETTINGS | {"GOOGLE_CLOUD_PROJECT": "spangate-local"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def place(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("pods")
    cluster = Cluster()
    with api_server(cluster, folder, bearer="the-authoritys-own-token") as server:
        (folder / "own-token").write_text("the-authoritys-own-token")
        (folder / "cluster.yaml").write_text(
            f"issuer: {cluster.issuer}\naudience: {AUDIENCE}\njwks: {server.url}/openid/v1/jwks\n"
            "ca: ca.crt\ntoken: own-token\nlisten: 127.0.0.1:0\n"
        )
        passphrase = folder / "keys-passphrase"
        passphrase.write_text("a passphrase of some length for tests")
        passphrase.chmod(0o600)
        up = Up(
            shop_folder(folder / "shop"),
            *("--kubernetes", str(folder / "cluster.yaml")),
            *("--keys", str(folder / "keys"), "--passphrase-file", str(passphrase)),
        ).wait_until_up()
        try:
            yield Place(up, cluster, server, folder)
        finally:
            code = up.end()
        assert code == 0, up.printed


def test_a_command_in_a_pod_is_the_pods_service_account(place: Place) -> None:
    place.token.write_text(place.cluster.token("shop", "checkout"))
    code, printed, said = place.run(sys.executable, "-c", PROGRAM)
    assert code == 0, said
    assert json.loads(printed.splitlines()[-1]) == {"id": CHECKOUT}


def test_a_rotation_takes_seconds_with_pods_under_load_and_no_program_notices(place: Place) -> None:
    up = place.up
    up.program("loader", "load.py")
    shutil.copy(STEADY, up.folder)
    before = status(up)["roots"][0]["fingerprint"]
    audit = up.audit()
    stop = str(up.folder / "stop")
    pods = [
        place.start("shop/checkout", "steady.py", "writer", stop, "0.02"),
        place.start("analytics/reports", "steady.py", "reader", stop, "0.02"),
    ]
    # A program that uses the Workload API of `run` in its pod, and is waited for as well.
    pods.append(watcher := place.start("lab/spiffe", "-c", SPIFFE_PROGRAM))
    try:
        assert watcher.stdout is not None
        assert json.loads(watcher.stdout.readline()) == {"trusts": [before], "uses": [before]}
        for identity in (CHECKOUT, "spiffe://shop.example/ns/analytics/sa/reports"):
            eventually(lambda identity=identity: audit.lines(identity), f"requests of {identity}", 60)
        # Others that never report have no certificate now; these and the doors of `up` are all.
        begin(up)
        began = time.monotonic()
        until(up, "NEW_ROOT_SIGNS")
        # The door has a certificate of the old root, and comes back with another one.
        up.kill_part("authority_process")
        until(up, "STEADY")
        print(f"a rotation with three pods, two under load, took {time.monotonic() - began:.0f} s")
        time.sleep(2)
        Path(stop).touch()
        results = []
        for pod in pods:
            printed, said = pod.communicate("", timeout=60)
            assert pod.returncode == 0, said
            results.append([json.loads(line) for line in printed.splitlines()])
    finally:
        for pod in pods:
            pod.kill()
            pod.communicate()
        Path(stop).unlink(missing_ok=True)
    *loads, watched = results
    failed = [failure for (one,) in loads for failure in one["failed"]]
    assert failed == [], failed[0]
    assert all(one["done"] > 20 for (one,) in loads), loads
    (root,) = status(up)["roots"]
    new = root["fingerprint"]
    assert new != before
    assert {"trusts": sorted([before, new]), "uses": [before]} in watched
    assert watched[-1] == {"trusts": [new], "uses": [new]}

    # Whoever starts now needs the bundle of now.
    place.token.write_text(place.cluster.token("shop", "checkout"))
    code, _, said = place.run("true")
    assert (code, "is not signed under" in said) == (1, True), said
    place.bundle.write_text(root["pem"])
    assert place.run("true")[0] == 0


def test_a_pod_that_dies_counts_until_its_certificate_ends_and_is_named(place: Place) -> None:
    """No kernel of this machine knows of its end."""
    place.token.write_text(place.cluster.token("shop", "checkout"))
    client = place.client()
    client.fetch("0123456789abcdef-of-a-pod-that-dies")
    begin(place.up)
    try:

        def waited_for() -> dict[str, Any] | None:
            waits = status(place.up)["waits"]
            return waits[0] if len(waits) == 1 and CHECKOUT in waits[0]["who"] else None

        wait = eventually(waited_for, "the pod alone is waited for", 40)
        assert wait["why"] == "is silent, and its certificate has not ended"
        assert wait["until"] is not None
    finally:
        assert spangate("rotate", "--abandon", cwd=place.up.folder).returncode == 0


def test_what_a_pod_was_given_is_recorded_with_the_pod(place: Place) -> None:
    place.token.write_text(place.cluster.token("shop", "checkout"))
    serial = place.client().fetch().serial
    recorded = AuthorityFile(place.up.state / FILE).attested()
    assert (f"{serial:x}", CHECKOUT) in {(number, identity) for number, identity, _ in recorded}


def test_a_token_that_is_not_good_gets_nothing(place: Place) -> None:
    for token, reason in (
        (place.cluster.token(aud=["vault"]), "another audience"),
        (place.cluster.token(iss="https://evil.example"), "another issuer"),
        (Cluster(first=100).token(), "signature is wrong"),
        ("x.y.z", "refused"),
    ):
        place.token.write_text(token)
        with pytest.raises(YourFault, match=reason):
            place.client().fetch()
        code, printed, said = place.run(sys.executable, "-c", PROGRAM)
        assert (code, printed) == (2, "")
        assert reason in said


def asks(place: Place, token: str, source: str) -> int:
    """The status of an answer for a token that is shown from that address."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, _, port = place.up.running["pods"].rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), timeout=20, context=context, source_address=(source, 0))
    try:
        connection.request("POST", "/v1/jwt", '{"audiences": ["db"]}', {"authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_token_is_taken_from_one_address_also_after_the_authority_was_killed(place: Place) -> None:
    token = place.cluster.token("shop", "checkout")
    assert asks(place, token, "127.0.0.1") == 200
    assert asks(place, token, "127.0.0.2") == 401
    eventually(lambda: "was first shown from 127.0.0.1 and now from 127.0.0.2" in place.up.printed, "it is told", 10)
    place.up.kill_part("authority_process")
    # Whoever connects meanwhile waits for it.
    assert asks(place, token, "127.0.0.2") == 401
    assert asks(place, token, "127.0.0.1") == 200
    assert len(AuthorityFile(place.up.state / FILE).replayed()) == 1


def test_keys_that_the_cluster_changes_are_found(place: Place) -> None:
    place.token.write_text(place.cluster.token("shop", "checkout"))
    client = place.client()
    client.fetch()
    place.cluster.rotate()
    place.token.write_text(place.cluster.token("shop", "checkout"))

    def found() -> bool:
        # Unknown keys are looked for every few seconds at most.
        try:
            return client.fetch().identity == SpiffeId.parse(CHECKOUT)
        except YourFault:
            return False

    eventually(found, "the new key is found", 15)


def test_no_token_is_left_anywhere(place: Place) -> None:
    token = place.cluster.token("shop", "checkout")
    place.token.write_text(token)
    place.client().fetch()
    place.client().token(["orders"])
    signature = token.rpartition(".")[2].encode()
    for path in place.up.folder.rglob("*"):
        if path.is_file():
            assert signature not in path.read_bytes(), path


def test_a_workload_may_not_be_spangate_itself(place: Place) -> None:
    done = spangate("run", "--as", "spiffe://shop.example/spangate/authority", "--", "true", cwd=place.up.folder)
    assert done.returncode == 2
    assert "Spangate's own identity" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "as whom"),
        (("--authority", "https://127.0.0.1:1"), "needs `--bundle`"),
        (("--authority", "http://127.0.0.1:1", "--bundle", "x", "--gateway", "a:1"), "not an https URL"),
        (("--as", "a/b", "--authority", "https://x", "--bundle", "x", "--gateway", "a:1"), "none of `--as`"),
        (("--authority", "https://x", "--bundle", "/nowhere", "--gateway", "a:1"), "cannot read"),
        (("--authority", "https://x", "--bundle", "/nowhere", "--gateway", "a"), "host:port"),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = spangate("run", *arguments, "--", "true", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
