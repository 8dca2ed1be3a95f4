"""When a database with a live schema is asked again, because a request named what its schema does not have.

Rules: a program that creates a table and uses it at once must not be told that there is none; one that asks for what
does not exist, again and again, must not keep Spanner's admin API busy: it uses up its own allowance, nobody else's.
Not here: asking (adapters/live_schema.py).
"""

from __future__ import annotations

from datetime import datetime

# A migration that creates tables and fills each of them does so a few dozen times in a row.
ALLOWANCE_MAX = 60.0
# Spanner's admin API takes a few requests per second and project; one identity gets a part of that.
ALLOWANCE_PER_SECOND = 1.0


class Looks:
    """The allowance of each identity. Holds as many entries as the policies so far had identities.

    Any thread may call: of two requests at the same moment one may go uncounted, and one question serves both anyway.
    """

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, datetime]] = {}

    def take(self, name: str, now: datetime) -> bool:
        """Whether the identity of this name may cause a look at `now`; one look less is left."""
        left, before = self._left.get(name, (ALLOWANCE_MAX, now))
        # A clock that was set back gives nothing.
        seconds = max(0.0, (now - before).total_seconds())
        left = min(ALLOWANCE_MAX, left + seconds * ALLOWANCE_PER_SECOND)
        taken = left >= 1.0
        self._left[name] = (left - 1.0 if taken else left, max(now, before))
        return taken
