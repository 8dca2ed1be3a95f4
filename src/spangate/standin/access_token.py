"""Access tokens of the stand-in: who holds them, with which scopes, until when, under a code that only it can make.

    spangate-standin.<base64url JSON>.<base64url HMAC-SHA256>

Rules: the beginning says what it is, and nothing but this stand-in takes it; the key is made anew with each start, so a
restart ends all of them. `repr` hides what is in a token.
Not here: who gets one (sts.py, iam_credentials.py).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from spangate.standin.mapping import Mapped

PREFIX = "spangate-standin."
KEY_BYTES = 32
# Attributes have at most 8 KB; Google says 12,288 bytes of its own.
TOKEN_CHARACTERS_MAX = 32 * 1024


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose token it is. `pool`: the resource name, None for service accounts. `account`: the address, or None.

    `behind`: who got it, where it was handed on: principals, the first one first. `bound`: the fingerprint of the
    certificate that has to be shown with it.
    """

    name: str
    scopes: tuple[str, ...]
    issued: datetime
    ends: datetime
    mapped: Mapped | None = None
    pool: str | None = None
    account: str | None = None
    behind: tuple[str, ...] = ()
    bound: str | None = None


class TokenMint:
    """Makes and reads tokens with one key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key has {KEY_BYTES} bytes")
        self._key = key

    def make(self, holder: Holder, nonce: str) -> str:
        """The token; `nonce` makes two of one holder and second differ."""
        mapped = holder.mapped
        content = {
            "nonce": nonce,
            "name": holder.name,
            "scopes": holder.scopes,
            "issued": int(holder.issued.timestamp()),
            "ends": int(holder.ends.timestamp()),
            "mapped": [mapped.subject, mapped.groups, dict(mapped.attributes)] if mapped else None,
            "pool": holder.pool,
            "account": holder.account,
            "behind": holder.behind,
            "bound": holder.bound,
        }
        body = _encode(json.dumps(content, separators=(",", ":")).encode())
        return f"{PREFIX}{body}.{_encode(self._code(body))}"

    def read(self, token: str) -> Holder | None:
        """Whose token that is, or None if it is none of ours. Its end is not looked at."""
        if len(token) > TOKEN_CHARACTERS_MAX or not token.startswith(PREFIX) or not token.isascii():
            return None
        body, dot, code = token[len(PREFIX) :].partition(".")
        if not dot or not hmac.compare_digest(_encode(self._code(body)), code):
            return None
        try:
            return _holder(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))
        except (ValueError, KeyError, TypeError, binascii.Error):
            return None

    def _code(self, body: str) -> bytes:
        return hmac.digest(self._key, body.encode("ascii"), hashlib.sha256)


def _holder(content: dict[str, Any]) -> Holder:
    mapped = content["mapped"]
    return Holder(
        content["name"],
        tuple(content["scopes"]),
        datetime.fromtimestamp(content["issued"], UTC),
        datetime.fromtimestamp(content["ends"], UTC),
        Mapped(mapped[0], tuple(mapped[1]), mapped[2]) if mapped else None,
        content["pool"],
        content["account"],
        tuple(content["behind"]),
        content["bound"],
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
