"""The authority's public documents over HTTP, read by somebody else's software."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import jwt as pyjwt
import pytest
from cryptography import x509

from fakes.clock import FakeClock
from fakes.keys import FakeKeys
from fakes.tokens import jwt_authority
from spangate.adapters.clock import SystemClock
from spangate.adapters.oidc_door import LoopbackServer, loopback_listener, oidc_app
from spangate.authority.ca import Authority
from spangate.authority.jwt_svid import JwtAuthority
from spangate.errors import TryAgain
from spangate.model.identity import SpiffeId

CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")


class Door:
    def __init__(self, port: int, tokens: JwtAuthority, authority: Authority, read: list[str]) -> None:
        self.port, self.tokens, self.authority, self.read = port, tokens, authority, read

    def ask(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        return json.loads(self.ask(path)[2])


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    listener = loopback_listener(0)
    port = listener.getsockname()[1]
    tokens = jwt_authority(SystemClock(), issuer=f"http://127.0.0.1:{port}")
    authority = Authority.create("shop.example", FakeClock(), FakeKeys())
    read: list[str] = []
    server = LoopbackServer(oidc_app(tokens, authority.roots, lambda: read.append("read")), listener, name="keys")
    server.start()
    yield Door(port, tokens, authority, read)
    server.stop()
    server.stop()


def test_an_independent_validator_finds_the_keys_and_takes_the_token(door: Door) -> None:
    issued = door.tokens.sign(CHECKOUT, ("orders",))
    found = door.json("/.well-known/openid-configuration")
    assert found["issuer"] == door.tokens.issuer
    key = pyjwt.PyJWKClient(found["jwks_uri"]).get_signing_key_from_jwt(issued.token)
    claims = pyjwt.decode(issued.token, key, algorithms=["ES256"], audience="orders", issuer=found["issuer"])
    assert claims["sub"] == str(CHECKOUT)


def test_the_discovery_document_has_what_openid_requires(door: Door) -> None:
    required = {
        "issuer",
        "jwks_uri",
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
    }
    found = door.json("/.well-known/openid-configuration")
    assert required <= set(found)
    # No code can be had, so there need be no token endpoint: left out, `grant_types_supported` would say otherwise.
    assert found["grant_types_supported"] == ["implicit"]


def test_the_spiffe_bundle_holds_roots_and_keys(door: Door) -> None:
    door.read.clear()
    keys = door.json("/bundle")["keys"]
    # A rotation has to know of readers; of the keys of tokens it is no business.
    door.json("/keys")
    assert door.read == ["read"]
    assert [key["use"] for key in keys] == ["jwt-svid", "x509-svid"]
    (encoded,) = keys[1]["x5c"]
    pem = f"-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n"
    assert x509.load_pem_x509_certificate(pem.encode()) == door.authority.roots()[0]


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys", "/bundle"])
def test_nothing_private_is_published_and_answers_say_how_long_they_keep(door: Door, path: str) -> None:
    status, headers, body = door.ask(path)
    assert status == 200
    assert "json" in headers["content-type"]
    assert headers["cache-control"].startswith("public, max-age=")
    assert b'"d"' not in body
    assert door.ask(path, "HEAD")[0] == 200
    assert door.ask(path, "POST")[0] == 405


@pytest.mark.parametrize("path", ["/", "/token", "/sign", "/keys/", "/../keys", "/keys%00"])
def test_there_is_nothing_else(door: Door, path: str) -> None:
    assert door.ask(path)[0] == 404


def test_a_port_that_is_taken_is_an_error(door: Door) -> None:
    with pytest.raises(TryAgain, match="cannot listen"):
        loopback_listener(door.port)
