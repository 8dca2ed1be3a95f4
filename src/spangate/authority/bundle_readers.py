"""Who reads the published trust bundle and is no peer: federated trust domains, verifiers elsewhere.

Rules: nothing is known of a reader but when somebody read last. Who does as the bundle says looks again within its
refresh hint, and a cache on the way may keep what it gives for as long; by then everybody has the new root, who read
before it was there. Who reads less often is not waited for.
Not here: serving it (adapters/oidc_door.py), the other gates (gate.py).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from spangate.authority.generations import AuthorityState

# Readings of older revisions were longer ago than those of these.
_REVISIONS_MAX = 8


class BundleReaders:
    """One thread tells, any may ask. In memory: an authority that starts again does not know who read before."""

    def __init__(
        self, state: Callable[[], AuthorityState], now: Callable[[], datetime], *, look_again: timedelta
    ) -> None:
        """`look_again`: after so long at the latest whoever follows has looked again."""
        self._state = state
        self._now = now
        self._look_again = look_again
        # When the bundle of a revision was read last.
        self._read: dict[int, datetime] = {}

    def read(self) -> None:
        """Somebody reads the bundle."""
        known = {**self._read, self._state().revision: self._now()}
        self._read = {revision: known[revision] for revision in sorted(known)[-_REVISIONS_MAX:]}

    def until(self, state: AuthorityState) -> datetime | None:
        """When those who read before the newest root was there have looked again; None if nobody is known to have."""
        before = [at for revision, at in self._read.items() if revision < state.staged]
        return max(before) + self._look_again if before else None
