"""`google` and `impersonate`: whose token each identity gets, and that the policy's version says so."""

from __future__ import annotations

import pytest

from fakes import shop
from spangate.app.google_store import check_provider, googles_own_store
from spangate.model.google import CLOUD_SCOPE, GoogleFederation, Impersonation, SubjectTokenType

ACCOUNT = "shop-db@my-project.iam.gserviceaccount.com"
OTHER = "reports@my-project.iam.gserviceaccount.com"
GOOGLE = 'google: {project_number: "123456789012", pool: mesh, provider: spangate'


def google(more: str = "", reports: str = "") -> str:
    text = shop.INTENT.replace("{workload: analytics/reports}", f"{{workload: analytics/reports{reports}}}")
    return f"{text}{GOOGLE}{more}}}\n"


def test_without_google_nobody_gets_a_token() -> None:
    assert shop.policy().google is None
    assert shop.policy().federations == {}


def test_every_identity_of_the_policy_gets_one_by_the_same_provider() -> None:
    policy = shop.policy(google())
    assert policy.google == GoogleFederation("123456789012", "mesh", "spangate")
    assert policy.federations == dict.fromkeys(policy.identities.values(), policy.google)
    assert policy.google.scopes == (CLOUD_SCOPE,)
    assert policy.google.audience.startswith("//iam.googleapis.com/projects/123456789012/locations/global/")


def test_an_identitys_own_account_replaces_everybodys() -> None:
    everybody = f", impersonate: {{service_account: {ACCOUNT}, lifetime: 10m}}"
    own = f", impersonate: {{service_account: {OTHER}, delegates: [{ACCOUNT}]}}"
    found = shop.policy(google(everybody, own)).federations
    assert found[shop.CHECKOUT].impersonation == Impersonation(ACCOUNT, (), 600)
    assert found[shop.REPORTS].impersonation == Impersonation(OTHER, (ACCOUNT,), 3600)


@pytest.mark.parametrize("kind", list(SubjectTokenType))
def test_the_subject_token_is_what_is_written(kind: SubjectTokenType) -> None:
    policy = shop.policy(google(f", subject_token: {kind.value}"))
    assert policy.google is not None
    assert policy.google.subject_token is kind


def test_the_version_changes_with_whatever_changes_whose_token_somebody_gets() -> None:
    account = f", impersonate: {{service_account: {ACCOUNT}}}"
    texts = [
        shop.INTENT,
        google(),
        google(", subject_token: mtls"),
        google(", scopes: [https://www.googleapis.com/auth/spanner.data]"),
        google(account),
        google(f", impersonate: {{service_account: {ACCOUNT}, lifetime: 10m}}"),
        google(f", impersonate: {{service_account: {ACCOUNT}, delegates: [{OTHER}]}}"),
        google("", account),
        google().replace("pool: mesh", "pool: mess"),
        google().replace("provider: spangate", "provider: other"),
        google().replace("123456789012", "123456789013"),
    ]
    versions = [shop.policy(text).version for text in texts]
    assert len(set(versions)) == len(texts)


def test_the_version_does_not_change_with_how_it_is_written() -> None:
    scopes = ["https://www.googleapis.com/auth/spanner.data", CLOUD_SCOPE]
    one = google(f", scopes: [{', '.join(scopes)}]")
    other = google(f", subject_token: jwt, scopes: [{', '.join(reversed(scopes))}]")
    assert shop.policy(one).version == shop.policy(other).version


def test_where_certificates_are_shown_to_google_its_store_is_the_providers() -> None:
    store = googles_own_store(shop.policy(google(", subject_token: mtls")))
    assert store == check_provider(
        "projects/123456789012/locations/global/workloadIdentityPools/mesh/providers/spangate"
    )
    assert googles_own_store(shop.policy(google())) == ""
    assert googles_own_store(shop.policy()) == ""
    assert googles_own_store(None) == ""
