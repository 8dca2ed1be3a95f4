"""Promise: a pod is who its service account token proves, at the door of a running `up`; whoever proves nothing gets
nothing."""

from __future__ import annotations

import http.client
import json
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import Up, eventually, shop_folder, spangate
from fakes.cluster import AUDIENCE, ApiServer, Cluster, api_server
from spangate.adapters.attest_client import AttestClient
from spangate.adapters.authority_store import FILE, AuthorityFile
from spangate.adapters.keys import SystemKeys
from spangate.adapters.svid_client import SvidClient
from spangate.errors import YourFault
from spangate.model.identity import SpiffeId

pytestmark = pytest.mark.e2e

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
        self.token, self.bundle = folder / "token", folder / "bundle.pem"
        self.bundle.write_text(SvidClient(Path(up.running["authority_socket"]), SystemKeys()).bundle())

    @property
    def url(self) -> str:
        return f"https://{self.up.running['pods']}"

    def client(self) -> AttestClient:
        return AttestClient(self.url, self.bundle, self.token, SystemKeys())

    def run(self, *command: str) -> tuple[int, str, str]:
        done = spangate(
            *("run", "--authority", self.url, "--bundle", str(self.bundle), "--gateway", self.up.running["gateway"]),
            *("--kubernetes-token", str(self.token), "--", *command),
            cwd=self.token.parent,
        )
        return done.returncode, done.stdout, done.stderr


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
