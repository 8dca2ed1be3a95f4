"""What Google's token service promises, and the stand-in with it: one suite for both.

Texts are compared where somebody has seen them (standin/answers.py says where); else the error's name is enough. Tests
named `..._on_the_stand_in_only` need another set-up than the one that is given.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from contract.google.parts import Google, error_of
from fakes.google import FakeIssuer, configuration, exchange_fields, provider
from fakes.standin import StandInProcess

NO_ISSUER = "Error connecting to the given credential's issuer."
NO_TARGET = (
    'The target service indicated by the "audience" parameters is invalid. This might either be because the pool or '
    "provider is disabled or deleted or because it doesn't exist."
)


@pytest.mark.parametrize("form", [True, False], ids=["form", "json"])
def test_a_good_token_is_exchanged(google: Google, form: bool) -> None:
    answer = google.exchange(google.token(), form=form)
    body = answer.json()
    assert answer.status_code == 200, error_of(answer)
    assert body["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert body["token_type"] == "Bearer"
    assert isinstance(body["access_token"], str)


def test_names_in_camel_case_are_taken_too(google: Google) -> None:
    import requests

    fields = {**exchange_fields(google.token()), "audience": google.audience}
    words = {key: key.split("_") for key in fields}
    camel = {word[0] + "".join(one.title() for one in word[1:]): fields[key] for key, word in words.items()}
    assert requests.post(f"{google.sts}/v1/token", json=camel, timeout=30).status_code == 200


def test_the_access_token_lives_as_long_as_the_subject_token(google: Google) -> None:
    answer = google.exchange(google.token(exp=int(time.time()) + 120)).json()
    assert 100 <= answer["expires_in"] <= 120


def test_the_access_token_lives_an_hour_at_most(google: Google) -> None:
    answer = google.exchange(google.token(exp=int(time.time()) + 86_400)).json()
    assert 3500 <= answer["expires_in"] <= 3600


def test_an_id_token_is_taken_as_a_jwt(google: Google) -> None:
    id_token = "urn:ietf:params:oauth:token-type:id_token"
    assert google.exchange(google.token(), subject_token_type=id_token).status_code == 200


@pytest.mark.parametrize("name", ["grant_type", "subject_token", "subject_token_type", "requested_token_type"])
def test_a_parameter_that_is_missing_is_an_invalid_request(google: Google, name: str) -> None:
    assert error_of(google.exchange(google.token(), **{name: None}))[:2] == (400, "invalid_request")


def test_scope_is_required(google: Google) -> None:
    assert error_of(google.exchange(google.token(), scope=None))[0] == 400


def test_an_audience_that_is_no_providers_name_is_an_invalid_request(google: Google) -> None:
    status, error, description = error_of(google.exchange(google.token(), audience=f"https:{google.audience}"))
    assert (status, error) == (400, "invalid_request")
    assert description == (
        'Invalid value for "audience". This value should be the full resource name of the Identity Provider. See '
        "https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the list of possible formats."
    )


def test_a_provider_that_does_not_exist_is_an_invalid_target(google: Google) -> None:
    audience = google.audience.rpartition("/")[0] + "/does-not-exist"
    assert error_of(google.exchange(google.token(), audience=audience)) == (400, "invalid_target", NO_TARGET)


def test_an_authorization_header_is_refused(google: Google) -> None:
    answer = google.exchange(google.token(), headers={"authorization": "Bearer not-a-token"})
    assert answer.status_code == 401


# ------------------------------------------------------------------- bad tokens


def test_a_wrong_issuer_is_refused(google: Google) -> None:
    status, error, description = error_of(google.exchange(google.token(iss="https://id.evil.example")))
    assert (status, error) == (400, "invalid_grant")
    assert description.startswith("The issuer in ID Token https://id.evil.example does not match the expected one")


def test_a_wrong_audience_is_refused(google: Google) -> None:
    description = "The audience in ID Token [other] does not match the expected audience."
    assert error_of(google.exchange(google.token(aud="other"))) == (400, "invalid_grant", description)


@pytest.mark.parametrize(("issued", "ends"), [(-7200, -3600), (-90_000, 300)], ids=["ended", "more than a day old"])
def test_a_token_that_is_over_is_stale(google: Google, issued: int, ends: int) -> None:
    iat = int(time.time()) + issued
    answer = google.exchange(google.token(iat=iat, exp=int(time.time()) + ends))
    assert error_of(answer) == (400, "invalid_grant", f"ID Token issued at {iat} is stale to sign-in.")


def test_a_token_of_the_future_is_refused(google: Google) -> None:
    answer = google.exchange(google.token(iat=int(time.time()) + 150, exp=int(time.time()) + 600))
    assert error_of(answer)[:2] == (400, "invalid_grant")


@pytest.mark.parametrize("claim", ["iat", "exp"])
def test_a_token_without_its_moments_is_stale(google: Google, claim: str) -> None:
    status, error, description = error_of(google.exchange(google.token(**{claim: None})))
    assert (status, error) == (400, "invalid_grant")
    assert description.endswith("is stale to sign-in.")


def test_a_key_under_anothers_id_is_refused(google: Google) -> None:
    keys: dict[str, Any] = {
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "RS256": rsa.generate_private_key(65537, 2048),
    }
    answer = google.exchange(google.token(key=keys[google.algorithm]))
    assert error_of(answer) == (400, "invalid_grant", "Unable to verify the ID Token signature.")


@pytest.mark.parametrize("key_id", ["unknown", "../../etc/passwd", "' OR 1=1 --", "x\x00"])
def test_a_key_id_that_nobody_has_is_refused(google: Google, key_id: str) -> None:
    answer = google.exchange(google.token(headers={"kid": key_id}))
    assert error_of(answer) == (400, "invalid_grant", NO_ISSUER)


def test_no_algorithm_is_no_algorithm(google: Google) -> None:
    assert error_of(google.exchange(google.token(algorithm="none", key=None)))[:2] == (400, "invalid_grant")


def test_a_symmetric_signature_is_refused(google: Google) -> None:
    token = google.token(algorithm="HS256", key="k" * 64)
    assert error_of(google.exchange(token))[:2] == (400, "invalid_grant")


def test_an_oversize_token_is_refused(google: Google) -> None:
    answer = google.exchange(google.token(pad="x" * 1_000_000))
    assert 400 <= answer.status_code < 500


def test_a_subject_that_the_condition_does_not_let_in_is_refused(google: Google) -> None:
    description = "The given credential is rejected by the attribute condition."
    answer = google.exchange(google.token(sub="spiffe://evil.example/ns/shop/sa/checkout"))
    assert error_of(answer) == (400, "unauthorized_client", description)


def test_a_subject_of_more_than_127_bytes_is_refused(google: Google) -> None:
    status, error, description = error_of(google.exchange(google.token(sub=google.subject + "x" * 128)))
    assert (status, error) == (400, "invalid_request")
    assert description.startswith("The size of mapped attribute google.subject exceeds the 127 bytes limit.")


# ------------------------------------------------------------------- other set-ups


@pytest.mark.parametrize("where", ["provider", "pool"])
def test_what_is_disabled_is_no_target_on_the_stand_in_only(
    google: Google, standin: StandInProcess, issuer: FakeIssuer, where: str
) -> None:
    one = provider(issuer, disabled=True) if where == "provider" else provider(issuer)
    standin.put("config", configuration(one, disabled=where == "pool"))
    assert error_of(google.exchange(google.token())) == (400, "invalid_target", NO_TARGET)


def test_too_many_requests_are_throttled_on_the_stand_in_only(google: Google, standin: StandInProcess) -> None:
    standin.put("faults", {"part": "token", "status": 429, "times": 1})
    assert error_of(google.exchange(google.token()))[:2] == (429, "quota_exceeded")
    assert google.exchange(google.token()).status_code == 200
