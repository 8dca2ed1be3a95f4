"""The keys that sign JWT-SVIDs: when which one is published, signs, and is forgotten.

Rules: a key is published before it signs anything, for as long as those who keep copies may take to look again; it
signs until the next one does; it stays published until the last token that it signed has ended. Whoever verifies can
therefore always find the key. Private keys appear in no log, message or `repr`.
Not here: signing (jwt_svid.py), keeping keys (keeper.py).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from spangate.authority.keeper import KeyKeeper

# A key that leaks is of use for this long. Who has uploaded the keys by hand (Google's `jwksJson`) does so as often.
SIGNS = timedelta(days=30)
# Copies are looked at again within hours, those that are uploaded by hand within days.
AHEAD = timedelta(days=7)
# How often whoever signs looks at the table: a key can sign this much longer than it should.
TEND = timedelta(seconds=60)
_PREFIX = "jwt-"
_MOMENT = "%Y%m%dT%H%M%SZ"
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

    def make(self, signs_from: datetime) -> JwtKey:
        """A new key, kept from now on."""
        ...

    def remove(self, ids: Iterable[str]) -> None:
        """Forget these; one that is not there is no error."""
        ...


class KeptJwtKeys:
    """Keys in a keeper, each under a name that says from when it signs: `jwt-20300102T120000Z-<random>`."""

    def __init__(self, keeper: KeyKeeper, new_suffix: Callable[[], str]) -> None:
        """`new_suffix`: letters and digits that make names differ."""
        self._keeper = keeper
        self._new_suffix = new_suffix

    def load(self) -> tuple[JwtKey, ...]:
        """See JwtKeyStore."""
        return tuple(key for key, _ in self._named())

    def make(self, signs_from: datetime) -> JwtKey:
        """See JwtKeyStore."""
        moment = signs_from.astimezone(UTC).replace(microsecond=0)
        name = f"{_PREFIX}{moment:{_MOMENT}}-{self._new_suffix()}"
        return JwtKey.of(self._keeper.make(name), moment)

    def remove(self, ids: Iterable[str]) -> None:
        """See JwtKeyStore."""
        over = set(ids)
        for key, name in self._named():
            if key.id in over:
                self._keeper.destroy(name)

    def _named(self) -> list[tuple[JwtKey, str]]:
        found = []
        for name in self._keeper.names():
            if name.startswith(_PREFIX):
                moment = datetime.strptime(name.removeprefix(_PREFIX).partition("-")[0], _MOMENT).replace(tzinfo=UTC)
                found.append((JwtKey.of(self._keeper.open(name), moment), name))
        return found


@dataclass(frozen=True, slots=True)
class KeyTable:
    """The keys of a moment: the one that signs, and all that are to be published, newest first."""

    signing: JwtKey
    published: tuple[JwtKey, ...]


def tended(
    store: JwtKeyStore,
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
        store.make(now)
        keys = _newest_first(store.load())
    if keys[0].signs_from <= now and keys[0].signs_from + signs - ahead <= now:
        # A machine that was off for long publishes as far ahead as ever.
        store.make(max(keys[0].signs_from + signs, now + ahead))
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
