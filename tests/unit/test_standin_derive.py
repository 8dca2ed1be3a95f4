"""The stand-in's configuration for one installation."""

from __future__ import annotations

import json

import pytest

from fakes.google import ACCOUNT, FIRST, ISSUER, LAST, SUBJECT, TRUST_DOMAIN, FakeGoogle, FakeIssuer
from spangate.errors import Broken
from spangate.model.google import GoogleFederation, Impersonation, SubjectTokenType
from spangate.model.identity import SpiffeId
from spangate.standin.config import parse_config
from spangate.standin.derive import standin_config_for

FEDERATION = GoogleFederation("123456789012", "mesh", "spangate")


@pytest.fixture(scope="module")
def issuer() -> FakeIssuer:
    return FakeIssuer()


def test_a_token_of_the_authority_is_exchanged_at_once(issuer: FakeIssuer) -> None:
    google = FakeGoogle(issuer, standin_config_for(FEDERATION, TRUST_DOMAIN, issuer=ISSUER, jwks_json=issuer.jwks()))
    assert google.introspect(google.access_token())["sub"] == "ns/shop/sa/checkout"
    assert google.exchange(google.token(sub="spiffe://other.example/ns/shop/sa/checkout"))[0] == 400


def test_everybody_may_impersonate_what_everybody_does(issuer: FakeIssuer) -> None:
    federation = GoogleFederation("123456789012", "mesh", "spangate", impersonation=Impersonation(ACCOUNT))
    config = standin_config_for(federation, TRUST_DOMAIN, issuer=ISSUER, jwks_json=issuer.jwks())
    google = FakeGoogle(issuer, config)
    assert google.generate(google.access_token())[0] == 200
    assert google.generate(google.access_token(sub=SUBJECT + "2"))[0] == 200


def test_one_identity_may_impersonate_what_it_alone_does_by_its_delegates(issuer: FakeIssuer) -> None:
    of = {SpiffeId.parse(SUBJECT): Impersonation(LAST, (FIRST,))}
    config = standin_config_for(FEDERATION, TRUST_DOMAIN, issuer=ISSUER, jwks_json=issuer.jwks(), impersonations=of)
    google = FakeGoogle(issuer, config)
    delegates = [f"projects/-/serviceAccounts/{FIRST}"]
    assert google.generate(google.access_token(), LAST, delegates=delegates)[0] == 200
    assert google.generate(google.access_token(), LAST)[0] == 403
    assert google.generate(google.access_token(sub=SUBJECT + "2"), LAST, delegates=delegates)[0] == 403


def test_keys_are_fetched_where_they_are() -> None:
    config = parse_config(
        json.dumps(standin_config_for(FEDERATION, TRUST_DOMAIN, issuer=ISSUER, keys_at="http://127.0.0.1:1"))
    )
    oidc = next(iter(config.pools.values())).providers["spangate"].oidc
    assert oidc is not None
    assert (oidc.issuer, oidc.keys, oidc.keys_at) == (ISSUER, None, "http://127.0.0.1:1")


def test_certificates_need_anchors() -> None:
    federation = GoogleFederation("1", "mesh", "spangate", SubjectTokenType.MTLS)
    with pytest.raises(Broken):
        standin_config_for(federation, TRUST_DOMAIN)
