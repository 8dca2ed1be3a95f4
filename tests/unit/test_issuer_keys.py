"""Keys of issuers on loopback, by their discovery documents."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlencode

import pytest

from fakes.clock import FakeClock
from fakes.google import SUBJECT, TRUST_DOMAIN, FakeIssuer, exchange_fields
from fakes.tokens import jwt_authority
from spangate.adapters import issuer_keys
from spangate.adapters.issuer_keys import IssuerKeys
from spangate.adapters.oidc_door import LoopbackServer, loopback_listener, oidc_app
from spangate.model.google import GoogleFederation
from spangate.model.identity import SpiffeId
from spangate.standin.access_token import TokenMint
from spangate.standin.asked import FORM, Asked
from spangate.standin.config import Oidc, parse_config
from spangate.standin.derive import standin_config_for
from spangate.standin.service import StandIn


class Documents:
    def __init__(self) -> None:
        self.at: dict[str, Any] = {}
        self.asked: list[str] = []
        self.url = ""


@pytest.fixture
def documents() -> Iterator[Documents]:
    found = Documents()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            value = found.at.get(self.path)
            if isinstance(value, str):
                self.send_response(302)
                self.send_header("location", value)
                self.end_headers()
                return
            data = b"x" * 300_000 if value == 5 else json.dumps(value).encode()
            self.send_response(200 if value is not None else 404)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def issuer() -> FakeIssuer:
    return FakeIssuer()


def publish(documents: Documents, issuer: str, jwks_uri: str, jwks: str) -> None:
    documents.at["/.well-known/openid-configuration"] = {"issuer": issuer, "jwks_uri": jwks_uri}
    documents.at["/keys"] = json.loads(jwks)


def ids(keys: IssuerKeys, oidc: Oidc, again: bool = False) -> list[str] | None:
    found = keys(oidc, again)
    return None if found is None else [key["kid"] for key in found]


def test_an_issuer_on_loopback_is_asked_and_its_keys_are_kept(documents: Documents, issuer: FakeIssuer) -> None:
    publish(documents, documents.url, f"{documents.url}/keys", issuer.jwks())
    keys, oidc = IssuerKeys(), Oidc(documents.url)
    assert ids(keys, oidc) == ids(keys, oidc) == ["es", "rs"]
    assert len(documents.asked) == 2


def test_a_key_that_is_missing_is_asked_for_again_but_not_in_a_storm(
    documents: Documents, issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(documents, documents.url, f"{documents.url}/keys", issuer.jwks())
    keys, oidc = IssuerKeys(), Oidc(documents.url)
    ids(keys, oidc)
    documents.at["/keys"]["keys"][0]["kid"] = "new"
    assert ids(keys, oidc, again=True) == ["es", "rs"]
    monkeypatch.setattr(issuer_keys, "AGAIN_SECONDS", 0.0)
    assert ids(keys, oidc, again=True) == ["new", "rs"]


def test_an_issuer_with_another_name_is_asked_where_it_really_is(documents: Documents, issuer: FakeIssuer) -> None:
    publish(documents, "https://id.shop.example", "https://id.shop.example/keys", issuer.jwks())
    assert ids(IssuerKeys(), Oidc("https://id.shop.example", keys_at=documents.url)) == ["es", "rs"]


def test_configured_keys_are_the_keys(documents: Documents) -> None:
    assert IssuerKeys()(Oidc(documents.url, keys=()), True) == ()
    assert documents.asked == []


def test_what_our_own_authority_publishes_is_found_and_its_tokens_are_exchanged() -> None:
    listener = loopback_listener(0)
    at = f"http://127.0.0.1:{listener.getsockname()[1]}"
    clock = FakeClock()
    authority = jwt_authority(clock, TRUST_DOMAIN, at)
    server = LoopbackServer(oidc_app(authority, lambda: ()), listener, name="public keys")
    server.start()
    try:
        federation = GoogleFederation("123456789012", "mesh", "spangate")
        config = parse_config(json.dumps(standin_config_for(federation, TRUST_DOMAIN, issuer=at)))
        standin = StandIn(config, TokenMint(b"k" * 32), clock.now, lambda: "x", IssuerKeys())
        token = authority.sign(SpiffeId.parse(SUBJECT), (federation.token_audience,)).token
        answer = standin.answer(Asked("POST", "/v1/token", FORM, body=urlencode(exchange_fields(token)).encode()))
        assert (answer.status, answer.body["expires_in"]) == (200, 300)
    finally:
        server.stop()


@pytest.mark.parametrize("issuer_url", ["https://id.shop.example", "http://127.0.0.1.evil.example", "http://10.0.0.1"])
def test_nothing_but_loopback_is_asked(issuer_url: str) -> None:
    assert ids(IssuerKeys(), Oidc(issuer_url)) is None


@pytest.mark.parametrize("kind", ["another issuer", "keys elsewhere", "redirect", "endless", "no object", "nothing"])
def test_what_is_wrong_is_no_key(documents: Documents, issuer: FakeIssuer, kind: str) -> None:
    publish(documents, documents.url, f"{documents.url}/keys", issuer.jwks())
    at = documents.at
    if kind == "another issuer":
        at["/.well-known/openid-configuration"]["issuer"] = "https://id.evil.example"
    elif kind == "keys elsewhere":
        at["/.well-known/openid-configuration"]["jwks_uri"] = "https://id.evil.example/keys"
    elif kind == "redirect":
        at["/moved"], at["/keys"] = at["/keys"], "/moved"
    elif kind == "endless":
        at["/keys"] = 5
    elif kind == "no object":
        at["/keys"] = []
    else:
        at.clear()
    assert ids(IssuerKeys(), Oidc(documents.url)) is None
