"""What Google answers, read strictly.

Rules: a body has a bound; what is not exactly what the documentation promises raises BadAnswer, whose text is ours and
holds nothing of the body; a token is one line of visible ASCII, since it becomes a header's value.
Sources: the discovery documents of sts v1 (GoogleIdentityStsV1ExchangeTokenResponse) and iamcredentials v1
(GenerateAccessTokenResponse); RFC 6750, section 2.1, for the characters of a bearer token.
Not here: what is asked (exchange.py, impersonation.py), what a refusal means (diagnosis.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Google promises that access tokens stay below 12,288 bytes for now; beside one, an answer holds some short words.
TOKEN_BYTES_MAX = 16 * 1024
ANSWER_BYTES_MAX = 64 * 1024
# Google's tokens live an hour, twelve where an organisation wants it so. What says more is not one of them.
EXPIRES_IN_SECONDS_MAX = 12 * 3600
# b64token, and `:` beside it, which some of Google's tokens were seen to hold.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/:=-]+", re.ASCII)


class BadAnswer(Exception):
    """The answer is not what was promised. The text is fit for everybody."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A token, and for how many seconds from the moment its answer came it is good."""

    text: str = field(repr=False)
    seconds: float


def json_object(body: bytes) -> Mapping[str, Any]:
    """The JSON object that `body` is. Raises BadAnswer."""
    if len(body) > ANSWER_BYTES_MAX:
        raise BadAnswer(f"it is longer than {ANSWER_BYTES_MAX} bytes")
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadAnswer("it is not JSON") from None
    if not isinstance(value, dict):
        raise BadAnswer("it is not a JSON object")
    return value


def access_token(value: object) -> str:
    """`value`, if it can be a bearer token. Raises BadAnswer."""
    if not isinstance(value, str) or not 0 < len(value) <= TOKEN_BYTES_MAX or not _TOKEN.fullmatch(value):
        raise BadAnswer("it holds no access token")
    return value


def _no_constant(_: str) -> None:
    raise ValueError("NaN and Infinity are no JSON")
