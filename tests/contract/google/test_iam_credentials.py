"""What IAM Credentials promises, and the stand-in with it: one suite for both."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from contract.google.parts import Google, error_of
from fakes.google import FakeIssuer, configuration, provider
from fakes.standin import StandInProcess

DENIED = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."


def test_a_bound_principal_gets_a_token_for_the_account(google: Google) -> None:
    answer = google.generate(google.access_token(), lifetime="600s")
    assert answer.status_code == 200, error_of(answer)
    ends = datetime.fromisoformat(answer.json()["expireTime"])
    assert 590 <= (ends - datetime.now(UTC)).total_seconds() <= 601


def test_without_a_binding_it_is_denied(google: Google) -> None:
    answer = google.generate(google.access_token(), google.unbound)
    assert error_of(answer) == (403, "PERMISSION_DENIED", DENIED)
    assert answer.json()["error"]["details"][0]["reason"] == "IAM_PERMISSION_DENIED"


def test_an_account_that_does_not_exist_looks_the_same(google: Google) -> None:
    account = "spangate-not-there@" + google.account.partition("@")[2]
    assert error_of(google.generate(google.access_token(), account)) == (403, "PERMISSION_DENIED", DENIED)


@pytest.mark.parametrize("token", [None, "not-a-token"])
def test_without_a_token_of_its_own_the_caller_is_nobody(google: Google, token: str | None) -> None:
    assert error_of(google.generate(token))[:2] == (401, "UNAUTHENTICATED")


def test_more_than_an_hour_is_refused(google: Google) -> None:
    status, name, message = error_of(google.generate(google.access_token(), lifetime="3601s"))
    assert (status, name) == (400, "INVALID_ARGUMENT")
    assert message.endswith(
        "can not have lifetimes of more than 1 hour. Use the Org Policy Constraint "
        "constraints/iam.allowServiceAccountCredentialLifetimeExtension to allow up to 12 hours."
    )


def test_no_time_at_all_is_refused(google: Google) -> None:
    answer = google.generate(google.access_token(), lifetime="0s")
    expected = (400, "INVALID_ARGUMENT", "Lifetime of access token must be larger then zero.")
    assert error_of(answer) == expected


def test_scope_is_required_and_has_to_be_one(google: Google) -> None:
    for scope in ([], ["bogus"]):
        assert error_of(google.generate(google.access_token(), scope=scope))[:2] == (400, "INVALID_ARGUMENT")


def test_the_project_is_the_wildcard(google: Google) -> None:
    project = google.account.partition("@")[2].partition(".")[0]
    assert google.generate(google.access_token(), project=project).status_code in {400, 403, 404}


def test_a_token_without_the_scope_for_it_is_not_enough(google: Google) -> None:
    narrow = google.exchange(google.token(), scope="https://www.googleapis.com/auth/spanner.data").json()
    answer = google.generate(narrow["access_token"])
    assert error_of(answer)[:2] == (403, "PERMISSION_DENIED")
    assert answer.json()["error"]["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"


def test_a_disabled_pool_ends_its_tokens_on_the_stand_in_only(
    google: Google, standin: StandInProcess, issuer: FakeIssuer
) -> None:
    token = google.access_token()
    standin.put("config", configuration(provider(issuer), disabled=True))
    assert error_of(google.generate(token))[:2] == (401, "UNAUTHENTICATED")


def test_too_many_requests_are_refused_for_now_on_the_stand_in_only(google: Google, standin: StandInProcess) -> None:
    standin.put("faults", {"part": "iam", "status": 429})
    assert error_of(google.generate(google.access_token()))[:2] == (429, "RESOURCE_EXHAUSTED")
