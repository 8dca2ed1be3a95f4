"""The stand-in's token service: who gets a token, who does not, and in which words."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from fakes.google import (
    AUDIENCE,
    ISSUER,
    MAPPED,
    POOL,
    PRINCIPAL,
    SUBJECT,
    FakeGoogle,
    FakeIssuer,
    configuration,
    exchange_fields,
    provider,
)
from spangate.standin.asked import FORM, Asked


@pytest.fixture(scope="module")
def issuer() -> FakeIssuer:
    return FakeIssuer()


@pytest.fixture
def google(issuer: FakeIssuer) -> FakeGoogle:
    return FakeGoogle(issuer)


def refused(answer: tuple[int, Any], error: str, description: str, status: int = 400) -> None:
    assert answer == (status, {"error": error, "error_description": description})


def test_a_good_token_becomes_an_access_token_that_says_what_it_is(google: FakeGoogle) -> None:
    status, body = google.exchange(google.token())
    assert status == 200
    assert body["access_token"].startswith("spangate-standin.")
    assert {key: body[key] for key in body if key != "access_token"} == {
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 300,
    }


def test_the_access_token_is_that_principals(google: FakeGoogle) -> None:
    found = google.introspect(google.access_token())
    assert found["active"] is True
    assert found["username"] == PRINCIPAL
    assert found["sub"] == MAPPED


def test_an_access_token_is_in_no_repr(google: FakeGoogle) -> None:
    answer = google.standin.answer(
        Asked("POST", "/v1/token", FORM, body=urlencode(exchange_fields(google.token())).encode())
    )
    assert answer.status == 200
    assert "spangate-standin." not in repr(answer)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_both_algorithms_are_taken(google: FakeGoogle, issuer: FakeIssuer, algorithm: str) -> None:
    token = issuer.sign(issuer.claims(google.clock.now()), algorithm)
    assert google.exchange(token)[0] == 200


def test_an_id_token_is_taken_as_a_jwt(google: FakeGoogle) -> None:
    assert google.exchange(google.token(), subject_token_type="urn:ietf:params:oauth:token-type:id_token")[0] == 200


def test_names_in_camel_case_and_forms_are_taken_too(google: FakeGoogle) -> None:
    fields = exchange_fields(google.token())
    camel = {
        "".join(word.title() if index else word for index, word in enumerate(key.split("_"))): value
        for key, value in fields.items()
    }
    assert google.ask(Asked("POST", "/v1/token", "application/json", body=json.dumps(camel).encode()))[0] == 200
    form = {**fields, "options": quote(json.dumps({"userProject": "shop-project"}))}
    assert google.ask(Asked("POST", "/v1/token", FORM, body=urlencode(form).encode()))[0] == 200


@pytest.mark.parametrize("audience", [AUDIENCE, f"https:{AUDIENCE}", ["other", AUDIENCE]])
def test_a_provider_without_audiences_takes_its_own_name(google: FakeGoogle, audience: Any) -> None:
    assert google.exchange(google.token(aud=audience))[0] == 200


def test_a_provider_with_audiences_takes_those_and_no_other(issuer: FakeIssuer) -> None:
    oidc = {"issuerUri": ISSUER, "jwksJson": issuer.jwks(), "allowedAudiences": ["spanner"]}
    google = FakeGoogle(issuer, configuration(provider(issuer, oidc=oidc)))
    assert google.exchange(google.token(aud="spanner"))[0] == 200
    refused(
        google.exchange(google.token(aud=AUDIENCE)),
        "invalid_grant",
        f"The audience in ID Token [{AUDIENCE}] does not match the expected audience.",
    )


@pytest.mark.parametrize(
    ("life", "expires_in"), [(30, 30), (3600, 3600), (7200, 3600), (11 * 365 * 86400, 3600), (-59, 1)]
)
def test_a_token_lives_as_long_as_its_subject_token_one_hour_at_most(
    google: FakeGoogle, life: int, expires_in: int
) -> None:
    moment = int(google.clock.now().timestamp())
    assert google.exchange(google.token(exp=moment + life))[1]["expires_in"] == expires_in


# ------------------------------------------------------------------- parameters


@pytest.mark.parametrize("name", ["grant_type", "requested_token_type", "scope", "subject_token", "subject_token_type"])
@pytest.mark.parametrize("value", [None, "", "urn:something:else\u00fc"])
def test_a_parameter_that_is_missing_or_wrong_is_named(google: FakeGoogle, name: str, value: str | None) -> None:
    if (name, value) == ("subject_token", "urn:something:else\u00fc"):
        refused(google.exchange(google.token(), **{name: value}), "invalid_grant", "Unable to parse the ID Token.")
        return
    refused(google.exchange(google.token(), **{name: value}), "invalid_request", f'Invalid value for "{name}".')


@pytest.mark.parametrize(
    "audience",
    [
        None,
        "",
        AUDIENCE[2:],
        f"https:{AUDIENCE}",
        AUDIENCE.replace("123456789012", "shop-project"),
        AUDIENCE.rpartition("/providers")[0],
        AUDIENCE + "\n",
        AUDIENCE.replace("/mesh/", "/../"),
    ],
)
def test_the_audience_is_exactly_the_providers_name(google: FakeGoogle, audience: str | None) -> None:
    status, body = google.exchange(google.token(), audience=audience)
    assert (status, body["error"]) == (400, "invalid_request")
    assert body["error_description"].startswith('Invalid value for "audience". This value should be the full resource')


@pytest.mark.parametrize(
    "audience", [AUDIENCE.replace("mesh", "meshes"), AUDIENCE + "s", AUDIENCE.replace("123456789012", "1")]
)
def test_a_provider_that_is_not_there_is_no_target(google: FakeGoogle, audience: str) -> None:
    status, body = google.exchange(google.token(), audience=audience)
    assert (status, body["error"]) == (400, "invalid_target")


def test_an_authorization_header_is_refused(google: FakeGoogle) -> None:
    body = urlencode(exchange_fields(google.token())).encode()
    status, answer = google.ask(Asked("POST", "/v1/token", FORM, "Bearer x", body))
    assert (status, answer["error"]["status"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    "options", ["{", "[]", '{"userProject": 5}', '{"x": "y"}', '{"bindCertFingerprint": "%s"}' % ("A" * 43)]
)
def test_options_that_cannot_be_met_are_refused(google: FakeGoogle, options: str) -> None:
    refused(google.exchange(google.token(), options=options), "invalid_request", 'Invalid value for "options".')


def test_a_field_nobody_knows_and_a_field_twice_are_refused(google: FakeGoogle) -> None:
    assert google.exchange(google.token(), surprise="x")[0] == 400
    assert google.exchange(google.token(), subjectToken="x")[0] == 400
    form = urlencode(exchange_fields(google.token())) + "&scope=openid"
    assert google.ask(Asked("POST", "/v1/token", FORM, body=form.encode()))[0] == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"grantType": 5}'])
@pytest.mark.parametrize("kind", ["application/json", FORM, ""])
def test_a_body_that_is_none_is_refused(google: FakeGoogle, body: bytes, kind: str) -> None:
    assert google.ask(Asked("POST", "/v1/token", kind, body=body))[0] == 400


# ------------------------------------------------------------------- subject tokens


def test_a_foreign_issuer_is_refused(google: FakeGoogle) -> None:
    refused(
        google.exchange(google.token(iss="https://id.evil.example")),
        "invalid_grant",
        f"The issuer in ID Token https://id.evil.example does not match the expected one in config: {ISSUER}.",
    )


def test_the_issuer_is_compared_letter_by_letter(google: FakeGoogle) -> None:
    for issuer in (ISSUER + "/", ISSUER.upper(), ISSUER + "\n", None):
        status, body = google.exchange(google.token(iss=issuer))
        assert (status, body["error"]) == (400, "invalid_grant")


def test_a_foreign_audience_is_refused(google: FakeGoogle) -> None:
    description = "The audience in ID Token [other] does not match the expected audience."
    refused(google.exchange(google.token(aud="other")), "invalid_grant", description)
    description = "The audience in ID Token [] does not match the expected audience."
    refused(google.exchange(google.token(aud=None)), "invalid_grant", description)


@pytest.mark.parametrize(
    ("issued", "ends"),
    [
        (timedelta(0), timedelta(seconds=-60)),
        (timedelta(hours=-2), timedelta(hours=-1)),
        (timedelta(seconds=61), timedelta(seconds=300)),
        (timedelta(hours=-24, seconds=-1), timedelta(hours=1)),
    ],
    ids=["ended", "long ended", "not yet begun", "a day old"],
)
def test_a_token_that_does_not_hold_now_is_stale(google: FakeGoogle, issued: timedelta, ends: timedelta) -> None:
    moment = google.clock.now()
    iat, exp = int((moment + issued).timestamp()), int((moment + ends).timestamp())
    description = f"ID Token issued at {iat} is stale to sign-in."
    refused(google.exchange(google.token(iat=iat, exp=exp)), "invalid_grant", description)


@pytest.mark.parametrize("seconds", [60, -24 * 3600])
def test_clocks_may_differ_by_a_minute_and_a_token_may_be_a_day_old(google: FakeGoogle, seconds: int) -> None:
    assert google.exchange(google.token(iat=int(google.clock.now().timestamp()) + seconds))[0] == 200


def test_a_token_that_is_not_yet_valid_is_stale(google: FakeGoogle) -> None:
    moment = int(google.clock.now().timestamp())
    refused(
        google.exchange(google.token(nbf=moment + 61)),
        "invalid_grant",
        f"ID Token issued at {moment} is stale to sign-in.",
    )


@pytest.mark.parametrize("value", [None, True, "1900000000", [], 1e300])
def test_a_token_without_moments_is_stale(google: FakeGoogle, value: Any) -> None:
    assert google.exchange(google.token(exp=value))[1]["error"] == "invalid_grant"
    refused(google.exchange(google.token(iat=value)), "invalid_grant", "ID Token issued at null is stale to sign-in.")


def test_a_signature_of_another_key_is_refused(google: FakeGoogle) -> None:
    other = FakeIssuer()
    description = "Unable to verify the ID Token signature."
    refused(google.exchange(other.token(google.clock.now())), "invalid_grant", description)


def test_a_key_that_nobody_has_reads_as_an_issuer_that_cannot_be_reached(
    google: FakeGoogle, issuer: FakeIssuer
) -> None:
    description = "Error connecting to the given credential's issuer."
    for headers in ({"kid": "other"}, {"kid": "rs"}, {"kid": "../es"}, {"kid": "es\x00"}, {"kid": "' OR '1'='1"}):
        token = issuer.sign(issuer.claims(google.clock.now()), **headers)
        refused(google.exchange(token), "invalid_grant", description)


def test_a_token_without_kid_is_refused(google: FakeGoogle, issuer: FakeIssuer) -> None:
    token = jwt.encode(issuer.claims(google.clock.now()), issuer.ec, algorithm="ES256")
    assert google.exchange(token)[1]["error"] == "invalid_grant"


def test_keys_that_a_token_brings_with_it_are_not_used(google: FakeGoogle) -> None:
    other = FakeIssuer()
    jwk = json.loads(other.jwks())["keys"][0]
    for header in ({"jwk": jwk}, {"jku": "http://127.0.0.1:1/keys"}, {"x5u": "http://127.0.0.1:1/"}):
        token = other.sign(other.claims(google.clock.now()), **header)
        refused(google.exchange(token), "invalid_grant", "Unable to verify the ID Token signature.")


def forged(header: dict[str, Any], claims: dict[str, Any], secret: bytes | None) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    body = f"{part(header)}.{part(claims)}"
    signature = b"" if secret is None else hmac.digest(secret, body.encode(), "sha256")
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "HS256", "HS512", "PS256", "ES384", "", "es256", None, 5, [], {}]
)
def test_no_algorithm_but_the_two(google: FakeGoogle, issuer: FakeIssuer, algorithm: Any) -> None:
    token = forged({"alg": algorithm, "kid": "rs"}, issuer.claims(google.clock.now()), None)
    status, body = google.exchange(token)
    assert (status, body["error"]) == (400, "invalid_grant")
    assert "is not supported" in body["error_description"]


def test_the_public_key_is_no_secret_for_hmac(google: FakeGoogle, issuer: FakeIssuer) -> None:
    public = issuer.rsa.public_key()
    for encoding, form in (
        (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.DER, serialization.PublicFormat.PKCS1),
    ):
        secret = public.public_bytes(encoding, form)
        for algorithm in ("HS256", "RS256"):
            token = forged({"alg": algorithm, "kid": "rs"}, issuer.claims(google.clock.now()), secret)
            assert google.exchange(token)[1]["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a.b",
        "a.b.c",
        "a.b.c.d.e",
        "..",
        "x" * 20_000,
        "e30.e30.e30\u00e9",
        f"{base64.urlsafe_b64encode(b'{' * 100).decode()}.e30.e30",
    ],
)
def test_what_is_no_token_cannot_be_parsed(google: FakeGoogle, token: str) -> None:
    status, body = google.exchange(token)
    assert (status, body["error"]) == (400, "invalid_grant")


def test_an_oversize_token_is_refused_though_it_is_signed(google: FakeGoogle) -> None:
    refused(google.exchange(google.token(pad="x" * 16_384)), "invalid_grant", "Unable to parse the ID Token.")


# ------------------------------------------------------------------- mapping and condition


def test_the_condition_rejects_another_trust_domain(google: FakeGoogle) -> None:
    refused(
        google.exchange(google.token(sub="spiffe://evil.example/ns/shop/sa/checkout")),
        "unauthorized_client",
        "The given credential is rejected by the attribute condition.",
    )


def test_a_token_without_subject_is_rejected_by_the_condition_first(google: FakeGoogle, issuer: FakeIssuer) -> None:
    assert google.exchange(google.token(sub=None))[1]["error"] == "unauthorized_client"
    google.configure(configuration(provider(issuer, attributeCondition="")))
    refused(
        google.exchange(google.token(sub=None)),
        "unauthorized_client",
        "Could not obtain a value for google.subject from the given credential.",
    )


def test_a_subject_has_127_bytes_and_not_one_more(google: FakeGoogle) -> None:
    prefix = "spiffe://shop.example/"
    assert google.exchange(google.token(sub=prefix + "a" * 127))[0] == 200
    assert google.exchange(google.token(sub=prefix + "\u00e9" * 64))[0] == 400
    refused(
        google.exchange(google.token(sub=prefix + "a" * 128)),
        "invalid_request",
        "The size of mapped attribute google.subject exceeds the 127 bytes limit. Either modify your attribute mapping "
        "or the incoming assertion to produce a mapped attribute that is less than 127 bytes.",
    )


def test_mapped_values_have_8_kilobytes_together(google: FakeGoogle) -> None:
    assert google.exchange(google.token(groups=["g" * 4000]))[0] == 200
    assert google.exchange(google.token(groups=["g" * 4000, "h" * 4200]))[1]["error"] == "invalid_request"


# ------------------------------------------------------------------- what is switched off


def test_a_disabled_provider_takes_no_more_tokens_but_those_it_gave_hold_on(
    google: FakeGoogle, issuer: FakeIssuer
) -> None:
    token = google.access_token()
    google.configure(configuration(provider(issuer, disabled=True)))
    assert google.exchange(google.token())[1]["error"] == "invalid_target"
    assert google.introspect(token)["active"] is True


def test_a_disabled_pool_ends_the_tokens_it_gave(google: FakeGoogle, issuer: FakeIssuer) -> None:
    token = google.access_token()
    google.configure(configuration(provider(issuer), disabled=True))
    assert google.exchange(google.token())[1]["error"] == "invalid_target"
    assert google.introspect(token) == {"active": False}
    google.configure({"pools": []})
    assert google.introspect(token) == {"active": False}


def test_a_token_ends(google: FakeGoogle) -> None:
    token = google.access_token()
    google.clock.advance(timedelta(seconds=299))
    assert google.introspect(token)["active"] is True
    google.clock.advance(timedelta(seconds=1))
    assert google.introspect(token) == {"active": False}


@pytest.mark.parametrize("token", ["", "x", "spangate-standin.", "spangate-standin.e30.x", "ya29.something", "\u00e9"])
def test_no_other_token_is_active(google: FakeGoogle, token: str) -> None:
    assert google.introspect(token) == {"active": False}


def test_the_names_of_groups_and_attributes_are_mapped(google: FakeGoogle) -> None:
    holder = google.standin._tokens._mint.read(google.access_token(groups=["staff"]))
    assert holder is not None
    assert holder.mapped is not None
    assert holder.pool == POOL
    assert holder.mapped.groups == ("staff",)
    assert holder.mapped.attributes == {"spiffe_id": SUBJECT}
