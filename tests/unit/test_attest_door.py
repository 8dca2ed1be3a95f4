"""The door for pods: what a service account token gets, and what it does not; and whom its client takes for it."""

from __future__ import annotations

import base64
import contextlib
import hmac
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt as pyjwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fakes.cluster import AUDIENCE, ISSUER, Cluster
from fakes.leaks import NO_TOKENS, leaks
from fakes.mesh_ca import MeshCa, pem
from fakes.tokens import jwt_authority
from spangate.adapters import attest_client, authority_store, tls_server
from spangate.adapters.attest_client import AttestClient
from spangate.adapters.attest_door import BODY_BYTES_MAX, AttestDoor
from spangate.adapters.authority_store import AuthorityFile
from spangate.adapters.bearer_file import TOKEN_BYTES_MAX
from spangate.adapters.clock import SystemClock
from spangate.adapters.cluster_keys import KeyFile
from spangate.adapters.holdings import Holding
from spangate.adapters.keys import SystemKeys, request_pem
from spangate.adapters.pod_reports import PodReports
from spangate.adapters.sds_door import Secrets
from spangate.adapters.svid_client import sign_here
from spangate.adapters.tls_server import TlsSecrets, TlsServer, tcp_listener
from spangate.authority import kubernetes_token, pod_shares
from spangate.authority.anchors import DomainBundle
from spangate.authority.ca import Authority
from spangate.authority.federation import known_roots
from spangate.authority.gate import waits
from spangate.authority.jwt_reader import TOKEN_CHARACTERS_MAX
from spangate.authority.ledger import HeldLedger
from spangate.authority.peers import Peers
from spangate.authority.pod_shares import PodShares
from spangate.authority.rotation import AllTrustNewRoot, RootStaged
from spangate.authority.token_addresses import TokenAddresses
from spangate.errors import PeersFault, TryAgain, YourFault
from spangate.model.identity import SpiffeId

TRUST_DOMAIN = "shop.example"
CHECKOUT = SpiffeId.workload(TRUST_DOMAIN, "shop", "checkout")


class Site:
    """The door, its cluster, and what a pod has: a token file and the bundle."""

    def __init__(self, folder: Path, shows: SpiffeId, *, bound: bool = True, **bounds: int) -> None:
        self.cluster = Cluster()
        self.others: tuple[DomainBundle, ...] = ()
        clock = SystemClock()
        self.ledger = HeldLedger(clock.now)
        self.authority = Authority.create(TRUST_DOMAIN, clock, SystemKeys(), record=self.ledger.record)
        self.peers = Peers(lambda: self.authority.state, self.ledger, clock)
        self.tokens = jwt_authority(SystemClock(), TRUST_DOMAIN)
        self.store = AuthorityFile(folder / "authority.sqlite")
        self.jwks, self.token_file, self.bundle_file = folder / "jwks.json", folder / "token", folder / "bundle.pem"
        self.publish()
        self.project()
        self.bundle_file.write_text(self.authority.bundle_pem())
        self.told: list[str] = []
        door = AttestDoor(
            self.authority,
            self.tokens,
            kubernetes_token.Cluster(ISSUER, AUDIENCE),
            KeyFile(self.jwks),
            clock=SystemClock(),
            recorder=self.store,
            addresses=TokenAddresses(self.store, self.told.append) if bound else None,
            roots=known_roots(self.authority, lambda: self.others),
            reports=PodReports(self.authority, self.peers, PodShares(clock.now, threading.Lock())),
        )
        self.secrets = TlsSecrets()
        self.show(shows)
        listener = tcp_listener("127.0.0.1:0")
        self.port = listener.getsockname()[1]
        self.server = TlsServer(door.app(), listener, self.secrets, name="attest", **bounds)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def publish(self) -> None:
        self.jwks.write_text(json.dumps(self.cluster.jwks()))

    def project(self, **change: Any) -> None:
        self.token_file.write_text(self.cluster.token(**change))

    def show(self, identity: SpiffeId) -> None:
        self.secrets.replace(sign_here(self.authority, SystemKeys(), identity).secrets)

    def client(self) -> AttestClient:
        return AttestClient(self.url, self.bundle_file, self.token_file, SystemKeys())

    def ask(
        self,
        path: str,
        body: Any,
        *tokens: str,
        method: str = "POST",
        source: str = "127.0.0.1",
        **headers: str,
    ) -> tuple[int, dict[str, Any]]:
        """As somebody else's client would, without looking at the certificate."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=20, context=context, source_address=(source, 0)
        )
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.putrequest(method, path)
            for token in tokens:
                connection.putheader("authorization", token)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.putheader("content-length", str(len(content)))
            connection.endheaders(content)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            found = json.loads(text)
        except ValueError:
            found = {"text": text.decode()}
        return answer.status, found

    def holders(self) -> list[str]:
        """Who may hold a certificate."""
        return [one.holder for one in self.ledger.held(datetime.now(UTC)) if one.identity == str(CHECKOUT)]

    def svid(self, token: str, source: str = "127.0.0.1", **headers: str) -> tuple[int, dict[str, Any]]:
        return self.ask("/v1/svid", {"csr": CSR}, f"Bearer {token}", source=source, **headers)


INSTANCE = "0123456789abcdef"
CSR = request_pem(SystemKeys().new_key())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, SpiffeId.authority(TRUST_DOMAIN))
    with made.server:
        yield made


# What a token gets


def test_a_pod_gets_the_certificate_of_its_service_account(site: Site) -> None:
    svid = site.client().fetch()
    assert svid.identity == CHECKOUT
    leaf, *_ = x509.load_pem_x509_certificates(svid.secrets.chain_pem.encode())
    key = serialization.load_pem_private_key(svid.secrets.key_pem.encode(), None)
    assert leaf.public_key() == key.public_key()


def test_a_pod_gets_tokens_and_bundles(site: Site) -> None:
    client = site.client()
    token = client.token(["orders"])
    assert site.tokens.validate(token, "orders").identity == CHECKOUT
    bundles = client.bundles()
    assert bundles.x509_pem == {TRUST_DOMAIN: site.authority.bundle_pem()}
    assert bundles.jwks[TRUST_DOMAIN]["keys"] == site.tokens.spiffe_bundle()["keys"]


def test_a_mesh_that_signs_for_the_trust_domain_too_is_not_the_authority(site: Site) -> None:
    """A pod verifies its peers by the mesh's roots, and never the door."""
    mesh, stranger = MeshCa(TRUST_DOMAIN), MeshCa("cluster.local")
    site.others = (
        DomainBundle((TRUST_DOMAIN,), (mesh.certificate,)),
        DomainBundle(("cluster.local",), (stranger.certificate,)),
    )
    client = site.client()
    bundles = client.bundles()
    assert bundles.x509_pem == {
        TRUST_DOMAIN: site.authority.bundle_pem() + pem(mesh.certificate),
        "cluster.local": pem(stranger.certificate),
    }
    leaf = mesh.leaf(str(SpiffeId.authority(TRUST_DOMAIN)))
    site.secrets.replace(Secrets(leaf.chain_pem, leaf.key_pem, ""))
    with pytest.raises(PeersFault, match="is not signed under"):
        client.fetch()


# What a pod reports


def rooted(site: Site) -> Holding:
    """Of somebody who follows."""
    roots = frozenset(one.fingerprint for one in site.authority.state.generations)
    return Holding(roots, site.authority.state.signer.fingerprint)


def test_a_pod_reports_what_it_holds_and_follows_a_rotation(site: Site) -> None:
    client = site.client()
    client.fetch(INSTANCE)
    old = rooted(site)
    told = client.report(INSTANCE, old)
    assert (told.renew, told.bundle_pem, told.again_seconds) == (False, None, 4)
    (seen,) = site.peers.all()
    assert (seen.identity, seen.kind, seen.trusts, seen.uses) == (str(CHECKOUT), "pod", old.trusts, old.uses)
    assert [seen.instance] == site.holders()

    site.authority.step(RootStaged())
    told = client.report(INSTANCE, old)
    assert (told.renew, told.bundle_pem, told.again_seconds) == (False, site.authority.bundle_pem(), 1)
    site.authority.step(AllTrustNewRoot())
    assert client.report(INSTANCE, Holding(rooted(site).trusts, old.uses)).renew
    client.fetch(INSTANCE)
    assert len(site.holders()) == 2
    told = client.report(INSTANCE, rooted(site))
    assert (told.renew, told.bundle_pem) == (False, None)
    # The certificate of before is out of use.
    assert [one.generation for one in site.ledger.held(datetime.now(UTC)) if one.holder] == [2]
    client.gone(INSTANCE)
    assert site.holders() == []
    assert site.peers.all() == ()


def test_a_pod_learns_of_a_new_root_by_which_it_verifies_the_door(site: Site) -> None:
    """Its file still has the old one alone."""
    client, stranger = site.client(), site.client()
    old = rooted(site)
    site.authority.step(RootStaged())
    assert client.report(INSTANCE, old).bundle_pem is not None
    site.authority.step(AllTrustNewRoot())
    site.show(SpiffeId.authority(TRUST_DOMAIN))
    assert client.report(INSTANCE, Holding(rooted(site).trusts, old.uses)).renew
    with pytest.raises(PeersFault, match="is not signed under"):
        stranger.report(INSTANCE, old)


def test_nobody_speaks_for_another_pod_or_another_service_account(site: Site) -> None:
    client = site.client()
    client.fetch(INSTANCE)
    client.report(INSTANCE, Holding(frozenset(), ""))
    before, holders = site.peers.all(), site.holders()
    new = {"instance": INSTANCE, "trusts": sorted(rooted(site).trusts), "uses": rooted(site).uses}
    # The same service account in another pod, and another one, under the very name that the first one uses.
    for other in (site.cluster.token(), site.cluster.token("analytics", "reports")):
        status, answer = site.ask("/v1/peers", new, f"Bearer {other}")
        assert status == 200
        assert answer["identity"]
        assert before[0] in site.peers.all()
        assert site.ask("/v1/gone", {"instance": INSTANCE}, f"Bearer {other}")[0] == 200
        assert site.peers.all() == before
        assert site.holders() == holders
    # A certificate under that name is another pod's, too.
    assert site.ask("/v1/svid", {"csr": CSR, "instance": INSTANCE}, f"Bearer {site.cluster.token()}")[0] == 200
    assert len(set(site.holders())) == 2


@pytest.mark.parametrize("path", ["/v1/peers", "/v1/gone"])
def test_who_proves_nothing_reports_nothing(site: Site, path: str) -> None:
    body = {"instance": INSTANCE, "trusts": [], "uses": ""} if path == "/v1/peers" else {"instance": INSTANCE}
    assert site.ask(path, body)[0] == 401
    assert site.ask(path, body, f"Bearer {Cluster(first=100).token()}")[0] == 401
    assert site.ask(path, body, f"Bearer {site.cluster.token(aud=['vault'])}")[0] == 401
    assert site.peers.all() == ()


@pytest.mark.parametrize(
    "change",
    [
        {"instance": "gateway"},
        {"instance": "pods-door"},
        {"instance": "pod:0123456789abcdef0123456789abcdef:" + "0" * 32},
        {"instance": "0" * 15},
        {"instance": "0" * 65},
        {"instance": 1},
        {"instance": None},
        {"identity": "spiffe://shop.example/spangate/gateway"},
        {"kind": "gateway"},
        {"met": 0},
        {"trusts": ["x"]},
        {"trusts": ["0" * 64] * 257},
        {"trusts": "0" * 64},
        {"uses": "x"},
        {"uses": None},
    ],
)
def test_a_report_of_anything_else_is_refused(site: Site, change: dict[str, Any]) -> None:
    token = f"Bearer {site.cluster.token()}"
    good = {"instance": INSTANCE, "trusts": [], "uses": ""}
    assert site.ask("/v1/peers", {**good, **change}, token)[0] == 400
    assert site.ask("/v1/gone", {"instance": INSTANCE, "x": 1} | change, token)[0] == 400
    if "instance" in change:
        assert site.ask("/v1/svid", {"csr": CSR, **change}, token)[0] == 400
    assert site.peers.all() == ()
    assert site.holders() == []


def test_a_pod_takes_no_more_than_its_share_of_names(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_shares, "NAMES_OF_POD_MAX", 2)
    client = site.client()
    nothing = Holding(frozenset(), "")
    for number in (1, 2):
        client.report(INSTANCE + str(number), nothing)
    with pytest.raises(TryAgain, match="programs of this pod have been here"):
        client.report(INSTANCE + "3", nothing)
    client.report(INSTANCE + "1", nothing)
    # Who says goodbye makes room.
    client.gone(INSTANCE + "2")
    client.report(INSTANCE + "3", nothing)
    # Another pod has its own.
    site.project()
    site.client().report(INSTANCE + "4", nothing)


def test_a_pod_that_asks_under_ever_new_names_does_not_fill_what_a_rotation_looks_through(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_shares, "NAMES_OF_POD_MAX", 2)
    client = site.client()
    for number in range(6):
        client.fetch(f"{INSTANCE}{number}")
    # Those beyond its share count as one that never reports, until they have ended.
    assert len(site.holders()) == 3
    assert "" in site.holders()
    # Their names are nobody's: neither a report nor a goodbye has to do with them.
    client.gone(f"{INSTANCE}5")
    assert len(site.holders()) == 3


@pytest.mark.parametrize("path", ["/v1/svid", "/v1/jwt"])
def test_a_pod_is_not_given_as_much_as_it_likes(site: Site, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(pod_shares, "GIVEN_AT_ONCE_MAX", 3)
    monkeypatch.setattr(pod_shares, "GIVEN_EVERY", timedelta(minutes=1))
    body: dict[str, object] = {"csr": CSR} if path == "/v1/svid" else {"audiences": ["orders"]}
    token = f"Bearer {site.cluster.token()}"
    assert [site.ask(path, body, token)[0] for _ in range(5)] == [200, 200, 200, 503, 503]
    assert len(site.store.attested()) == 3
    # Another pod of the same service account has its own share.
    assert site.ask(path, body, f"Bearer {site.cluster.token()}")[0] == 200


def test_who_is_waited_for_is_named_by_the_pod(site: Site) -> None:
    token = site.cluster.token()
    site.token_file.write_text(token)
    pod = pyjwt.decode(token, options={"verify_signature": False})["kubernetes.io"]["pod"]["uid"]
    client = site.client()
    client.fetch(INSTANCE)
    client.report(INSTANCE, Holding(frozenset(), ""))
    client.fetch(f"{INSTANCE}2")
    site.authority.step(RootStaged())
    now = datetime.now(UTC)
    found = waits(site.authority.state, site.peers.all(), site.ledger.held(now), now)
    assert [pod in one.who for one in found if str(CHECKOUT) in one.who] == [True, True]


def test_what_a_pod_was_given_is_written_down_with_the_pod_and_without_the_token(site: Site, tmp_path: Path) -> None:
    token = site.cluster.token()
    site.token_file.write_text(token)
    client = site.client()
    serial = client.fetch().serial
    jwt = pyjwt.decode(client.token(["orders"]), options={"verify_signature": False})
    pod = pyjwt.decode(token, options={"verify_signature": False})["kubernetes.io"]["pod"]["uid"]
    assert site.store.attested() == (
        (f"{serial:x}", str(CHECKOUT), pod),
        (jwt["jti"], str(CHECKOUT), pod),
    )
    for file in tmp_path.glob("authority.sqlite*"):
        assert token.rpartition(".")[2].encode() not in file.read_bytes()


def test_nobody_can_name_an_identity(site: Site) -> None:
    token = f"Bearer {site.cluster.token()}"
    for body in (
        {"csr": CSR, "identity": f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/admin"},
        {"csr": CSR, "spiffe_id": str(SpiffeId.authority(TRUST_DOMAIN))},
    ):
        assert site.ask("/v1/svid", body, token)[0] == 400
    # Nor in the signing request, whose names are not looked at.
    status, answer = site.ask("/v1/svid", {"csr": CSR}, token)
    assert (status, answer["identity"]) == (200, str(CHECKOUT))


def test_a_token_that_was_replaced_is_read_again(site: Site) -> None:
    client = site.client()
    client.fetch()
    site.cluster.rotate()
    site.publish()
    site.project()
    assert client.fetch().identity == CHECKOUT
    site.cluster.forget()
    site.publish()
    assert client.fetch().identity == CHECKOUT


@pytest.mark.parametrize("content", NO_TOKENS)
def test_a_file_that_does_not_hold_one_token_is_shown_to_nobody(site: Site, content: bytes) -> None:
    client = site.client()
    site.token_file.write_bytes(content)
    for ask in (client.fetch, lambda: client.token(("db",))):
        with pytest.raises(YourFault, match="does not hold one token") as caught:
            ask()
        assert str(site.token_file) in caught.value.message
        assert not leaks(caught.value)


def test_a_token_file_that_is_empty_missing_or_too_long_is_said(site: Site) -> None:
    client = site.client()
    for content, reason in ((b"\n", "does not hold one token"), (b"a" * (TOKEN_BYTES_MAX + 1), "is longer than")):
        site.token_file.write_bytes(content)
        with pytest.raises(YourFault, match=reason):
            client.fetch()
    site.token_file.unlink()
    with pytest.raises(YourFault, match="cannot read"):
        client.fetch()


def test_a_token_may_have_white_space_around_it(site: Site) -> None:
    site.token_file.write_text(f" {site.cluster.token()}\r\n\n")
    assert site.client().fetch().identity == CHECKOUT


def test_what_the_http_library_complains_of_is_not_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attest_client, "read_bearer", lambda _: "SECRET-1\neyJSECRET-2")
    with pytest.raises(TryAgain, match="cannot be asked") as caught:
        site.client().fetch()
    assert not leaks(caught.value)


def test_a_token_of_another_account_does_not_change_who_a_program_is(site: Site) -> None:
    client = site.client()
    client.fetch()
    site.project(account="admin")
    with pytest.raises(PeersFault, match="speaks for"):
        client.fetch()


# What it does not get


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def with_header(cluster: Cluster, header: dict[str, Any], signature: str | None = None) -> str:
    """A token of the cluster's claims under a header of one's own, signed by nobody."""
    content = f"{part(header)}.{part(cluster.claims())}"
    return f"{content}.{signature or 'AA'}"


def by_hmac(cluster: Cluster) -> str:
    kid, key = cluster.keys[-1]
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    header, claims = {"alg": "HS256", "kid": kid}, cluster.claims()
    content = f"{part(header)}.{part(claims)}"
    signature = hmac.digest(public, content.encode(), "sha256")
    return f"{content}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def now(shift: int) -> int:
    return int(time.time()) + shift


REFUSED: dict[str, tuple[Any, str]] = {
    "another issuer": (lambda c: c.token(iss="https://evil.example"), "another issuer"),
    "another audience": (lambda c: c.token(aud=["vault"]), "another audience"),
    "istiod's audience": (lambda c: c.token(aud=["istio-ca"]), "another audience"),
    "ours and istiod's audience": (lambda c: c.token(aud=[AUDIENCE, "istio-ca"]), "other audiences too"),
    "the API server's audience": (lambda c: c.token(aud=[ISSUER]), "another audience"),
    "no audience": (lambda c: c.token(aud=None), "names no audience"),
    "ended": (lambda c: c.token(iat=now(-7200), nbf=now(-7200), exp=now(-1)), "has ended"),
    "not yet": (lambda c: c.token(nbf=now(120)), "has not begun"),
    "for a year": (lambda c: c.token(exp=now(365 * 86_400)), "lives longer"),
    "without an end": (lambda c: c.token(exp=None), "when it ends"),
    "from a Secret": (
        lambda c: c.token(iss="kubernetes/serviceaccount", exp=None, iat=None, aud=None, **{"kubernetes.io": None}),
        "another issuer",
    ),
    "bound to no pod": (
        lambda c: c.token(**{"kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "checkout"}}}),
        "not bound to a pod",
    ),
    "another subject": (lambda c: c.token(sub="system:serviceaccount:shop:admin"), "not the service account"),
    "no algorithm": (lambda c: with_header(c, {"alg": "none", "kid": c.keys[-1][0]}), "algorithm is none of"),
    "HMAC with the public key": (by_hmac, "algorithm is none of"),
    "no key": (lambda c: with_header(c, {"alg": "RS256"}), "names no key"),
    "a key that nobody has": (lambda c: with_header(c, {"alg": "RS256", "kid": "x"}), "no key of that id"),
    "a key that is a path": (lambda c: with_header(c, {"alg": "RS256", "kid": "../../etc/passwd"}), "names no key"),
    "a key that is SQL": (lambda c: with_header(c, {"alg": "RS256", "kid": "' OR 1=1 --"}), "names no key"),
    "a key of its own": (lambda c: with_header(c, {"alg": "RS256", "kid": "key-0", "jwk": {}}), "member `jwk`"),
    "a key from elsewhere": (lambda c: with_header(c, {"alg": "RS256", "kid": "key-0", "jku": "x"}), "member `jku`"),
    "another cluster's": (lambda c: Cluster(first=100).token(), "signature is wrong"),
    "cut off": (lambda c: c.token()[:-10], "signature"),
    "no token at all": (lambda c: "x", "three parts"),
    "an empty one": (lambda c: "", "shows no service account token|three parts"),
    "too long": (lambda c: "a" * (TOKEN_CHARACTERS_MAX + 1), "longer than"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("path", ["/v1/svid", "/v1/jwt"])
def test_a_token_that_is_not_good_gets_nothing_and_its_reason(site: Site, path: str, name: str) -> None:
    make, reason = REFUSED[name]
    token = make(site.cluster)
    body = {"csr": CSR} if path == "/v1/svid" else {"audiences": ["orders"]}
    status, answer = site.ask(path, body, f"Bearer {token}")
    assert status == 401, answer
    assert any(one in answer["error"] for one in reason.split("|")), answer
    # The answer holds nothing of the token.
    assert len(token) < 8 or token[-8:] not in answer["error"]
    assert site.store.attested() == ()


def test_one_token_in_one_header_is_shown(site: Site) -> None:
    token = site.cluster.token()
    assert site.ask("/v1/svid", {"csr": CSR})[0] == 401
    assert site.ask("/v1/svid", {"csr": CSR}, f"Bearer {token}", f"Bearer {token}")[0] == 401
    assert site.ask("/v1/svid", {"csr": CSR}, f"Basic {token}")[0] == 401
    assert site.ask("/v1/svid", {"csr": CSR}, f"Bearer {token}, Bearer {token}")[0] == 401
    assert site.ask(f"/v1/svid?access_token={token}", {"csr": CSR})[0] == 401
    assert site.ask("/v1/svid", {"csr": CSR}, f"bearer {token}")[0] == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/svid", b""),
        ("/v1/svid", {}),
        ("/v1/svid", {"csr": 1}),
        ("/v1/svid", {"csr": "x"}),
        ("/v1/svid", b"[" * 10_000),
        ("/v1/jwt", {}),
        ("/v1/jwt", {"audiences": "orders"}),
        ("/v1/jwt", {"audiences": []}),
        ("/v1/jwt", {"audiences": [1]}),
        ("/v1/jwt", {"audiences": ["a", "a"]}),
        ("/v1/jwt", {"audiences": ["a\n"]}),
    ],
)
def test_a_request_that_asks_nothing_that_there_is_is_bad(site: Site, path: str, body: Any) -> None:
    status, answer = site.ask(path, body, f"Bearer {site.cluster.token()}")
    assert status == 400, answer


def test_a_body_has_a_bound_and_methods_are_what_they_are(site: Site) -> None:
    token = f"Bearer {site.cluster.token()}"
    assert site.ask("/v1/svid", b"x" * (BODY_BYTES_MAX + 1), token)[0] == 413
    assert site.ask("/v1/svid", b"", token, method="GET")[0] == 405
    assert site.ask("/sign", {"identity": str(CHECKOUT), "csr": CSR}, token)[0] == 404


def test_an_authority_that_cannot_write_down_gives_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise TryAgain("the disk is full")

    monkeypatch.setattr(site.store, "record_attested", full)
    with pytest.raises(TryAgain, match="the disk is full"):
        site.client().fetch()


# From where

POD, THIEF = "127.0.0.1", "127.0.0.2"


def test_a_pod_shows_its_token_again_and_again(site: Site) -> None:
    token = site.cluster.token()
    assert [site.svid(token, POD)[0] for _ in range(3)] == [200] * 3
    assert site.ask("/v1/jwt", {"audiences": ["orders"]}, f"Bearer {token}", source=POD)[0] == 200
    assert site.told == []


@pytest.mark.parametrize("path", ["/v1/svid", "/v1/jwt"])
def test_a_token_that_is_shown_from_elsewhere_gets_nothing_and_it_is_told_and_written_down(
    site: Site, path: str
) -> None:
    token = site.cluster.token()
    pod = pyjwt.decode(token, options={"verify_signature": False})["kubernetes.io"]["pod"]["uid"]
    assert site.svid(token, POD)[0] == 200
    body = {"csr": CSR} if path == "/v1/svid" else {"audiences": ["orders"]}
    for _ in range(2):
        status, answer = site.ask(path, body, f"Bearer {token}", source=THIEF)
        assert (status, answer["error"]) == (401, "the service account token was first shown from another address")
        assert "delete it" in answer["help"]
        # Not from where: that is nothing for a thief.
        assert POD not in json.dumps(answer)
    assert site.store.replayed() == ((str(CHECKOUT), pod, POD, THIEF),)
    assert site.told[0] == (
        f"a token of `{CHECKOUT}` (pod {pod}) was first shown from {POD} and now from {THIEF}: refused; who of the two "
        "is the pod?"
    )
    assert len(site.store.attested()) == 1
    # The pod goes on.
    assert site.svid(token, POD)[0] == 200


def test_a_thief_who_is_first_locks_the_pod_out_which_is_told_what_to_do(site: Site) -> None:
    site.project()
    assert site.svid(site.token_file.read_text(), THIEF)[0] == 200
    with pytest.raises(YourFault, match="first shown from another address") as caught:
        site.client().fetch()
    assert "delete it, so that it gets a new token" in str(caught.value.help)
    assert f"from {THIEF} and now from {POD}" in site.told[0]
    # Which it then has.
    site.project()
    assert site.client().fetch().identity == CHECKOUT


def test_headers_do_not_say_from_where(site: Site) -> None:
    token = site.cluster.token()
    assert site.svid(token, POD)[0] == 200
    for name in ("x-forwarded-for", "forwarded", "x-real-ip"):
        assert site.svid(token, THIEF, **{name: f"for={POD}" if name == "forwarded" else POD})[0] == 401
        assert site.svid(token, POD, **{name: THIEF})[0] == 200


def test_what_is_refused_for_another_reason_binds_nothing(site: Site) -> None:
    token = site.cluster.token()
    content, _, signature = token.rpartition(".")
    forged = f"{content}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    assert site.svid(forged, THIEF)[0] == 401
    assert site.svid(token, POD)[0] == 200


def test_an_authority_that_is_started_again_remembers(site: Site, tmp_path: Path) -> None:
    token = site.cluster.token()
    assert site.svid(token, POD)[0] == 200
    site.server.stop()
    site.store.close()
    again = Site(tmp_path, SpiffeId.authority(TRUST_DOMAIN))
    with again.server:
        assert again.svid(token, THIEF)[0] == 401
        assert again.svid(token, POD)[0] == 200


def test_an_authority_that_cannot_write_down_from_where_gives_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority_store, "SHOWN_MAX", 1)
    first, second = site.cluster.token(), site.cluster.token()
    assert site.svid(first)[0] == 200
    status, answer = site.svid(second)
    assert (status, site.svid(first)[0]) == (503, 200)
    assert "no other one is taken just now" in answer["error"]


def test_where_a_proxy_changes_addresses_tokens_are_taken_from_any(tmp_path: Path) -> None:
    site = Site(tmp_path, SpiffeId.authority(TRUST_DOMAIN), bound=False)
    with site.server:
        token = site.cluster.token()
        assert [site.svid(token, source)[0] for source in (POD, THIEF)] == [200, 200]


# Whom a client takes for the authority


def test_a_workload_is_not_the_authority(tmp_path: Path) -> None:
    site = Site(tmp_path, CHECKOUT)
    with site.server, pytest.raises(PeersFault, match="does not say that it is"):
        site.client().fetch()


def test_another_authority_is_not_this_one(site: Site, tmp_path: Path) -> None:
    site.bundle_file.write_text(Authority.create(TRUST_DOMAIN, SystemClock(), SystemKeys()).bundle_pem())
    with pytest.raises(PeersFault, match="is not signed under"):
        site.client().fetch()


def test_what_is_no_bundle_of_one_trust_domain_is_refused(site: Site) -> None:
    other = Authority.create("other.example", SystemClock(), SystemKeys()).bundle_pem()
    for text in ("", "x", site.authority.bundle_pem() + other):
        site.bundle_file.write_text(text)
        with pytest.raises(YourFault, match="bundle"):
            site.client()


@pytest.mark.parametrize("url", ["http://x", "https://", "https://x/path", "https://x?y", "x:1"])
def test_the_authority_is_at_an_https_url(site: Site, url: str) -> None:
    with pytest.raises(YourFault, match="not an https URL"):
        AttestClient(url, site.bundle_file, site.token_file, SystemKeys())


def test_a_renewed_certificate_is_shown_to_who_comes_then(site: Site) -> None:
    def shown() -> bytes:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", site.port), 10) as raw, context.wrap_socket(raw) as tls:
            return tls.getpeercert(binary_form=True) or b""

    before = shown()
    assert before == shown()
    site.show(SpiffeId.authority(TRUST_DOMAIN))
    assert shown() != before


def test_who_says_nothing_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_server, "CONNECTION_SECONDS_MAX", 0.2)
    site = Site(tmp_path, SpiffeId.authority(TRUST_DOMAIN))
    with site.server:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", site.port), 10) as raw, context.wrap_socket(raw) as tls:
            tls.sendall(b"POST /v1/svid HTTP/1.1\r\n")
            with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
                assert tls.recv(1) == b""


def test_connections_that_never_speak_tls_do_not_shut_others_out(tmp_path: Path) -> None:
    site = Site(tmp_path, SpiffeId.authority(TRUST_DOMAIN), connections_max=8)
    with site.server, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", site.port), 10)) for _ in range(20)]
        assert site.client().fetch().identity == CHECKOUT
        # The first ones had to go.
        silent[0].settimeout(10)
        with contextlib.suppress(ConnectionError):
            assert silent[0].recv(1) == b""


@pytest.mark.parametrize("address", ["8443", "localhost:8443", "127.0.0.1:x", "127.0.0.1:70000", "1.2.3:4:5"])
def test_an_address_is_written_in_numbers(address: str) -> None:
    with pytest.raises(YourFault):
        tcp_listener(address)
