"""A request to the stand-in, and the two ways in which the token service takes one.

Rules: JSON with names in camelCase or snake_case, or a form (what google-auth sends); a name at most once, values
texts; unknown names are refused in JSON, as Google's JSON APIs do, and passed over in forms.
Not here: what the values mean (sts.py, iam_credentials.py).
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spangate.standin import answers

# `options` may have 4 MB (sts v1), and more than one subject token goes besides.
BODY_BYTES_MAX = 5 * 1024 * 1024
FIELDS_MAX = 32
FORM = "application/x-www-form-urlencoded"
_FIELDS = {
    "grantType": "grant_type",
    "audience": "audience",
    "scope": "scope",
    "requestedTokenType": "requested_token_type",
    "subjectToken": "subject_token",
    "subjectTokenType": "subject_token_type",
    "options": "options",
    "actorToken": "actor_token",
    "actorTokenType": "actor_token_type",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """An HTTP request. `certificate`: what the client showed in the TLS handshake, DER."""

    method: str
    path: str
    content_type: str = ""
    authorization: str | None = field(default=None, repr=False)
    body: bytes = field(default=b"", repr=False)
    certificate: bytes | None = None


def read_fields(asked: Asked) -> Mapping[str, str]:
    """The parameters by their names in snake_case. Raises Refused."""
    if asked.content_type.partition(";")[0].strip().lower() == FORM:
        return _form(asked.body)
    value = read_json(asked)
    fields: dict[str, str] = {}
    for key, one in value.items():
        name = _FIELDS.get(key, key)
        if name not in _FIELDS.values():
            raise answers.invalid_argument(
                f'Invalid JSON payload received. Unknown name "{key[:64]}": Cannot find field.'
            )
        if name in fields or not isinstance(one, str):
            raise answers.invalid_value(name)
        fields[name] = one
    return fields


def read_json(asked: Asked) -> dict[str, Any]:
    """The body as a JSON object. Raises Refused."""
    try:
        value = json.loads(asked.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise answers.invalid_argument("Invalid JSON payload received.")
    # As protobuf reads JSON: null is the field left out.
    return {key: one for key, one in value.items() if one is not None}


def _form(body: bytes) -> Mapping[str, str]:
    try:
        pairs = urllib.parse.parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            max_num_fields=FIELDS_MAX,
            errors="strict",
        )
    except ValueError:
        raise answers.invalid_value("body") from None
    fields: dict[str, str] = {}
    for key, value in pairs:
        name = _FIELDS.get(key, key)
        if name in fields:
            raise answers.invalid_value(name)
        fields[name] = value
    return fields


def unquoted(text: str) -> str:
    """`text` without percent-encoding."""
    return urllib.parse.unquote(text)
