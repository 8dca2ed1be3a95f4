"""The keys that the gateway seals session names, transaction ids and partition tokens with: when which one is in use.

Rules: a key is known everywhere before it seals anything; it is replaced daily and accepted for as long as what it has
sealed can live. Keys are random, never derived, and appear in no log, message or `repr`. All gateways that share a
store accept one another's seals.
Not here: sealing (dataplane/lua/seal.lua), keeping keys and making them (adapters/seal_keys.py), why (decisions/0016).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

# A key that leaks seals nothing new after this; more often would only make the list longer.
ROTATION = timedelta(days=1)
# Spanner keeps no session longer than 28 days (https://cloud.google.com/spanner/docs/sessions); transactions and
# partition tokens live for hours.
ACCEPTANCE = timedelta(days=30)
# A new key is handed out for this long before it seals: several times what other checkpoints (RENEWAL) and workers
# (half a second) take to learn it.
SETTLING = timedelta(minutes=2)
# How often a checkpoint looks for new keys.
RENEWAL = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class SealKey:
    """`id`: 8 hex digits; `secret`: 32 hex digits (128 bits); `created`: an aware datetime in UTC."""

    id: str
    secret: str = field(repr=False)
    created: datetime


class SealKeyStore(Protocol):
    """Where keys are kept. Each method is atomic; any of them may raise SpangateError."""

    def load(self) -> tuple[SealKey, ...]:
        """All keys, in any order."""
        ...

    def add(self, key: SealKey) -> None:
        """Keep one more."""
        ...

    def remove(self, ids: Iterable[str]) -> None:
        """Forget these; one that is not there is no error."""
        ...


class SealKeys:
    """The keys of the moment. `renew` reads the store, rotates and tidies up; `header` is what gateways are told."""

    def __init__(self, store: SealKeyStore, make: Callable[[datetime], SealKey], now: Callable[[], datetime]) -> None:
        self._store = store
        self._make = make
        self._now = now
        self._header = ""

    @property
    def header(self) -> str:
        """`<id>:<secret>` joined by `,`, the one that seals first; empty before the first `renew`."""
        return self._header

    def renew(self) -> None:
        """To be called every RENEWAL. Raises what the store raises; then all stays as it was."""
        now = self._now()
        keys = self._store.load()
        if due(keys, now):
            self._store.add(self._make(now))
            # Another checkpoint may have done the same meanwhile: both keys count.
            keys = self._store.load()
        expired = [key.id for key in keys if not _accepted(key, now)]
        if expired:
            self._store.remove(expired)
        self._header = ",".join(f"{key.id}:{key.secret}" for key in in_use(keys, now))


def due(keys: Iterable[SealKey], now: datetime) -> bool:
    """Whether a new key is to be made: there is none, or the newest has sealed for ROTATION."""
    return all(key.created <= now - ROTATION for key in keys)


def in_use(keys: Iterable[SealKey], now: datetime) -> list[SealKey]:
    """The keys that are accepted, the one that seals first: the newest that has settled, or else the oldest of all."""
    accepted = sorted((key for key in keys if _accepted(key, now)), key=lambda key: (key.created, key.id), reverse=True)
    settled = [key for key in accepted if key.created <= now - SETTLING]
    first = settled[:1] or accepted[-1:]
    return first + [key for key in accepted if key not in first]


def _accepted(key: SealKey, now: datetime) -> bool:
    return key.created > now - ACCEPTANCE
