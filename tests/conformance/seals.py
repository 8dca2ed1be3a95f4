"""What the gateway makes of the sessions, transactions and tokens of the corpus before it gives them to a client.

Sealed by tests/fakes/seals.py: a second implementation, under keys that the checkpoint of the tests gives out.
"""

from __future__ import annotations

from typing import Any

from conformance import cases, world
from fakes import seals

KEYS = seals.KEYS
_TAIL_BYTES = 27


class Sealed:
    """As the gateway seals for whom the world names."""

    def __init__(self, plain: world.Plain) -> None:
        self._plain = plain

    def handle(self, raw: bytes) -> bytes:
        fact = self._plain["handles"].get(raw)
        if fact is None:
            return raw
        identity, database = fact["identity"].encode(), fact["database"].encode()
        return seals.seal(raw, fact["kind"].encode(), identity, database, policy=fact["policy"].encode())

    def session(self, raw: str) -> str:
        fact = self._plain["sessions"].get(raw)
        if fact is None:
            return raw
        return seals.seal_name(raw, fact["identity"].encode(), raw.partition("/sessions/")[0])


def forgotten(value: bytes) -> bool:
    """Whether it looks sealed, under a key that is not KEYS'."""
    tail = value[-_TAIL_BYTES:]
    return len(value) > _TAIL_BYTES and tail[:1] in (b"r", b"w", b"p", b"t") and tail[1:5] != seals.KEY_ID


def presented(plain: world.Plain) -> dict[str, Any]:
    """The world whose sessions and handles are as clients present them."""
    seal = Sealed(plain)
    return {
        **plain,
        "sessions": {seal.session(name): fact for name, fact in plain["sessions"].items()},
        "handles": {seal.handle(raw): fact for raw, fact in plain["handles"].items()},
        "forgotten": forgotten,
    }


_PLAIN = world.world()
WORLD = presented(_PLAIN)
_SEALED = Sealed(_PLAIN)


def sealing() -> cases.Sealing:
    """As this gateway seals."""
    return _SEALED
