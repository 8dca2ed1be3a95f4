"""What the stand-in answers, in Google's words and forms.

Two forms: the token service (sts v1) answers errors as RFC 6749, section 5.2, has them; IAM Credentials answers
google.rpc.Status in JSON. Each text says where it was read:
    [seen]   quoted by somebody who got it from the real service, or measured against it (September 2026)
    [doc]    in Google's own troubleshooting pages
    [guess]  nobody has shown the real text; code and meaning follow the documents, the words are ours
Rules: no answer holds a token, but the one that is asked for.
Not here: when which answer is due (sts.py, iam_credentials.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_SIGN_IN = "See https://developers.google.com/identity/sign-in/web/devconsole-project."
_EXPECTED = "Expected OAuth 2 access token, login cookie or other valid authentication credential."


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer with a JSON object in it, which may be a token."""

    status: int
    body: Mapping[str, Any] = field(repr=False)


class Refused(Exception):
    """The request ends with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer.body))
        self.answer = answer


# ------------------------------------------------------------------- token service


def _oauth(error: str, description: str, status: int = 400) -> Refused:
    return Refused(Answer(status, {"error": error, "error_description": description}))


def invalid_value(parameter: str) -> Refused:
    """A parameter is missing or not one of the possible ones. [guess], after the one for `audience`."""
    return _oauth("invalid_request", f'Invalid value for "{parameter}".')


def invalid_audience() -> Refused:
    """[seen] google-github-actions/auth#60, #211, #521."""
    return _oauth(
        "invalid_request",
        'Invalid value for "audience". This value should be the full resource name of the Identity Provider. See '
        "https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the list of possible formats.",
    )


def no_target() -> Refused:
    """No such pool or provider, or disabled, or deleted. [seen] google-github-actions/auth#161, #202, #370."""
    return _oauth(
        "invalid_target",
        'The target service indicated by the "audience" parameters is invalid. This might either be because the pool '
        "or provider is disabled or deleted or because it doesn't exist.",
    )


def unparsable_token() -> Refused:
    """[guess] as sts; the text is Identity Platform's for the same tokens."""
    return _oauth("invalid_grant", "Unable to parse the ID Token.")


def unsupported_algorithm(algorithm: str) -> Refused:
    """[guess] sts v1 only says which algorithms there may be."""
    return _oauth("invalid_grant", f"The algorithm [{algorithm}] of the ID Token is not supported: RS256 or ES256.")


def wrong_issuer(found: str | None, expected: str) -> Refused:
    """[seen] measured; older quotes end with `the expected ones: ...`."""
    shown = "null" if found is None else found
    return _oauth(
        "invalid_grant", f"The issuer in ID Token {shown} does not match the expected one in config: {expected}."
    )


def wrong_audience(found: str) -> Refused:
    """[seen] measured, and often quoted."""
    return _oauth("invalid_grant", f"The audience in ID Token [{found}] does not match the expected audience.")


def stale(issued: int | None) -> Refused:
    """Too old, ended, not yet begun, or without `iat` or `exp`. [seen] measured for all but `not yet`."""
    shown = "null" if issued is None else str(issued)
    return _oauth("invalid_grant", f"ID Token issued at {shown} is stale to sign-in.")


def wrong_signature() -> Refused:
    """The key is the issuer's, the signature is not. [seen] measured."""
    return _oauth("invalid_grant", "Unable to verify the ID Token signature.")


def no_issuer_key() -> Refused:
    """The issuer cannot be reached, or has no such key. [seen] measured; [doc]."""
    return _oauth("invalid_grant", "Error connecting to the given credential's issuer.")


def rejected_by_condition() -> Refused:
    """[seen] terraform-google-modules/terraform-example-foundation#1362."""
    return _oauth("unauthorized_client", "The given credential is rejected by the attribute condition.")


def no_subject() -> Refused:
    """[doc] for client certificates, [seen] for tokens."""
    return _oauth("unauthorized_client", "Could not obtain a value for google.subject from the given credential.")


def too_long_attribute(name: str, bytes_max: int) -> Refused:
    """[doc] for `google.subject`; for the others the same sentence."""
    return _oauth(
        "invalid_request",
        f"The size of mapped attribute {name} exceeds the {bytes_max} bytes limit. Either modify your attribute "
        f"mapping or the incoming assertion to produce a mapped attribute that is less than {bytes_max} bytes.",
    )


def bad_certificate(why: str) -> Refused:
    """[guess] nobody has quoted what Google says to a chain that it refuses; `why` is ours."""
    return _oauth("invalid_grant", f"The given certificate chain is rejected: {why}.")


def throttled() -> Refused:
    """[doc]."""
    return _oauth(
        "quota_exceeded",
        "The request was throttled due to rate limit: sts.googleapis.com/requests. Please retry after a few seconds.",
        429,
    )


# ------------------------------------------------------------------- IAM Credentials


def rpc_status(code: int, status: str, message: str, *details: Mapping[str, Any]) -> Answer:
    """google.rpc.Status, as Google's JSON APIs answer it."""
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    if details:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", **one} for one in details]
    return Answer(code, {"error": error})


def no_credentials() -> Refused:
    """[seen] in front of every Google API."""
    return Refused(
        rpc_status(
            401,
            "UNAUTHENTICATED",
            f"Request is missing required authentication credential. {_EXPECTED} {_SIGN_IN}",
            {"reason": "CREDENTIALS_MISSING", "domain": "googleapis.com"},
        )
    )


def bad_credentials() -> Refused:
    """[doc]."""
    message = f"Request had invalid authentication credentials. {_EXPECTED} {_SIGN_IN}"
    return Refused(rpc_status(401, "UNAUTHENTICATED", message))


def permission_denied(permission: str) -> Refused:
    """[seen] google-github-actions/auth#340, DataDog/stratus-red-team#299."""
    return Refused(
        rpc_status(
            403,
            "PERMISSION_DENIED",
            f"Permission '{permission}' denied on resource (or it may not exist).",
            {"reason": "IAM_PERMISSION_DENIED", "domain": "iam.googleapis.com", "metadata": {"permission": permission}},
        )
    )


def insufficient_scope(method: str) -> Refused:
    """[seen] fluent/fluent-bit#5410."""
    metadata = {"service": "iamcredentials.googleapis.com", "method": method}
    return Refused(
        rpc_status(
            403,
            "PERMISSION_DENIED",
            "Request had insufficient authentication scopes.",
            {"reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "domain": "googleapis.com", "metadata": metadata},
        )
    )


def invalid_argument(message: str) -> Refused:
    """[seen] as a form; the texts say for themselves."""
    return Refused(rpc_status(400, "INVALID_ARGUMENT", message))


def bad_account(found: str) -> Refused:
    """[seen] as answered to signBlob, which reads the same name."""
    return invalid_argument(
        f"Invalid form of account ID {found}. Should be [Gaia ID |Email |Unique ID |] of the account"
    )


def lifetime_not_positive() -> Refused:
    """[seen] measured."""
    return invalid_argument("Lifetime of access token must be larger then zero.")


def lifetime_too_long(hours: int) -> Refused:
    """[seen] measured, the end of it; what stands before is [guess]."""
    if hours == 1:
        return invalid_argument(
            "Access tokens can not have lifetimes of more than 1 hour. Use the Org Policy Constraint "
            "constraints/iam.allowServiceAccountCredentialLifetimeExtension to allow up to 12 hours."
        )
    return invalid_argument(f"Access tokens can not have lifetimes of more than {hours} hours.")


def exhausted() -> Answer:
    """[guess] the sentence; the form is that of every Google API that is asked too often."""
    return rpc_status(
        429,
        "RESOURCE_EXHAUSTED",
        "Quota exceeded for quota metric 'Generate credentials requests'.",
        {"reason": "RATE_LIMIT_EXCEEDED", "domain": "googleapis.com"},
    )


def not_found(path: str) -> Answer:
    """[guess] nothing is at that path."""
    return rpc_status(404, "NOT_FOUND", f"nothing of Spangate's stand-in for Google is at `{path}`")
