"""A memory of texts and what was found about them, bounded in number and in characters.

Rules: what was not asked for longest is forgotten first; the key's text is what counts in size.
Not here: locks (whoever shares one has one), what is remembered (analysers.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from spangate.model.sqltype import SqlType

# A schema's fingerprint, a text, the types of parameters.
Key = tuple[str, str, tuple[tuple[str, SqlType], ...]]
V = TypeVar("V")


class Remembered(Generic[V]):
    """By key. For one thread at a time."""

    def __init__(self, *, entries_max: int, characters_max: int) -> None:
        self._entries_max = entries_max
        self._characters_max = characters_max
        self._found: OrderedDict[Key, V] = OrderedDict()
        self.characters = 0

    def get(self, key: Key) -> V | None:
        """What is remembered, which counts as asked for; or None."""
        found = self._found.get(key)
        if found is not None:
            self._found.move_to_end(key)
        return found

    def put(self, key: Key, value: V) -> None:
        """Remembers `value`, or as much of everything as there is room for."""
        if key not in self._found:
            self.characters += len(key[1])
        self._found[key] = value
        self._found.move_to_end(key)
        while len(self._found) > self._entries_max or self.characters > self._characters_max:
            old, _ = self._found.popitem(last=False)
            self.characters -= len(old[1])

    def __contains__(self, key: Key) -> bool:
        return key in self._found

    def __iter__(self) -> Iterator[Key]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
