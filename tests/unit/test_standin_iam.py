"""The stand-in's IAM Credentials: who may have a token for which service account."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.auth.credentials import NO_OP_TRUST_BOUNDARY_ENCODED_LOCATIONS, NO_OP_TRUST_BOUNDARY_LOCATIONS

from fakes.google import (
    ACCOUNT,
    FIRST,
    LAST,
    POOL,
    PRINCIPAL,
    SUBJECT,
    UNBOUND,
    FakeGoogle,
    FakeIssuer,
    configuration,
    provider,
)
from spangate.standin.asked import Asked
from spangate.standin.roles import WORKLOAD_IDENTITY_USER

DENIED = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."


@pytest.fixture(scope="module")
def issuer() -> FakeIssuer:
    return FakeIssuer()


@pytest.fixture
def google(issuer: FakeIssuer) -> FakeGoogle:
    return FakeGoogle(issuer)


def status_of(answer: tuple[int, Any]) -> tuple[int, str, str]:
    code, body = answer
    assert body["error"]["code"] == code
    return code, body["error"]["status"], body["error"]["message"]


def test_who_holds_the_role_gets_a_token_for_the_account(google: FakeGoogle) -> None:
    status, body = google.generate(google.access_token())
    assert status == 200
    assert body["expireTime"] == "2030-01-02T13:00:00Z"
    found = google.introspect(body["accessToken"])
    assert found["username"] == ACCOUNT
    assert found["behind"] == [PRINCIPAL]


def test_it_lives_as_long_as_asked_though_the_federated_token_ends_before(google: FakeGoogle) -> None:
    body = google.generate(google.access_token(), lifetime="600s")[1]
    assert body["expireTime"] == "2030-01-02T12:10:00Z"
    google.clock.advance(timedelta(seconds=599))
    assert google.introspect(body["accessToken"])["active"] is True
    google.clock.advance(timedelta(seconds=1))
    assert google.introspect(body["accessToken"])["active"] is False


def test_another_identity_is_denied(google: FakeGoogle) -> None:
    token = google.access_token(sub=SUBJECT + "2")
    code, body = google.generate(token)
    assert status_of((code, body)) == (403, "PERMISSION_DENIED", DENIED)
    assert body["error"]["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "IAM_PERMISSION_DENIED",
            "domain": "iam.googleapis.com",
            "metadata": {"permission": "iam.serviceAccounts.getAccessToken"},
        }
    ]


@pytest.mark.parametrize("account", [UNBOUND, "not-there@shop-project.iam.gserviceaccount.com"])
def test_an_account_without_binding_and_none_at_all_look_the_same(google: FakeGoogle, account: str) -> None:
    assert status_of(google.generate(google.access_token(), account)) == (403, "PERMISSION_DENIED", DENIED)


@pytest.mark.parametrize(
    "member",
    [
        f"principalSet://iam.googleapis.com/{POOL}/*",
        f"principalSet://iam.googleapis.com/{POOL}/group/staff",
        f"principalSet://iam.googleapis.com/{POOL}/attribute.spiffe_id/{SUBJECT}",
    ],
)
def test_sets_of_principals_hold_roles_too(google: FakeGoogle, issuer: FakeIssuer, member: str) -> None:
    config = configuration(provider(issuer))
    config["serviceAccounts"] = [
        {"email": ACCOUNT, "bindings": [{"role": WORKLOAD_IDENTITY_USER, "members": [member]}]}
    ]
    google.configure(config)
    assert google.generate(google.access_token(groups=["staff"]))[0] == 200
    config["serviceAccounts"][0]["bindings"][0]["members"] = [member.replace("/mesh/", "/other-pool/")]
    google.configure(config)
    assert google.generate(google.access_token(groups=["staff"]))[0] == 403


def test_another_role_is_none(google: FakeGoogle, issuer: FakeIssuer) -> None:
    config = configuration(provider(issuer))
    config["serviceAccounts"] = [{"email": ACCOUNT, "bindings": [{"role": "roles/owner", "members": [PRINCIPAL]}]}]
    google.configure(config)
    assert google.generate(google.access_token())[0] == 403


def test_a_disabled_account_gives_none(google: FakeGoogle, issuer: FakeIssuer) -> None:
    config = configuration(provider(issuer))
    config["serviceAccounts"][0]["disabled"] = True
    google.configure(config)
    assert google.generate(google.access_token())[0] == 403


# ------------------------------------------------------------------- delegates


def test_a_chain_of_delegates_is_walked_link_by_link(google: FakeGoogle) -> None:
    delegates = [f"projects/-/serviceAccounts/{FIRST}"]
    status, body = google.generate(google.access_token(), LAST, delegates=delegates)
    assert status == 200
    assert google.introspect(body["accessToken"])["behind"] == [PRINCIPAL, FIRST]


def test_without_the_delegate_there_is_no_way(google: FakeGoogle) -> None:
    assert google.generate(google.access_token(), LAST)[0] == 403
    backwards = [f"projects/-/serviceAccounts/{LAST}"]
    assert google.generate(google.access_token(), FIRST, delegates=backwards)[0] == 403


def test_workload_identity_user_is_not_enough_for_a_delegate(google: FakeGoogle) -> None:
    code, status, message = status_of(
        google.generate(google.access_token(), LAST, delegates=[f"projects/-/serviceAccounts/{ACCOUNT}"])
    )
    assert (code, status) == (403, "PERMISSION_DENIED")
    assert "iam.serviceAccounts.implicitDelegation" in message


def test_a_token_of_an_account_goes_on_as_that_account(google: FakeGoogle) -> None:
    token = google.generate(google.access_token(), FIRST)[1]["accessToken"]
    status, body = google.generate(token, LAST)
    assert status == 200
    assert google.introspect(body["accessToken"])["behind"] == [PRINCIPAL, FIRST]


# ------------------------------------------------------------------- callers


@pytest.mark.parametrize("token", [None, "", "ya29.x", "spangate-standin.x.y"])
def test_who_shows_no_token_of_ours_is_unauthenticated(google: FakeGoogle, token: str | None) -> None:
    assert status_of(google.generate(token))[:2] == (401, "UNAUTHENTICATED")


def test_an_ended_token_is_unauthenticated_and_so_is_one_of_a_disabled_pool(
    google: FakeGoogle, issuer: FakeIssuer
) -> None:
    token = google.access_token()
    google.configure(configuration(provider(issuer), disabled=True))
    assert status_of(google.generate(token))[:2] == (401, "UNAUTHENTICATED")
    google.configure(configuration(provider(issuer)))
    google.clock.advance(timedelta(seconds=300))
    assert status_of(google.generate(token))[:2] == (401, "UNAUTHENTICATED")


def test_the_callers_token_needs_a_scope_for_it(google: FakeGoogle) -> None:
    scope = "https://www.googleapis.com/auth/spanner.data"
    token = str(google.exchange(google.token(), scope=scope)[1]["access_token"])
    code, body = google.generate(token)
    assert code == 403
    assert body["error"]["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
    iam = str(google.exchange(google.token(), scope="https://www.googleapis.com/auth/iam")[1]["access_token"])
    assert google.generate(iam)[0] == 200


# ------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    "body",
    [
        {"scope": []},
        {"scope": None},
        {"scope": "openid"},
        {"scope": ["spanner"]},
        {"delegates": "x"},
        {"delegates": ["x"]},
        {"delegates": [FIRST] * 17},
        {"lifetime": 3600},
        {"lifetime": "1h"},
        {"lifetime": "-1s"},
        {"lifetime": "3600s\n"},
        {"surprise": 1},
    ],
)
def test_a_body_that_is_wrong_is_an_invalid_argument(google: FakeGoogle, body: dict[str, Any]) -> None:
    assert status_of(google.generate(google.access_token(), **body))[:2] == (400, "INVALID_ARGUMENT")


def test_lifetimes_are_above_nothing_and_up_to_an_hour(google: FakeGoogle) -> None:
    for good in ("1s", "3600s", "59.5s"):
        assert google.generate(google.access_token(), lifetime=good)[0] == 200
    message = status_of(google.generate(google.access_token(), lifetime="0s"))[2]
    assert message == "Lifetime of access token must be larger then zero."
    assert "constraints/iam.allow" in status_of(google.generate(google.access_token(), lifetime="3601s"))[2]


def test_the_organisations_policy_allows_twelve_hours(google: FakeGoogle, issuer: FakeIssuer) -> None:
    google.configure({**configuration(provider(issuer)), "lifetimeExtension": True})
    assert google.generate(google.access_token(), lifetime="43200s")[0] == 200
    assert google.generate(google.access_token(), lifetime="43201s")[0] == 400


def test_the_project_is_the_wildcard_and_the_account_an_address(google: FakeGoogle) -> None:
    assert google.generate(google.access_token(), ACCOUNT, "shop-project")[0] == 400
    assert (
        "Invalid form of account ID default."
        in google.generate(google.access_token(), "default")[1]["error"]["message"]
    )


# ------------------------------------------------------------------- the rest


def test_there_is_no_regional_boundary(google: FakeGoogle) -> None:
    authorization = f"Bearer {google.access_token()}"
    nowhere = {"locations": [], "encodedLocations": "0x0"}
    for name in (f"projects/-/serviceAccounts/{ACCOUNT}", POOL):
        assert google.ask(Asked("GET", f"/v1/{name}/allowedLocations", "", authorization)) == (200, nowhere)
        assert google.ask(Asked("GET", f"/v1/{name}/allowedLocations"))[0] == 401
    for name, status in ((f"projects/-/serviceAccounts/x{ACCOUNT}", 403), (POOL + "s", 400)):
        assert google.ask(Asked("GET", f"/v1/{name}/allowedLocations", "", authorization))[0] == status


def test_the_library_reads_that_no_boundary_is_set(google: FakeGoogle) -> None:
    status, body = google.ask(Asked("GET", f"/v1/{POOL}/allowedLocations", "", f"Bearer {google.access_token()}"))
    assert body["encodedLocations"] == NO_OP_TRUST_BOUNDARY_ENCODED_LOCATIONS
    assert body["locations"] == NO_OP_TRUST_BOUNDARY_LOCATIONS
    assert status == 200


@pytest.mark.parametrize("asked", [Asked("GET", "/v1/token"), Asked("POST", "/"), Asked("POST", "/v1/token/")])
def test_nothing_else_is_there(google: FakeGoogle, asked: Asked) -> None:
    assert status_of(google.ask(asked))[:2] == (404, "NOT_FOUND")


def test_faults_on_order_meet_the_next_requests_and_are_counted(google: FakeGoogle) -> None:
    token = google.access_token()
    google.standin.faults.order({"part": "iam", "status": 429, "times": 2})
    for _ in range(2):
        assert status_of(google.generate(token))[:2] == (429, "RESOURCE_EXHAUSTED")
    assert google.generate(token)[0] == 200
    google.standin.faults.order({"part": "token", "status": 429})
    assert google.exchange(google.token())[1]["error"] == "quota_exceeded"
    google.standin.faults.order({"part": "token", "status": 503})
    assert google.exchange(google.token())[0] == 503
    assert google.standin.asked == {"token": 3, "iam": 3}
