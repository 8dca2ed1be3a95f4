"""The nearest name that exists, for messages to people who mistyped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Below this similarity a suggestion is noise (difflib ratio; `Custmers` against `Customers` is 0.94).
_SIMILARITY_MIN = 0.6


def nearest(name: str, existing: Iterable[str]) -> str | None:
    """The existing name most like `name`, case aside, or None if nothing is close."""
    by_lower: dict[str, str] = {}
    for candidate in existing:
        by_lower.setdefault(candidate.lower(), candidate)
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=_SIMILARITY_MIN)
    return by_lower[found[0]] if found else None
