"""Kubernetes' projected service account tokens: whom they speak for, and why others are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from spangate.authority.jwt_keys import public_jwk
from spangate.authority.jwt_reader import BadToken
from spangate.authority.kubernetes_token import Attested, Cluster, attest
from spangate.errors import YourFault
from spangate.model.identity import SpiffeId

NOON = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)
NOW = int(NOON.timestamp())
CLUSTER = Cluster("https://kubernetes.default.svc", "spangate")
RSA = rsa.generate_private_key(65537, 2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
KEYS: list[dict[str, Any]] = [
    {**pyjwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "r", "use": "sig", "alg": "RS256"},
    {**public_jwk(CURVE.public_key()), "kid": "c", "use": "sig", "alg": "ES256"},
]
# As the kubelet projects one (kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin).
CLAIMS: dict[str, Any] = {
    "aud": ["spangate"],
    "exp": NOW + 3600,
    "iat": NOW,
    "nbf": NOW,
    "iss": "https://kubernetes.default.svc",
    "jti": "aed34954-b33a-4142-b1ec-389d6bbb4936",
    "sub": "system:serviceaccount:shop:checkout",
    "kubernetes.io": {
        "namespace": "shop",
        "node": {"name": "node-1", "uid": "646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1"},
        "pod": {"name": "checkout-7d", "uid": "5e0bd49b-f040-43b0-99b7-22765a53f7f3"},
        "serviceaccount": {"name": "checkout", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
    },
}


def bound(**more: Any) -> dict[str, Any]:
    return CLAIMS["kubernetes.io"] | more


def signed(change: dict[str, Any] | None = None, algorithm: str = "RS256") -> str:
    claims = {name: value for name, value in (CLAIMS | (change or {})).items() if value is not None}
    key: Any = RSA if algorithm.startswith("RS") else CURVE
    return pyjwt.encode(claims, key, algorithm, headers={"kid": "r" if key is RSA else "c", "typ": None})


def read(token: str, now: datetime = NOON) -> Attested:
    return attest(token, CLUSTER, KEYS, trust_domain="shop.example", now=now)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_projected_token_speaks_for_its_service_account(algorithm: str) -> None:
    found = read(signed(algorithm=algorithm))
    assert found.identity == SpiffeId.workload("shop.example", "shop", "checkout")
    assert found.pod_uid == "5e0bd49b-f040-43b0-99b7-22765a53f7f3"
    assert found.expires_at == NOON + timedelta(hours=1)


LEGACY = {
    "iss": "kubernetes/serviceaccount",
    "kubernetes.io": None,
    "kubernetes.io/serviceaccount/namespace": "shop",
    "exp": None,
    "iat": None,
    "aud": None,
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another issuer": ({"iss": "https://evil.example"}, "another issuer"),
    "no issuer": ({"iss": None}, "another issuer"),
    "another audience": ({"aud": ["vault"]}, "another audience"),
    "no audience": ({"aud": None}, "names no audience"),
    "another audience beside ours": ({"aud": ["spangate", "vault"]}, "other audiences too"),
    "from a Secret": (LEGACY, "another issuer"),
    "from a Secret, with our issuer": (LEGACY | {"iss": CLAIMS["iss"], "aud": ["spangate"]}, "when it was issued"),
    "for a year": ({"exp": NOW + 365 * 86_400}, "lives longer"),
    "ended": ({"iat": NOW - 3600, "nbf": NOW - 3600, "exp": NOW}, "has ended"),
    "not yet": ({"nbf": NOW + 60}, "has not begun"),
    "bound to no pod": ({"kubernetes.io": bound(pod=None)}, "not bound to a pod"),
    "bound to a pod without uid": ({"kubernetes.io": bound(pod={"name": "x"})}, "not bound to a pod"),
    "bound to nothing": ({"kubernetes.io": "shop"}, "not bound to a pod"),
    "another subject": ({"sub": "system:serviceaccount:shop:admin"}, "not the service account"),
    "another namespace": ({"kubernetes.io": bound(namespace="kube-system")}, "not the service account"),
    "no subject": ({"sub": None}, "not the service account"),
    "a namespace that is a path": (
        {"sub": "system:serviceaccount:..:checkout", "kubernetes.io": bound(namespace="..")},
        "make no SPIFFE ID",
    ),
    "a name with a line end": (
        {"sub": "system:serviceaccount:shop:a\n", "kubernetes.io": bound(serviceaccount={"name": "a\n"})},
        "make no SPIFFE ID",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused_with_their_reason(name: str) -> None:
    change, reason = REFUSED[name]
    with pytest.raises(BadToken, match=reason):
        read(signed(change))


def test_a_token_of_another_cluster_is_refused() -> None:
    other = rsa.generate_private_key(65537, 2048)
    token = pyjwt.encode(CLAIMS, other, "RS256", headers={"kid": "r"})
    with pytest.raises(BadToken, match="signature is wrong"):
        read(token)


def test_only_the_algorithms_of_clusters_are_taken() -> None:
    for algorithm in ("RS512", "PS256"):
        with pytest.raises(BadToken, match="algorithm is none of ES256, RS256"):
            read(
                signed(algorithm=algorithm)
                if algorithm == "RS512"
                else pyjwt.encode(CLAIMS, RSA, "PS256", {"kid": "r"})
            )


def test_istios_audience_is_not_ours_to_use() -> None:
    with pytest.raises(YourFault, match="istiod"):
        Cluster("https://kubernetes.default.svc", "istio-ca")
