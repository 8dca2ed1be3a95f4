"""An issuer of tokens, and the stand-in for Google with a provider for it. PyJWT signs, which the stand-in has not."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fakes.clock import FakeClock
from spangate.model.google import CLOUD_SCOPE
from spangate.standin.access_token import TokenMint
from spangate.standin.asked import FORM, Asked
from spangate.standin.config import parse_config
from spangate.standin.roles import TOKEN_CREATOR, WORKLOAD_IDENTITY_USER
from spangate.standin.service import StandIn
from spangate.standin.sts import ACCESS_TOKEN, EXCHANGE

ISSUER = "https://id.shop.example"
POOL = "projects/123456789012/locations/global/workloadIdentityPools/mesh"
PROVIDER = f"{POOL}/providers/spangate"
AUDIENCE = f"//iam.googleapis.com/{PROVIDER}"
X509_AUDIENCE = f"{AUDIENCE}-x509"
TRUST_DOMAIN = "shop.example"
SUBJECT = f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/checkout"
MAPPED = "ns/shop/sa/checkout"
PRINCIPAL = f"principal://iam.googleapis.com/{POOL}/subject/{MAPPED}"
ACCOUNT = "spanner-user@shop-project.iam.gserviceaccount.com"
UNBOUND = "nobody-here@shop-project.iam.gserviceaccount.com"
FIRST = "first-delegate@shop-project.iam.gserviceaccount.com"
LAST = "last-account@shop-project.iam.gserviceaccount.com"
JWT = "urn:ietf:params:oauth:token-type:jwt"


def number(value: int, length: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes(length, "big")).rstrip(b"=").decode()


class FakeIssuer:
    """Two keys: `es` on P-256 and `rs`, RSA of 2048 bits."""

    def __init__(self, url: str = ISSUER) -> None:
        self.url = url
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.rsa = rsa.generate_private_key(65537, 2048)

    def jwks(self) -> str:
        point = self.ec.public_key().public_numbers()
        key = self.rsa.public_key().public_numbers()
        return json.dumps(
            {
                "keys": [
                    {
                        "kty": "EC",
                        "crv": "P-256",
                        "alg": "ES256",
                        "use": "sig",
                        "kid": "es",
                        "x": number(point.x, 32),
                        "y": number(point.y, 32),
                    },
                    {
                        "kty": "RSA",
                        "alg": "RS256",
                        "use": "sig",
                        "kid": "rs",
                        "n": number(key.n, 256),
                        "e": number(key.e, 3),
                    },
                ]
            }
        )

    def claims(self, now: datetime, **changes: Any) -> dict[str, Any]:
        """Good ones, valid for five minutes; a claim that is changed to None is left out."""
        moment = int(now.timestamp())
        claims: dict[str, Any] = {
            "iss": self.url,
            "sub": SUBJECT,
            "aud": f"https:{AUDIENCE}",
            "iat": moment,
            "exp": moment + 300,
            **changes,
        }
        return {key: value for key, value in claims.items() if value is not None}

    def sign(self, claims: Mapping[str, Any], algorithm: str = "ES256", **headers: Any) -> str:
        key: Any = self.ec if algorithm == "ES256" else self.rsa
        named = {"kid": "es" if algorithm == "ES256" else "rs", **headers}
        return jwt.encode(dict(claims), key, algorithm=algorithm, headers=named)

    def token(self, now: datetime, **changes: Any) -> str:
        return self.sign(self.claims(now, **changes))


def provider(issuer: FakeIssuer, **changes: Any) -> dict[str, Any]:
    claim = "assertion.sub"
    return {
        "name": "spangate",
        "attributeMapping": {
            "google.subject": f"{claim}.extract('spiffe://{TRUST_DOMAIN}/{{id}}')",
            "google.groups": "'groups' in assertion ? assertion.groups : []",
            "attribute.spiffe_id": claim,
        },
        "attributeCondition": f"{claim}.startsWith('spiffe://{TRUST_DOMAIN}/')",
        "oidc": {"issuerUri": issuer.url, "jwksJson": issuer.jwks()},
        **changes,
    }


def x509_provider(*anchors: str) -> dict[str, Any]:
    claim = "assertion.san.uri"
    return {
        "name": "spangate-x509",
        "attributeMapping": {
            "google.subject": f"{claim}.extract('spiffe://{TRUST_DOMAIN}/{{id}}')",
            "attribute.spiffe_id": claim,
        },
        "attributeCondition": f"{claim}.startsWith('spiffe://{TRUST_DOMAIN}/')",
        "x509": {"trustStore": {"trustAnchors": [{"pemCertificate": pem} for pem in anchors]}},
    }


def configuration(*providers: Mapping[str, Any], **pool: Any) -> dict[str, Any]:
    """One pool with `providers`; an account for one identity, and a chain of delegates."""
    return {
        "pools": [{"name": POOL, "providers": list(providers), **pool}],
        "serviceAccounts": [
            {"email": ACCOUNT, "bindings": [{"role": WORKLOAD_IDENTITY_USER, "members": [PRINCIPAL]}]},
            {"email": UNBOUND, "bindings": []},
            {"email": FIRST, "bindings": [{"role": TOKEN_CREATOR, "members": [PRINCIPAL]}]},
            {"email": LAST, "bindings": [{"role": TOKEN_CREATOR, "members": [f"serviceAccount:{FIRST}"]}]},
        ],
    }


class FakeGoogle:
    """The stand-in without its door, on a clock of the test's."""

    def __init__(self, issuer: FakeIssuer, config: Mapping[str, Any] | None = None) -> None:
        self.issuer = issuer
        self.clock = FakeClock()
        self._numbers = iter(range(10**9))
        self.standin = StandIn(
            parse_config(json.dumps(config or configuration(provider(issuer)))),
            TokenMint(b"k" * 32),
            self.clock.now,
            lambda: str(next(self._numbers)),
            lambda oidc, _: oidc.keys,
        )

    def configure(self, config: Mapping[str, Any]) -> None:
        self.standin.config = parse_config(json.dumps(config))

    def token(self, **changes: Any) -> str:
        """A subject token that is good by this clock."""
        return self.issuer.token(self.clock.now(), **changes)

    def exchange(self, token: str, /, **changes: str | None) -> tuple[int, Mapping[str, Any]]:
        """A parameter that is changed to None is left out."""
        fields = {**exchange_fields(token), **changes}
        body = json.dumps({key: value for key, value in fields.items() if value is not None}).encode()
        return self.ask(Asked("POST", "/v1/token", "application/json", body=body))

    def access_token(self, **claims: Any) -> str:
        status, body = self.exchange(self.token(**claims))
        assert status == 200, body
        return str(body["access_token"])

    def generate(
        self, token: str | None, account: str = ACCOUNT, project: str = "-", /, **body: Any
    ) -> tuple[int, Mapping[str, Any]]:
        content = {"scope": [CLOUD_SCOPE], **body}
        path = f"/v1/projects/{project}/serviceAccounts/{account}:generateAccessToken"
        authorization = None if token is None else f"Bearer {token}"
        data = json.dumps(content).encode()
        return self.ask(Asked("POST", path, "application/json", authorization, data))

    def introspect(self, token: str) -> Mapping[str, Any]:
        status, body = self.ask(
            Asked("POST", "/v1/introspect", FORM, body=urlencode({"token": token}, errors="replace").encode())
        )
        assert status == 200, body
        return body

    def ask(self, asked: Asked) -> tuple[int, Mapping[str, Any]]:
        answer = self.standin.answer(asked)
        return answer.status, answer.body


def exchange_fields(token: str) -> dict[str, str | None]:
    return {
        "grant_type": EXCHANGE,
        "audience": AUDIENCE,
        "scope": CLOUD_SCOPE,
        "requested_token_type": ACCESS_TOKEN,
        "subject_token": token,
        "subject_token_type": JWT,
    }
