"""The stand-in's configuration: what Google would store, and what it would not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fakes.google import ACCOUNT, POOL, FakeIssuer, configuration, provider
from spangate.errors import YourFault
from spangate.standin.config import CONFIG_BYTES_MAX, parse_config, usable_keys


@pytest.fixture(scope="module")
def issuer() -> FakeIssuer:
    return FakeIssuer()


def test_a_configuration_is_read_whole(issuer: FakeIssuer) -> None:
    found = parse_config(json.dumps(configuration(provider(issuer))))
    pool = found.pools[POOL]
    assert (pool.project_number, pool.id, pool.name) == ("123456789012", "mesh", POOL)
    assert pool.providers["spangate"].oidc is not None
    assert ACCOUNT in found.accounts


Change = Callable[[dict[str, Any]], object]


def _set(path: str, value: Any) -> Change:
    def change(config: dict[str, Any]) -> None:
        *keys, last = path.split("/")
        at: Any = config
        for key in keys:
            at = at[int(key) if key.isdigit() else key]
        at[int(last) if last.isdigit() else last] = value

    return change


P = "pools/0/providers/0"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (_set("surprise", 1), "`surprise` is not known"),
        (_set("lifetimeExtension", 1), "`lifetimeExtension` is neither true nor false"),
        (_set("pools/0/name", "projects/shop/locations/global/workloadIdentityPools/mesh"), "`pools[0].name` is not"),
        (_set("pools/0/name", POOL + "\n"), "`pools[0].name` is not"),
        (_set("pools/0/disabled", "no"), "`pools[0].disabled` is neither"),
        (_set(f"{P}/name", "gcp-x"), "`pools[0].providers[0].name` is not"),
        (_set(f"{P}/x509", {}), "has not exactly one of `oidc` and `x509`"),
        (_set(f"{P}/oidc/issuerUri", "http://id.shop.example"), "oidc.issuerUri` is not a URL with https"),
        (_set(f"{P}/oidc/issuerUri", "http://127.0.0.1.evil.example"), "oidc.issuerUri` is not a URL with https"),
        (_set(f"{P}/oidc/keysAt", "http://id.shop.example"), "oidc.keysAt` is not a URL with http on loopback"),
        (_set(f"{P}/oidc/keysAt", "http://127.0.0.1:80"), "has both `jwksJson` and `keysAt`"),
        (_set(f"{P}/oidc/allowedAudiences", ["a"] * 11), "oidc.allowedAudiences` has more than 10 entries"),
        (_set(f"{P}/oidc/allowedAudiences", ["a" * 257]), "oidc.allowedAudiences[0]` is not a text of 1 to 256"),
        (_set(f"{P}/oidc/jwksJson", "{"), "oidc.jwksJson` is not JSON"),
        (_set(f"{P}/oidc/jwksJson", '{"keys": [{"kty": "oct", "k": "x"}]}'), "jwksJson.keys[0].k` is not known"),
        (_set(f"{P}/oidc/jwksJson", '{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}'), "has no `kid`"),
        (_set(f"{P}/oidc/jwksJson", '{"keys": [{"kid": "k", "kty": "OKP", "crv": "Ed25519"}]}'), "is neither an RSA"),
        (_set(f"{P}/oidc/jwksJson", '{"keys": [{"kid": "k", "kty": "EC", "crv": "P-384"}]}'), "is neither an RSA"),
        (_set(f"{P}/oidc/jwksJson", '{"keys": [{"kid": "k", "kty": "EC", "crv": "P-256"}]}'), "cannot be read"),
        (_set(f"{P}/attributeMapping", {"attribute.a": "assertion.sub"}), "does not map `google.subject`"),
        (_set(f"{P}/attributeMapping/attribute.A", "assertion.sub"), "is neither Google's nor attribute."),
        (_set(f"{P}/attributeMapping/attribute.{'a' * 100}", "assertion.sub"), "is neither Google's nor attribute."),
        (_set(f"{P}/attributeMapping/google.subject", "assertion."), "attributeMapping.google.subject` is not CEL"),
        (_set(f"{P}/attributeMapping/google.subject", "'" + "a" * 2048 + "'"), "is longer than 2048 characters"),
        (_set(f"{P}/attributeCondition", "surprise == 1"), "attributeCondition` is not CEL"),
        (_set(f"{P}/attributeCondition", "'a'"), "attributeCondition` is neither true nor false"),
        (_set(f"{P}/attributeCondition", "true " * 1000), "attributeCondition` is longer than 4096 characters"),
        (_set("serviceAccounts/0/email", "somebody@example.com"), "is not a service account's address"),
        (_set("serviceAccounts/0/bindings/0/members", ["allUsers"]), "members[0]` is neither principal://"),
        (lambda config: config["pools"].append(config["pools"][0]), "`pools` has one name twice"),
        (lambda config: config["serviceAccounts"].append(config["serviceAccounts"][0]), "has one name twice"),
    ],
)
def test_what_google_would_not_store_is_refused_with_its_place(issuer: FakeIssuer, change: Change, place: str) -> None:
    config = json.loads(json.dumps(configuration(provider(issuer))))
    change(config)
    with pytest.raises(YourFault) as error:
        parse_config(json.dumps(config))
    assert place in error.value.message


def test_fifty_attributes_and_not_one_more(issuer: FakeIssuer) -> None:
    mapping = {"google.subject": "assertion.sub", **{f"attribute.a{index}": "'x'" for index in range(50)}}
    parse_config(json.dumps(configuration(provider(issuer, attributeMapping=mapping))))
    mapping["attribute.last"] = "'x'"
    with pytest.raises(YourFault, match="more than 50"):
        parse_config(json.dumps(configuration(provider(issuer, attributeMapping=mapping))))


@pytest.mark.parametrize("text", ["", "[]", "5", "[" * 100_000, " " * (CONFIG_BYTES_MAX + 1), '"\ud800"'])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(YourFault):
        parse_config(text)


def test_keys_of_other_kinds_in_a_published_set_are_passed_over(issuer: FakeIssuer) -> None:
    keys = [{"kty": "OKP", "kid": "o"}, 5, *json.loads(issuer.jwks())["keys"]]
    keys[-1]["x5c"] = ["MII"]
    assert [key["kid"] for key in usable_keys({"keys": keys})] == ["es", "rs"]
    assert usable_keys({}) == usable_keys({"keys": 5}) == ()
