"""Whether a token was signed by one of an issuer's keys, and is good now, for whom it is shown to.

Rules: the algorithm is one of those that the caller takes, never what the token alone says, and the key is one that
fits it by type, curve, `alg` and `use`: a public key is never a secret for HMAC, and `none` is no algorithm. A key is
found by its id in the issuer's own set. Times are whole seconds; a clock may be wrong by CLOCK_SKEW for what lies in
the future, and by nothing for what has ended. The audience is exactly one of the token's.
Source: RFC 7515, RFC 7518, RFC 7519, RFC 8725 (best current practices); verification itself is joserfc's.
Not here: reading (jwt_reader.py), what claims mean to whom (jwt_svid.py, kubernetes_token.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from spangate.authority.jwt_reader import BadToken, UnverifiedToken

CLOCK_SKEW = timedelta(seconds=30)
AUDIENCES_MAX = 16
# What each algorithm takes: key type, and curve or least size in bits.
_KEY_OF: Mapping[str, tuple[str, str | int]] = {
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "RS256": ("RSA", 2048),
}
ALGORITHMS = frozenset(_KEY_OF)
# Largest moment that a datetime can hold, with room for arithmetic.
_SECONDS_MAX = 253_000_000_000


def verify(
    token: UnverifiedToken, keys: Sequence[Mapping[str, Any]], *, algorithms: frozenset[str], uses: frozenset[str]
) -> None:
    """Raises BadToken unless one of `keys` (JWKs, RFC 7517) signed `token` with one of `algorithms`."""
    if token.algorithm not in algorithms & ALGORITHMS:
        raise BadToken(f"its algorithm is none of {', '.join(sorted(algorithms & ALGORITHMS))}")
    found = [key for key in keys if key.get("kid") == token.key_id]
    if not found:
        raise BadToken("its issuer has no key of that id")
    if len(found) > 1:
        raise BadToken("its issuer has several keys of that id")
    key = _key(found[0], token.algorithm, uses)
    try:
        jws.deserialize_compact(token.text, key, algorithms=[token.algorithm])
    except (JoseError, ValueError, TypeError):
        raise BadToken("its signature is wrong") from None


def _key(jwk: Mapping[str, Any], algorithm: str, uses: frozenset[str]) -> ECKey | RSAKey:
    kind, size = _KEY_OF[algorithm]
    if jwk.get("kty") != kind or jwk.get("alg", algorithm) != algorithm:
        raise BadToken("the key of that id is not for its algorithm")
    use = jwk.get("use")
    if "use" in jwk and (not isinstance(use, str) or use not in uses):
        raise BadToken("the key of that id is not for signatures")
    wanted = ("kty", "n", "e") if kind == "RSA" else ("kty", "crv", "x", "y")
    public = {name: jwk[name] for name in wanted if isinstance(jwk.get(name), str)}
    try:
        if isinstance(size, int):
            if len(public["n"]) * 6 < size:  # base64url: six bits a letter
                raise BadToken("the key of that id is too short")
            return RSAKey.import_key(public)
        if jwk.get("crv") != size:
            raise BadToken("the key of that id is not for its algorithm")
        return ECKey.import_key(public)
    except (JoseError, ValueError, TypeError, KeyError):
        raise BadToken("the key of that id cannot be read") from None


def moment(claims: Mapping[str, Any], name: str) -> datetime | None:
    """The claim as an aware datetime, None if it is not there. Raises BadToken."""
    value = claims.get(name)
    if name not in claims:
        return None
    # True is an int in Python.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _SECONDS_MAX:
        raise BadToken(f"its `{name}` is not a moment")
    return datetime.fromtimestamp(value, UTC)


def check_times(claims: Mapping[str, Any], now: datetime, *, life_max: timedelta) -> tuple[datetime, datetime]:
    """When it was issued and when it ends. Raises BadToken unless it holds now and for no longer than `life_max`."""
    begins, issued, ends = moment(claims, "nbf"), moment(claims, "iat"), moment(claims, "exp")
    if ends is None or issued is None:
        raise BadToken("it does not say when it was issued and when it ends (`iat`, `exp`)")
    if now >= ends:
        raise BadToken("it has ended")
    if issued > now + CLOCK_SKEW or (begins is not None and begins > now + CLOCK_SKEW):
        raise BadToken("it has not begun by this clock")
    if ends - issued > life_max:
        raise BadToken(f"it lives longer than {life_max.total_seconds():.0f} s")
    return issued, ends


def audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """The audiences of a token, one or several. Raises BadToken."""
    value = claims.get("aud")
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(one, str) and one for one in found):
        raise BadToken("it names no audience")
    if len(found) > AUDIENCES_MAX or len(set(found)) != len(found):
        raise BadToken("it names too many audiences, or one twice")
    return tuple(found)


def check_audience(claims: Mapping[str, Any], audience: str) -> tuple[str, ...]:
    """The audiences, if `audience` is one of them; else BadToken."""
    found = audiences(claims)
    if audience not in found:
        raise BadToken("it is for another audience")
    return found
