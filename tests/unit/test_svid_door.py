"""The authority's door: who gets a certificate through it, and what everybody else is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fakes.clock import NOON, FakeClock
from fakes.http import get, post
from fakes.keys import FakeKeys
from fakes.mesh_ca import MeshCa, pem
from fakes.tokens import jwt_authority
from spangate.adapters.bundle_answer import read_bundles
from spangate.adapters.keys import request_pem
from spangate.adapters.svid_client import SvidClient, verified
from spangate.adapters.svid_door import BODY_BYTES_MAX, own_app, svid_app
from spangate.adapters.unix_server import UnixServer
from spangate.authority.anchors import DomainBundle
from spangate.authority.ca import Authority
from spangate.authority.federation import known_roots
from spangate.authority.jwt_svid import JwtAuthority
from spangate.authority.template import INTERMEDIATE_LIFETIME
from spangate.errors import PeersFault, TryAgain, YourFault
from spangate.model.identity import SpiffeId

CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")
GATEWAY = SpiffeId.parse("spiffe://shop.example/ns/spangate/sa/gateway")
MESH = MeshCa("cluster.local")
ROOT, LEAF = pem(MESH.certificate), MESH.leaf("spiffe://cluster.local/a").chain_pem
REQUEST = request_pem(ec.generate_private_key(ec.SECP256R1()))


@dataclass
class Door:
    path: Path
    clock: FakeClock
    authority: Authority
    tokens: JwtAuthority

    def sign(self, body: object) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, answer = post(self.path, "/sign", content)
        return status, json.loads(answer)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    path = tmp_path_factory.mktemp("d") / "a.sock"
    clock = FakeClock()
    authority = Authority.create("shop.example", clock, FakeKeys())
    tokens = jwt_authority(clock)
    with UnixServer(svid_app(authority, tokens, reserved=[GATEWAY]), path, name="authority"):
        yield Door(path, clock, authority, tokens)


@pytest.fixture
def door(running: Door) -> Door:
    running.clock.set(NOON)
    return running


def test_a_workload_gets_a_certificate_for_a_key_that_never_left_it(door: Door) -> None:
    svid = SvidClient(door.path, FakeKeys()).fetch(CHECKOUT)
    assert svid.identity == CHECKOUT
    assert svid.not_after == door.clock.now() + timedelta(hours=1)
    assert svid.secrets.bundle_pem == door.authority.bundle_pem()
    assert svid.secrets.key_pem.startswith("-----BEGIN PRIVATE KEY-----")
    assert "PRIVATE KEY" not in repr(svid)


def test_a_workload_gets_a_token_for_its_audience(door: Door) -> None:
    token, expires_at = SvidClient(door.path, FakeKeys()).token(CHECKOUT, ["orders"])
    assert door.tokens.validate(token, "orders").identity == CHECKOUT
    assert expires_at == "2030-01-02T12:05:00Z"
    assert SvidClient(door.path, FakeKeys()).keys() == door.tokens.jwks()
    token, expires_at = SvidClient(door.path, FakeKeys()).token(CHECKOUT, ["orders"], 3600)
    assert expires_at == "2030-01-02T13:00:00Z"


@pytest.mark.parametrize("seconds", [-1, 3601, True, "60", 9.5, None])
def test_a_token_lives_an_hour_at_most(door: Door, seconds: object) -> None:
    asked = {"identity": str(CHECKOUT), "audiences": ["orders"], "lifetime_seconds": seconds}
    assert post(door.path, "/token", json.dumps(asked).encode())[0] == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"identity": str(GATEWAY), "audiences": ["a"]}, 403),
        ({"identity": "spiffe://bank.example/ns/a/sa/b", "audiences": ["a"]}, 403),
        ({"identity": "spiffe://shop.example/../x", "audiences": ["a"]}, 400),
        ({"identity": str(CHECKOUT), "audiences": []}, 400),
        ({"identity": str(CHECKOUT), "audiences": "a"}, 400),
        ({"identity": str(CHECKOUT), "audiences": [1]}, 400),
        ({"identity": str(CHECKOUT), "audiences": ["a"], "ttl": 9}, 400),
        ({"identity": str(CHECKOUT)}, 400),
        ([], 400),
    ],
)
def test_a_token_is_refused(door: Door, body: object, status: int) -> None:
    answered, answer = post(door.path, "/token", json.dumps(body).encode())
    assert answered == status
    assert b'token"' not in answer


def test_what_others_are_verified_by_is_told_of_all_trust_domains(tmp_path: Path) -> None:
    clock, mesh = FakeClock(), MeshCa("cluster.local")
    authority, tokens = Authority.create("shop.example", clock, FakeKeys()), jwt_authority(clock)
    others = [DomainBundle(("cluster.local", "old.example"), (mesh.certificate,)), DomainBundle(("b.example",), ())]
    app = svid_app(authority, tokens, roots=known_roots(authority, lambda: others))
    with UnixServer(app, tmp_path / "a.sock", name="authority"):
        found = SvidClient(tmp_path / "a.sock", FakeKeys()).bundles("shop.example")
        with pytest.raises(PeersFault, match="no roots of its own trust domain"):
            SvidClient(tmp_path / "a.sock", FakeKeys()).bundles("b.example")
    roots = pem(mesh.certificate)
    own = authority.bundle_pem()
    assert found.x509_pem == {"shop.example": own, "cluster.local": roots, "old.example": roots}
    assert found.jwks == {"shop.example": {"keys": tokens.spiffe_bundle()["keys"]}}


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({}, "no `keys`"),
        ({"keys": {"keys": ["x"]}}, "no `keys`"),
        ({"keys": {"keys": []}}, "no roots of its own"),
        ({"keys": {"keys": []}, "roots": []}, "no roots of its own"),
        ({"keys": {"keys": []}, "roots": {"shop.example": 1}}, "cannot be used"),
        ({"keys": {"keys": []}, "roots": {"shop.example": "x"}}, "cannot be used"),
        ({"keys": {"keys": []}, "roots": {"shop.example": "\u00e9"}}, "cannot be used"),
        ({"keys": {"keys": []}, "roots": {"shop.example": ROOT, "SHOP": ROOT}}, "cannot be used"),
        ({"keys": {"keys": []}, "roots": {"shop.example": ROOT, "b.example": LEAF}}, "cannot be used"),
    ],
)
def test_bundles_in_which_anything_is_wrong_are_not_taken(answer: dict[str, object], problem: str) -> None:
    with pytest.raises(PeersFault, match=problem):
        read_bundles(answer, "shop.example")


def test_the_bundle_is_there_for_everybody_behind_the_door(door: Door) -> None:
    assert get(door.path, "/bundle") == (200, door.authority.bundle_pem().encode())


@pytest.mark.parametrize("identity", [GATEWAY, SpiffeId.parse("spiffe://bank.example/ns/a/sa/b")])
def test_a_reserved_identity_and_one_of_another_trust_domain_are_refused(door: Door, identity: SpiffeId) -> None:
    with pytest.raises(YourFault, match=f"`{identity}` is"):
        SvidClient(door.path, FakeKeys()).fetch(identity)
    status, _ = door.sign({"identity": str(identity), "csr": REQUEST})
    assert status == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 30_000,
        {"identity": str(CHECKOUT)},
        {"identity": str(CHECKOUT), "csr": None},
        {"identity": [str(CHECKOUT)], "csr": REQUEST},
        {"identity": str(CHECKOUT), "csr": REQUEST, "dns_names": ["bank.example"]},
    ],
)
def test_what_is_not_exactly_an_identity_and_a_request_is_refused(door: Door, body: object) -> None:
    assert door.sign(body) == (
        400,
        {"error": "the request is not a JSON object of the two texts `identity` and `csr`"},
    )


@pytest.mark.parametrize("text", ["", "checkout", "spiffe://shop.example", "spiffe://shop.example/a\n", "\ud800"])
def test_what_is_no_spiffe_id_is_refused(door: Door, text: str) -> None:
    status, answer = door.sign({"identity": text, "csr": REQUEST})
    assert status == 400
    assert answer["error"].startswith("the asked identity is not a SPIFFE ID: ")


def test_what_is_no_signing_request_is_refused_with_the_authority_s_sentence(door: Door) -> None:
    status, answer = door.sign({"identity": str(CHECKOUT), "csr": "hello"})
    assert (status, answer["error"]) == (
        400,
        "the signing request is not a PEM PKCS #10 request of a supported kind",
    )


def test_a_body_that_is_too_long_is_refused(door: Door) -> None:
    status, answer = door.sign(b" " * (BODY_BYTES_MAX + 1))
    assert (status, answer["error"]) == (413, f"the request is longer than {BODY_BYTES_MAX} bytes")


def test_the_longest_good_request_fits(door: Door) -> None:
    status, _ = door.sign({"identity": f"spiffe://shop.example/{'x' * 2020}", "csr": REQUEST + "\n" * 15_000})
    assert status == 200


def test_an_authority_at_its_end_says_not_now_and_what_to_do(door: Door) -> None:
    door.clock.advance(INTERMEDIATE_LIFETIME)
    with pytest.raises(TryAgain, match="the authority ends at") as caught:
        SvidClient(door.path, FakeKeys()).fetch(CHECKOUT)
    assert caught.value.help == "start `spangate up` again: it makes a new authority"


def test_other_methods_and_paths_are_not_there(door: Door) -> None:
    assert get(door.path, "/sign")[0] == 405
    assert get(door.path, "/")[0] == 404
    assert post(door.path, "/bundle", b"")[0] == 405


def test_without_an_authority_the_asker_is_told_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(TryAgain, match="no authority listens at") as caught:
        SvidClient(tmp_path / "a.sock", FakeKeys()).fetch(CHECKOUT)
    assert caught.value.help == "is `spangate up` running?"


def test_an_asker_takes_no_certificate_for_another_key_identity_or_root() -> None:
    authority, other = (Authority.create("shop.example", FakeClock(), FakeKeys()) for _ in range(2))
    key = FakeKeys().new_key()
    chain = authority.sign(request_pem(key), CHECKOUT).chain_pem
    assert verified(CHECKOUT, key, chain, authority.bundle_pem()).identity == CHECKOUT
    with pytest.raises(PeersFault, match="for another key"):
        verified(CHECKOUT, FakeKeys().new_key(), chain, authority.bundle_pem())
    with pytest.raises(PeersFault, match="is not for"):
        verified(GATEWAY, key, chain, authority.bundle_pem())
    with pytest.raises(PeersFault, match="does not lead to its own bundle"):
        verified(CHECKOUT, key, chain, other.bundle_pem())
    with pytest.raises(PeersFault, match="cannot be read"):
        verified(CHECKOUT, key, "hello", authority.bundle_pem())


@pytest.mark.parametrize(
    ("status", "content", "error", "sentence"),
    [
        (200, b"{}", PeersFault, "the authority's answer has no `chain`"),
        (200, b"hello", PeersFault, "status 200 and no explanation"),
        (500, b"hello", PeersFault, "status 500 and no explanation"),
        (500, b'{"error": "defect"}', PeersFault, "defect"),
        (503, b'{"error": "later"}', TryAgain, "later"),
        (200, b"[" * 30_000, PeersFault, "status 200 and no explanation"),
        (200, b" " * 100_000, PeersFault, "status 200 and no explanation"),
    ],
)
def test_an_answer_that_makes_no_sense_is_the_authority_s_fault(
    tmp_path_factory: pytest.TempPathFactory, status: int, content: bytes, error: type[Exception], sentence: str
) -> None:
    async def nonsense(scope: object, receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": content})

    path = tmp_path_factory.mktemp("d") / "a.sock"
    with UnixServer(nonsense, path), pytest.raises(error, match=sentence):
        SvidClient(path, FakeKeys()).fetch(CHECKOUT)


def test_the_own_door_signs_spangates_own_identities_with_their_names_and_nothing_else(
    door: Door, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("o") / "o.sock"
    with UnixServer(own_app(door.authority, {GATEWAY: ("localhost",)}), path, name="own"):
        svid = SvidClient(path, FakeKeys()).fetch(GATEWAY)
        leaf = x509.load_pem_x509_certificates(svid.secrets.chain_pem.encode())[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost"]
        for identity in (str(CHECKOUT), "spiffe://other.example/ns/spangate/sa/gateway", "nonsense"):
            status, _ = post(path, "/sign", json.dumps({"identity": identity, "csr": REQUEST}).encode())
            assert status in (400, 403)
        for target in ("/token", "/keys", "/bundle"):
            assert post(path, target, b"{}")[0] == 404
