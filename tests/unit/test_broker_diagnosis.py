"""Google's refusals: which link of the chain is wrong, and what shows it, without a word of what was sent."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spangate.broker.diagnosis import (
    QUOTE_CHARACTERS_MAX,
    Call,
    ChainBroken,
    GoogleAway,
    Link,
    StrangeAnswer,
    diagnose,
    quoted,
    refusal,
)
from spangate.errors import PeersFault, TryAgain, YourFault
from spangate.model.google import GoogleFederation, Impersonation
from spangate.standin import answers

ACCOUNT = "shop-db@shop-project.iam.gserviceaccount.com"
FEDERATION = GoogleFederation("123456789012", "mesh", "spangate", impersonation=Impersonation(ACCOUNT))
AUDIENCE_HINT = (
    'Invalid value for "audience". This value should be the full resource name of the Identity Provider. See '
    "https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the list of possible formats."
)
TARGET_HINT = (
    'The target service indicated by the "audience" parameters is invalid. This might either be because the pool or '
    "provider is disabled or deleted or because it doesn't exist."
)
LENGTH_HINT = (
    "The size of mapped attribute google.subject exceeds the 127 bytes limit. Either modify your attribute mapping or "
    "the incoming assertion to produce a mapped attribute that is less than 127 bytes."
)

# Error bodies as the token service gives them.
EXCHANGE = [
    ("invalid_request", AUDIENCE_HINT, Link.AUDIENCE),
    ("invalid_target", TARGET_HINT, Link.POOL_OR_PROVIDER),
    ("invalid_grant", "The audience in ID Token [https://other] does not match the expected audience.", Link.AUDIENCE),
    ("invalid_grant", "The issuer in ID Token https://other does not match the expected ones: https://a", Link.ISSUER),
    ("invalid_grant", "Error connecting to the given credential's issuer.", Link.ISSUER),
    ("unauthorized_client", "The given credential is rejected by the attribute condition.", Link.ATTRIBUTE_CONDITION),
    ("invalid_request", LENGTH_HINT, Link.SUBJECT_LENGTH),
    ("unauthorized_client", "The mapped attribute 'google.subject' must be of type STRING.", Link.ATTRIBUTE_MAPPING),
    ("invalid_grant", "ID Token issued at 1764194400 is stale to sign-in.", Link.CLOCK),
    ("invalid_grant", "Invalid JWT signature.", Link.SIGNATURE),
    ("invalid_grant", "Unable to verify the ID Token signature: no matching key id.", Link.SIGNATURE),
    ("invalid_grant", "The given certificate is not trusted by the trust store.", Link.CERTIFICATE),
    ("invalid_scope", "Some requested scopes cannot be shown.", Link.SCOPE),
]


def oauth(code, text):
    return json.dumps({"error": code, "error_description": text}).encode()


def api(code, status, message, reason=None):
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
    return json.dumps({"error": {"code": code, "status": status, "message": message, "details": details}}).encode()


DENIED = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
UNUSED = "IAM Service Account Credentials API has not been used in project 1 before or it is disabled."
IMPERSONATION = [
    (403, api(403, "PERMISSION_DENIED", DENIED, "IAM_PERMISSION_DENIED"), Link.ROLE_BINDING),
    (403, api(403, "PERMISSION_DENIED", UNUSED, "SERVICE_DISABLED"), Link.API),
    (404, api(404, "NOT_FOUND", "Not found; Gaia id not found for email shop-db"), Link.SERVICE_ACCOUNT),
    (400, api(400, "INVALID_ARGUMENT", "The lifetime exceeds the maximum."), Link.LIFETIME),
    (401, api(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."), Link.POOL_OR_PROVIDER),
]


@pytest.mark.parametrize(("code", "text", "link"), EXCHANGE)
def test_a_refused_exchange_names_the_link_and_the_command(code, text, link):
    found = diagnose(Call.EXCHANGE, 400, oauth(code, text), FEDERATION)
    assert found.link is link
    assert found.command is not None
    expected = "timedatectl" if link is Link.CLOCK else "gcloud iam workload-identity-pools "
    assert found.command.startswith(expected)


STANDIN = [
    (Call.EXCHANGE, answers.invalid_audience(), Link.AUDIENCE),
    (Call.EXCHANGE, answers.no_target(), Link.POOL_OR_PROVIDER),
    (Call.EXCHANGE, answers.wrong_issuer("https://a", "https://b"), Link.ISSUER),
    (Call.EXCHANGE, answers.wrong_audience("https://a"), Link.AUDIENCE),
    (Call.EXCHANGE, answers.stale(7), Link.CLOCK),
    (Call.EXCHANGE, answers.wrong_signature(), Link.SIGNATURE),
    (Call.EXCHANGE, answers.no_issuer_key(), Link.ISSUER),
    (Call.EXCHANGE, answers.rejected_by_condition(), Link.ATTRIBUTE_CONDITION),
    (Call.EXCHANGE, answers.no_subject(), Link.ATTRIBUTE_MAPPING),
    (Call.EXCHANGE, answers.too_long_attribute("google.subject", 127), Link.SUBJECT_LENGTH),
    (Call.EXCHANGE, answers.bad_certificate("its root is not trusted"), Link.CERTIFICATE),
    (Call.EXCHANGE, answers.invalid_value("scope"), Link.SCOPE),
    (Call.EXCHANGE, answers.throttled(), Link.QUOTA),
    (Call.IMPERSONATION, answers.bad_credentials(), Link.POOL_OR_PROVIDER),
    (Call.IMPERSONATION, answers.permission_denied("iam.serviceAccounts.getAccessToken"), Link.ROLE_BINDING),
    (Call.IMPERSONATION, answers.insufficient_scope("GenerateAccessToken"), Link.SCOPE),
    (Call.IMPERSONATION, answers.bad_account("x"), Link.SERVICE_ACCOUNT),
    (Call.IMPERSONATION, answers.lifetime_too_long(1), Link.LIFETIME),
    (Call.IMPERSONATION, answers.lifetime_not_positive(), Link.LIFETIME),
]


@pytest.mark.parametrize(("call", "refused", "link"), STANDIN)
def test_what_the_stand_in_says_names_the_link(call, refused, link):
    body = json.dumps(dict(refused.answer.body)).encode()
    assert diagnose(call, refused.answer.status, body, FEDERATION).link is link


@pytest.mark.parametrize(("status", "body", "link"), IMPERSONATION)
def test_a_refused_impersonation_names_the_link_and_the_command(status, body, link):
    found = diagnose(Call.IMPERSONATION, status, body, FEDERATION)
    assert found.link is link
    assert found.command is not None
    assert found.command.startswith("gcloud ")


def test_commands_are_whole():
    wrong = diagnose(Call.EXCHANGE, 400, oauth("invalid_grant", "Invalid JWT signature."), FEDERATION)
    assert wrong.command == (
        "gcloud iam workload-identity-pools providers describe spangate --location=global "
        "--workload-identity-pool=mesh --project=123456789012"
    )
    denied = diagnose(Call.IMPERSONATION, *IMPERSONATION[0][:2], FEDERATION)
    assert denied.command == f"gcloud iam service-accounts get-iam-policy {ACCOUNT}"


def test_what_can_be_mended_what_passes_and_what_nobody_knows_are_different_errors():
    mended = refusal(Call.EXCHANGE, 400, oauth("invalid_target", TARGET_HINT), FEDERATION, [])
    assert isinstance(mended, ChainBroken)
    assert isinstance(mended, YourFault)
    assert mended.help is not None
    for status in (429, 500, 502, 503, 504, 408):
        away = refusal(Call.EXCHANGE, status, b"", FEDERATION, [], 7.0)
        assert isinstance(away, GoogleAway)
        assert isinstance(away, TryAgain)
        assert away.retry_after_seconds == 7.0
        assert away.link is (Link.QUOTA if status == 429 else Link.GOOGLE_AWAY)
    strange = refusal(Call.EXCHANGE, 418, b"<html>teapot</html>", FEDERATION, [])
    assert isinstance(strange, StrangeAnswer)
    assert isinstance(strange, PeersFault)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 7}', b'{"error": {"details": [1]}}', b"[" * 9999])
@pytest.mark.parametrize("call", list(Call))
def test_a_body_that_nobody_knows_is_unknown(call, body):
    assert diagnose(call, 400, body, FEDERATION).link is Link.UNKNOWN


JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzcGlmZmU6Ly9hL2IifQ.c2lnbmF0dXJlLXRoYXQtaXMtbG9uZy1lbm91Z2gtdG8tYmUtb25l"


@pytest.mark.parametrize(
    "secret", [JWT, "ya29.c.short-one", "spangate-standin.abc.def", "Zm9vYmFyZm9vYmFyZm9vYmFy/Zm9vYmFyZm9vYmFyZm9vYmFy"]
)
def test_a_token_that_google_echoes_is_not_quoted(secret):
    for body in (oauth("invalid_grant", f"Bad token {secret} found"), oauth(secret, ""), oauth("x", secret[:30])):
        found = diagnose(Call.EXCHANGE, 400, body, FEDERATION, [secret])
        for piece in secret.split("."):
            if len(piece) > 15:
                assert piece not in found.sentence
    assert "ya29" not in quoted("unsent ya29.abc")
    assert JWT.split(".")[1] not in quoted(f"unsent {JWT}")


WORDS = st.sampled_from(["audience", "issuer", "\x1b[31m", "\n", "signature", "scope", "ä", "stale", JWT, "a" * 500])


@given(st.lists(WORDS | st.text(max_size=30), max_size=20).map(" ".join), st.integers(300, 599), st.sampled_from(Call))
def test_every_sentence_is_one_bounded_line_of_printable_ascii(text, status, call):
    for body in (oauth("invalid_grant", text), oauth(text, text), api(status, text, text, text), text.encode()):
        found = diagnose(call, status, body, FEDERATION, [JWT])
        assert set(found.sentence) <= set(string.printable) - set("\t\n\r\x0b\x0c")
        assert len(found.sentence) < QUOTE_CHARACTERS_MAX + 400
        assert "eyJhbG" not in found.sentence
