"""The keys that sign JWT-SVIDs: when which one is published, signs, and is forgotten.

Rules: a key is published before it signs anything, for as long as those who keep copies may take to look again; it
signs until the next one does; it stays published until the last token that it signed has ended. Whoever verifies can
therefore always find the key. Private keys appear in no log, message or `repr`.
Not here: signing (jwt_svid.py), keeping keys (adapters/).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

# A key that leaks is of use for this long. Who has uploaded the keys by hand (Google's `jwksJson`) does so as often.
SIGNS = timedelta(days=30)
# Copies are looked at again within hours, those that are uploaded by hand within days.
AHEAD = timedelta(days=7)
# How often whoever signs looks at the table: a key can sign this much longer than it should.
TEND = timedelta(seconds=60)
_P256_BYTES = 32


@dataclass(frozen=True, slots=True)
class JwtKey:
    """A P-256 key; `id` is its thumbprint (RFC 7638). `signs_from`: an aware datetime in UTC."""

    id: str
    private: ec.EllipticCurvePrivateKey = field(repr=False)
    signs_from: datetime

    @classmethod
    def of(cls, private: ec.EllipticCurvePrivateKey, signs_from: datetime) -> JwtKey:
        """With its id. The key must be on P-256: ValueError."""
        return cls(thumbprint(public_jwk(private.public_key())), private, signs_from)

    def jwk(self, use: str) -> dict[str, str]:
        """The public key as a JWK (RFC 7517), with nothing but what Google's provider takes."""
        return {**public_jwk(self.private.public_key()), "alg": "ES256", "use": use, "kid": self.id}


class JwtKeyStore(Protocol):
    """Where keys are kept. Each method is atomic; any of them may raise SpangateError."""

    def load(self) -> tuple[JwtKey, ...]:
        """All keys, in any order."""
        ...

    def add(self, key: JwtKey) -> None:
        """Keep one more."""
        ...

    def remove(self, ids: Iterable[str]) -> None:
        """Forget these; one that is not there is no error."""
        ...


class MemoryJwtKeys:
    """Keys that end with the process."""

    def __init__(self) -> None:
        self._keys: dict[str, JwtKey] = {}

    def load(self) -> tuple[JwtKey, ...]:
        """See JwtKeyStore."""
        return tuple(self._keys.values())

    def add(self, key: JwtKey) -> None:
        """See JwtKeyStore."""
        self._keys[key.id] = key

    def remove(self, ids: Iterable[str]) -> None:
        """See JwtKeyStore."""
        for one in ids:
            self._keys.pop(one, None)


@dataclass(frozen=True, slots=True)
class KeyTable:
    """The keys of a moment: the one that signs, and all that are to be published, newest first."""

    signing: JwtKey
    published: tuple[JwtKey, ...]


def tended(
    store: JwtKeyStore,
    new_key: Callable[[], ec.EllipticCurvePrivateKey],
    now: datetime,
    *,
    token_life: timedelta,
    signs: timedelta = SIGNS,
    ahead: timedelta = AHEAD,
) -> KeyTable:
    """The table of `now`, after what is due has been made and what is over has been forgotten.

    The first key of all signs at once: nobody can hold an older copy. Raises what the store raises.
    """
    keys = _newest_first(store.load())
    if not any(key.signs_from <= now for key in keys):
        store.add(JwtKey.of(new_key(), now))
        keys = _newest_first(store.load())
    if keys[0].signs_from <= now and keys[0].signs_from + signs - ahead <= now:
        # A machine that was off for long publishes as far ahead as ever.
        store.add(JwtKey.of(new_key(), max(keys[0].signs_from + signs, now + ahead)))
        keys = _newest_first(store.load())
    signing = next(key for key in keys if key.signs_from <= now)
    last = TEND + token_life
    over = [key.id for key, after in zip(keys[1:], keys, strict=False) if after.signs_from + last <= now]
    if over:
        store.remove(over)
        keys = tuple(key for key in keys if key.id not in over)
    return KeyTable(signing, keys)


def _newest_first(keys: Iterable[JwtKey]) -> tuple[JwtKey, ...]:
    return tuple(sorted(keys, key=lambda key: (key.signs_from, key.id), reverse=True))


def public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """`kty`, `crv`, `x`, `y` (RFC 7518, section 6.2.1). ValueError for another curve than P-256."""
    if not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("the key is not on P-256")  # noqa: TRY004 - its type is right, its curve is not
    numbers = key.public_numbers()
    x, y = (_base64url(number.to_bytes(_P256_BYTES, "big")) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def thumbprint(jwk: Mapping[str, str]) -> str:
    """RFC 7638: base64url of SHA-256 over the required members in order."""
    required = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    return _base64url(hashlib.sha256(json.dumps(required, separators=(",", ":"), sort_keys=True).encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
