"""What is asked of Google, and what of its answers is believed."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import timedelta
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.clock import NOON
from spangate.broker.answers import ANSWER_BYTES_MAX, TOKEN_BYTES_MAX, BadAnswer, json_object
from spangate.broker.exchange import (
    UNKNOWN_LIFETIME_SECONDS,
    SubjectToken,
    certificate_chain_token,
    exchange_form,
    read_exchange,
)
from spangate.broker.impersonation import generate_body, generate_path, read_generated
from spangate.model.google import GoogleFederation, Impersonation, SubjectTokenType

FEDERATION = GoogleFederation("123456789012", "mesh", "spangate")
ACCOUNT = "shop-db@shop-project.iam.gserviceaccount.com"
DELEGATE = "shop-hop@shop-project.iam.gserviceaccount.com"
GOOD = {
    "access_token": "ya29.c.abc-DEF_123",
    "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "token_type": "Bearer",
    "expires_in": 3599,
}


def form(federation=FEDERATION, text="header.payload.signature", **options):
    return exchange_form(federation, SubjectToken(federation.subject_token, text), options or None)


@pytest.mark.parametrize("kind", list(SubjectTokenType))
def test_an_exchange_asks_for_exactly_this(kind):
    federation = GoogleFederation("123456789012", "mesh", "spangate", kind)
    assert form(federation) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/mesh"
        "/providers/spangate",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token": "header.payload.signature",
        "subject_token_type": f"urn:ietf:params:oauth:token-type:{kind.value}",
    }


def test_options_are_json_that_is_encoded_as_googles_libraries_do_it():
    options = form(userProject="other/ä ~")["options"]
    assert json.loads(unquote(options)) == {"userProject": "other/ä ~"}
    assert options.isascii()
    assert not set(options) & set('{"/ ')


def test_whoever_impersonates_asks_for_no_more_than_that():
    federation = GoogleFederation("1", "mesh", "spangate", impersonation=Impersonation(ACCOUNT))
    assert form(federation)["scope"] == "https://www.googleapis.com/auth/iam"


def test_several_scopes_are_separated_by_spaces():
    assert form(GoogleFederation("1", "mesh", "spangate", scopes=("a", "b")))["scope"] == "a b"


def test_a_subject_token_of_another_kind_than_the_providers_is_not_sent():
    with pytest.raises(ValueError, match="takes jwt, not mtls"):
        exchange_form(FEDERATION, SubjectToken(SubjectTokenType.MTLS, "[]"))


def test_the_subject_token_of_a_certificate_is_its_chain_leaf_first():
    token = certificate_chain_token([b"leaf", b"intermediate"])
    assert [base64.b64decode(one) for one in json.loads(token.text)] == [b"leaf", b"intermediate"]


def test_secrets_are_not_in_any_repr():
    grant = read_exchange(json.dumps(GOOD).encode())
    assert GOOD["access_token"] not in repr(grant)
    assert "secret" not in repr(SubjectToken(SubjectTokenType.JWT, "secret"))


def test_a_good_answer_is_a_token_and_how_long_it_lives():
    grant = read_exchange(json.dumps(GOOD).encode())
    assert (grant.text, grant.seconds) == (GOOD["access_token"], 3599)


def test_an_answer_without_a_lifetime_is_taken_for_short():
    answer = {key: value for key, value in GOOD.items() if key != "expires_in"}
    assert read_exchange(json.dumps(answer).encode()).seconds == UNKNOWN_LIFETIME_SECONDS


@pytest.mark.parametrize(
    "change",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "two words"},
        {"access_token": "line\r\nx-header: 1"},
        {"access_token": "t\u00f6ken"},
        {"access_token": "x" * (TOKEN_BYTES_MAX + 1)},
        {"token_type": "mac"},
        {"token_type": None},
        {"issued_token_type": "urn:ietf:params:oauth:token-type:jwt"},
        {"issued_token_type": None},
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": "3599"},
        {"expires_in": True},
        {"expires_in": 3599.5},
        {"expires_in": 10**9},
    ],
)
def test_an_answer_that_is_not_what_was_promised_is_refused(change):
    with pytest.raises(BadAnswer) as caught:
        read_exchange(json.dumps(GOOD | change).encode())
    assert GOOD["access_token"] not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b'{"a": NaN}', b"[" * 50_000, b"<html>", b'{"a"'])
def test_what_is_no_json_object_is_refused(body):
    with pytest.raises(BadAnswer):
        json_object(body)


def test_a_body_has_a_bound():
    with pytest.raises(BadAnswer, match="longer than"):
        json_object(b" " * ANSWER_BYTES_MAX + b"{}")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_raise_anything_else(body):
    for read in (read_exchange, lambda b: read_generated(b, Impersonation(ACCOUNT), NOON)):
        with contextlib.suppress(BadAnswer):
            read(body)


# Impersonation


def test_an_impersonation_asks_for_exactly_this():
    impersonation = Impersonation(ACCOUNT, (DELEGATE,), 600)
    assert generate_path(impersonation) == f"/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
    assert json.loads(generate_body(impersonation, ["scope-a"])) == {
        "scope": ["scope-a"],
        "lifetime": "600s",
        "delegates": [f"projects/-/serviceAccounts/{DELEGATE}"],
    }
    with pytest.raises(ValueError, match="not the address"):
        generate_path(Impersonation("../x"))
    assert "delegates" not in json.loads(generate_body(Impersonation(ACCOUNT), ["scope-a"]))


def generated(ends, **change):
    answer = {"accessToken": "ya29.sa", "expireTime": ends} | change
    return read_generated(json.dumps(answer).encode(), Impersonation(ACCOUNT, (), 600), NOON)


def moment(seconds):
    return (NOON + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_service_accounts_token_lives_until_its_end_but_no_longer_than_was_asked():
    assert generated(moment(500)).seconds == 500
    assert generated(moment(500).replace("Z", ".123456789Z")).seconds == 500
    # Our own clock is slow: that prolongs nothing.
    assert generated(moment(5000)).seconds == 600


@pytest.mark.parametrize(
    "ends",
    [None, 7, "", "tomorrow", "2030-01-02T12:05:00", "2030-13-02T12:05:00Z", "2030-01-02T12:05:00+01:00", moment(0)],
)
def test_an_end_that_is_none_or_has_passed_is_refused(ends):
    with pytest.raises(BadAnswer):
        generated(ends)


def test_a_service_accounts_token_must_be_one():
    with pytest.raises(BadAnswer):
        generated(moment(500), accessToken="a b")
