"""The exchange at Google's security token service: a subject token becomes a federated access token (RFC 8693).

Rules: the audience is the provider's full name, exactly; what is asked is what is granted, or the answer is refused;
the subject token's text appears in no `repr`.
Sources: discovery document of sts v1 (method `token`); RFC 8693, sections 2.1 and 2.2.
Not here: where subject tokens come from, HTTP (adapters/), impersonation (impersonation.py).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spangate.broker.answers import EXPIRES_IN_SECONDS_MAX, BadAnswer, Grant, access_token, json_object
from spangate.model.google import GoogleFederation, SubjectTokenType

TOKEN_PATH = "/v1/token"  # noqa: S105 - a path, not a secret
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type, not a secret
# "expires_in" is recommended only (RFC 8693, 2.2.1), and Google leaves it out in one case. Then nothing is known but
# that Google gives no shorter tokens than this one (an impersonated one may be asked for five minutes).
UNKNOWN_LIFETIME_SECONDS = 300
# All that a federated token needs which is only used to impersonate.
IMPERSONATION_SCOPE = "https://www.googleapis.com/auth/iam"


@dataclass(frozen=True, slots=True)
class SubjectToken:
    """What a workload is known to Google by. For `mtls`, `text` is the chain, and the connection proves it."""

    type: SubjectTokenType
    text: str = field(repr=False)


def certificate_chain_token(chain_der: Sequence[bytes]) -> SubjectToken:
    """The subject token of an X.509-SVID: its chain, the leaf first, as a JSON list of base64."""
    encoded = [base64.b64encode(one).decode("ascii") for one in chain_der]
    return SubjectToken(SubjectTokenType.MTLS, json.dumps(encoded))


def exchange_form(
    federation: GoogleFederation, subject: SubjectToken, options: Mapping[str, object] | None = None
) -> dict[str, str]:
    """The fields of the form for `POST /v1/token`. `options` is Google's JSON object of that name (`userProject`)."""
    if subject.type is not federation.subject_token:
        raise ValueError(f"the provider takes {federation.subject_token.value}, not {subject.type.value}")
    fields = {
        "grant_type": GRANT_TYPE,
        "audience": federation.audience,
        "scope": " ".join(_scopes(federation)),
        "requested_token_type": ACCESS_TOKEN_TYPE,
        "subject_token": subject.text,
        "subject_token_type": subject.type.urn,
    }
    if options:
        # Encoded here and once more with the form, as Google's own libraries send it.
        fields["options"] = _quoted(json.dumps(options))
    return fields


def read_exchange(body: bytes) -> Grant:
    """The federated token of a 200. Raises BadAnswer."""
    answer = json_object(body)
    token_type = answer.get("token_type")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        raise BadAnswer("its token is not a bearer token")
    if answer.get("issued_token_type") != ACCESS_TOKEN_TYPE:
        raise BadAnswer("its token is no access token")
    return Grant(access_token(answer.get("access_token")), _lifetime(answer.get("expires_in")))


def _scopes(federation: GoogleFederation) -> tuple[str, ...]:
    """What the identity may do with it; where it impersonates, that is asked of the service account's token."""
    return federation.scopes if federation.impersonation is None else (IMPERSONATION_SCOPE,)


def _quoted(text: str) -> str:
    """Percent-encoding (RFC 3986, section 2.1)."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._~") else _percent(c) for c in text)


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _lifetime(value: object) -> float:
    if value is None:
        return UNKNOWN_LIFETIME_SECONDS
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= EXPIRES_IN_SECONDS_MAX:
        raise BadAnswer("its `expires_in` is no number of seconds")
    return value
