"""A compact JWS (RFC 7515, section 7.1) read strictly, before anything in it is believed.

Rules: three parts in base64url without padding, spelled in the only way there is; header and claims are JSON objects in
UTF-8 in which no name stands twice and no number is infinite. The header holds `alg`, `kid` and perhaps `typ`, and
nothing else: whatever else could name a key, an encoding or a meaning (`jwk`, `jku`, `x5c`, `crit`, `b64`, `zip`, ...)
is refused, not ignored. Everything that is refused is refused with its reason.
Not here: signatures (jwt_verify.py), what claims mean (jwt_svid.py, kubernetes_token.py).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# A JWT-SVID has some 500 bytes, a Kubernetes token some 1,200.
TOKEN_CHARACTERS_MAX = 16 * 1024
KEY_ID_CHARACTERS_MAX = 128
# Claims are flat but for Kubernetes' own; Python's parser recurses.
DEPTH_MAX = 16

_HEADER_MEMBERS = frozenset({"alg", "kid", "typ"})
_TYPES = frozenset({"JWT", "JOSE"})
# RFC 7519, section 4.1: a StringOrURI, or a string.
_TEXTS = frozenset({"iss", "sub", "jti"})
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
# What issuers use: thumbprints, numbers, names. No slash, quote, space or control character belongs in it.
_KEY_ID = re.compile(r"[A-Za-z0-9._~=:+-]+", re.ASCII)


class BadToken(Exception):
    """The token is refused; the message says why, and holds nothing of the token itself."""


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """What a token says about itself. `claims` are JSON values."""

    algorithm: str
    key_id: str
    claims: Mapping[str, Any] = field(repr=False)
    text: str = field(repr=False)


def read_token(text: str) -> UnverifiedToken:
    """What `text` says. Raises BadToken."""
    if len(text) > TOKEN_CHARACTERS_MAX:
        raise BadToken(f"it is longer than {TOKEN_CHARACTERS_MAX} characters")
    parts = text.split(".")
    if len(parts) == 5:
        raise BadToken("it is encrypted (JWE); only signed tokens are taken")
    if len(parts) != 3:
        raise BadToken("it is not three parts joined by dots")
    header = _object(_decoded(parts[0], "header"), "header")
    claims = _object(_decoded(parts[1], "claims"), "claims")
    _decoded(parts[2], "signature")
    for name in _TEXTS & claims.keys():
        if not isinstance(claims[name], str):
            raise BadToken(f"its `{name}` is not a text")
    more = sorted(header.keys() - _HEADER_MEMBERS)
    if more:
        raise BadToken(f"its header has the member {_shown(more[0])}, which is not taken")
    algorithm, key_id, type_ = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str):
        raise BadToken("its header names no algorithm")
    if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id) or len(key_id) > KEY_ID_CHARACTERS_MAX:
        raise BadToken("its header names no key, or in a way that no key is named")
    if not isinstance(type_, str) or type_ not in _TYPES:
        raise BadToken("its type is neither JWT nor JOSE")
    return UnverifiedToken(algorithm, key_id, claims, text)


def _decoded(part: str, called: str) -> bytes:
    if not _BASE64URL.fullmatch(part):
        raise BadToken(f"its {called} is not base64url without padding")
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (ValueError, binascii.Error):
        raise BadToken(f"its {called} is not base64url without padding") from None
    # Bits behind the last byte would be a second spelling of one signature.
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii") != part:
        raise BadToken(f"its {called} is not spelled in the only way")
    return data


def _object(data: bytes, called: str) -> dict[str, Any]:
    try:
        text = data.decode("utf-8")
        if _too_deep(text):
            raise BadToken(f"its {called} is nested deeper than {DEPTH_MAX} levels")
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadToken(f"its {called} is not a JSON object in which every name stands once") from None
    if not isinstance(value, dict):
        raise BadToken(f"its {called} is not a JSON object in which every name stands once")
    return value


def _too_deep(text: str) -> bool:
    """More brackets than that in a row of openings; those in strings count too, which no honest token notices."""
    depth = deepest = 0
    for letter in text:
        if letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    return deepest > DEPTH_MAX


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("twice")
    return found


def _no_constant(_: str) -> object:
    raise ValueError("not JSON")


def _shown(name: str) -> str:
    return f"`{name}`" if name.isascii() and name.isprintable() and len(name) <= 32 else "of another name"
