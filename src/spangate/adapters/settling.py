"""When a change of files counts: once two looks in a row see the same.

Programs write several files one after the other, and editors empty a file before they fill it; what stands there in
between is nobody's meaning.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Settling(Generic[T]):
    """Values that are looked at again and again. Not for several threads at once."""

    def __init__(self, known: T) -> None:
        self._known = known
        self._before = known

    def changed(self, seen: T) -> bool:
        """Whether `seen` is new and was seen the last time too; it is known from then on."""
        settled, self._before = seen == self._before, seen
        if seen == self._known or not settled:
            return False
        self._known = seen
        return True
