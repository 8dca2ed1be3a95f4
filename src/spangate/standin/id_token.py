"""Subject tokens that are JWTs (`jwt`, `id_token`): what Google's token service checks of them, in its order.

Rules (sts v1, subjectToken): `alg` RS256 or ES256, `kid`, `iss` the provider's, `aud` one of the allowed audiences or
the provider's own name with or without `https:`, `iat` in the past and at most 24 hours old, `exp` ahead. Measured in
September 2026: both clocks may differ by 60 s; a key that is not found reads as an issuer that cannot be reached.
A `kid` is compared and nothing else; whatever else a header names (`jwk`, `jku`, `x5c`) is not looked at.
Sharing no code with authority/, this is a second opinion on the tokens that the authority signs.
Not here: fetching keys (the caller's port), what claims become (mapping.py).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from spangate.standin import answers
from spangate.standin.config import Jwk, Oidc

ALGORITHMS = {"RS256": "RSA", "ES256": "EC"}
AGE_MAX = timedelta(hours=24)
# Measured: 60 s are forgiven, 61 s are not.
SKEW = timedelta(seconds=60)
# [guess] the documents name no bound; the longest tokens that issuers give out have a few thousand characters.
TOKEN_CHARACTERS_MAX = 16 * 1024
# Claims are flat but for Kubernetes' and GitHub's own; Python's parser recurses.
DEPTH_MAX = 16
AUDIENCES_MAX = 32

# The issuer's keys, None where they cannot be had. `again`: not those that were kept.
Keys = Callable[[Oidc, bool], tuple[Jwk, ...] | None]


@dataclass(frozen=True, slots=True)
class IdToken:
    """A verified token. `ends`: aware, UTC."""

    claims: Mapping[str, Any]
    ends: datetime


def verify_id_token(text: str, oidc: Oidc, audiences: frozenset[str], now: datetime, keys: Keys) -> IdToken:
    """What the token says, once it is believed. `audiences`: those that stand for the provider. Raises Refused."""
    header, claims = _parts(text)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise answers.unsupported_algorithm(str(algorithm)[:16])
    issuer = claims.get("iss")
    if issuer != oidc.issuer:
        raise answers.wrong_issuer(issuer if isinstance(issuer, str) else None, oidc.issuer)
    found = claims.get("aud", [])
    named = [found] if isinstance(found, str) else found
    if not isinstance(named, list) or len(named) > AUDIENCES_MAX or not audiences.intersection(map(str, named)):
        shown = ", ".join(map(str, named[:AUDIENCES_MAX])) if isinstance(named, list) else str(named)
        raise answers.wrong_audience(shown)
    _check_signature(text, algorithm, header.get("kid"), oidc, keys)
    return IdToken(claims, _end(claims, now))


def _parts(text: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    parts = text.split(".")
    if len(text) > TOKEN_CHARACTERS_MAX or len(parts) != 3:
        raise answers.unparsable_token()
    _decoded(parts[2])
    return _object(parts[0]), _object(parts[1])


def _decoded(part: str) -> bytes:
    """`part`, if it is base64url without padding, spelled in the only way there is."""
    try:
        data = base64.urlsafe_b64decode((part + "=" * (-len(part) % 4)).encode("ascii"))
    except (ValueError, binascii.Error):
        raise answers.unparsable_token() from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii") != part:
        raise answers.unparsable_token()
    return data


def _object(part: str) -> Mapping[str, Any]:
    try:
        text = _decoded(part).decode("utf-8")
        if text.count("{") + text.count("[") > DEPTH_MAX and _depth(text) > DEPTH_MAX:
            raise answers.unparsable_token()
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise answers.unparsable_token() from None
    if not isinstance(value, dict):
        raise answers.unparsable_token()
    return value


def _depth(text: str) -> int:
    depth = deepest = 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        deepest = max(deepest, depth)
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two claims of one name are two meanings of one token."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("twice")
    return found


def _no_constant(_: str) -> object:
    raise ValueError("not JSON")


def _check_signature(text: str, algorithm: str, key_id: object, oidc: Oidc, keys: Keys) -> None:
    jwk = _find(keys(oidc, False), key_id, algorithm) or _find(keys(oidc, True), key_id, algorithm)
    if jwk is None:
        raise answers.no_issuer_key()
    try:
        key = RSAKey.import_key(dict(jwk)) if jwk["kty"] == "RSA" else ECKey.import_key(dict(jwk))
        jws.deserialize_compact(text, key, algorithms=[algorithm])
    except (JoseError, ValueError, TypeError):
        raise answers.wrong_signature() from None


def _find(keys: tuple[Jwk, ...] | None, key_id: object, algorithm: str) -> Jwk | None:
    """The one key of that id for that algorithm: a key of the other kind is no key, nor are two of one id."""
    fitting = [
        key
        for key in keys or ()
        if key.get("kid") == key_id
        and key.get("kty") == ALGORITHMS[algorithm]
        and key.get("alg", algorithm) == algorithm
        and key.get("use", "sig") == "sig"
    ]
    return fitting[0] if len(fitting) == 1 else None


def _end(claims: Mapping[str, Any], now: datetime) -> datetime:
    """When the token ends, if it holds now."""
    issued, ends = _seconds(claims.get("iat")), _seconds(claims.get("exp"))
    begins = _seconds(claims.get("nbf", issued))
    if issued is None or ends is None or begins is None:
        raise answers.stale(issued)
    moment = now.timestamp()
    skew = SKEW.total_seconds()
    if max(issued, begins) > moment + skew or ends <= moment - skew:
        raise answers.stale(issued)
    if issued < moment - AGE_MAX.total_seconds():
        raise answers.stale(issued)
    return now + timedelta(seconds=min(ends - int(moment), int(AGE_MAX.total_seconds())))


def _seconds(value: object) -> int | None:
    """A moment in whole seconds; a bool is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if abs(value) < 10**12 else None
