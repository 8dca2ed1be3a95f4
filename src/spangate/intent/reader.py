"""Nodes -> the shapes that an intent file is made of: records with known keys, named entries, lists, texts.

Rules: each method returns None (or nothing) after noting a problem, so that its neighbours are still read. Unknown
keys, words of later versions, empty lists and values of the wrong kind are problems, never ignored.
Not here: which part of the file has which shape (parse.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from collections.abc import Mapping as Map

from spangate.intent.errors import Problems, listed, shown
from spangate.intent.nodes import Mapping, Node, Scalar, Sequence
from spangate.intent.tree import Word
from spangate.intent.words import DENY_KEY, EXAMPLES, EXAMPLES_OF_PARTS, LATER_WORDS
from spangate.model.nearest import nearest

_ReadName = Callable[[Scalar], Word | None]


class Reader:
    """Reads shapes and notes what is wrong with them."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def record(self, node: Node, what: str, keys: Map[str, str], required: tuple[str, ...]) -> dict[str, Node] | None:
        """A mapping with known keys. Unknown and missing keys are problems, but the others are still returned."""
        if not isinstance(node, Mapping):
            self.wrong_kind(node, what, "a mapping", f"its keys are {listed(keys)}")
            return None
        if not node.entries and node.complete:
            self.problems.add(node.position, f"{what} is empty", f"its keys are {listed(keys)}")
            return None
        misspelt = {self._unknown_key(key, keys) for key, _ in node.entries if key.text not in keys}
        parts = {key.text: value for key, value in node.entries if key.text in keys}
        for key_name in required:
            if key_name not in parts and key_name not in misspelt and node.complete:
                self.problems.add(node.position, f"{what} has no {shown(key_name)}", example_of(key_name))
        return parts

    def _unknown_key(self, key: Scalar, keys: Map[str, str]) -> str | None:
        """Note an unknown key; the known one that was probably meant."""
        help_line: str | None
        later = LATER_WORDS.get(key.text)
        if later is not None:
            self.problems.add(key.position, f"{shown(key.text)} is not supported by this version yet", later)
            return None
        if key.text == DENY_KEY:
            help_line = "it stands under a database, beside `read` and the others; an exception has no exceptions"
            self.problems.add(key.position, f"{shown(key.text)} is not allowed here", help_line)
            return None
        before_colon, colon, _ = key.text.partition(":")
        if colon and before_colon in keys:
            help_line = "a space is missing after the `:`"
        else:
            help_line = self.problems.suggest(key.text, tuple(keys), "known here")
        self.problems.add(key.position, f"unknown key {shown(key.text)}", help_line)
        if self.problems.full:
            return None  # whether a key that is missing is this one does not matter any more
        return before_colon if colon else nearest(key.text, keys)

    def named(self, node: Node | None, what: str, read_name: _ReadName) -> Iterator[tuple[Word, Node]]:
        """The entries of a mapping whose keys the author chose."""
        if node is None:
            return
        if not isinstance(node, Mapping):
            self.wrong_kind(node, shown(what), "a mapping", example_of(what))
        elif not node.entries and node.complete:
            self.problems.add(node.position, f"{shown(what)} is empty", "fill it or take it out")
        else:
            for key, value in node.entries:
                name = read_name(key)
                if name is not None:
                    yield name, value

    def list_of(self, node: Node, key: str) -> Sequence | None:
        """A list with something in it."""
        if not isinstance(node, Sequence):
            self.wrong_kind(node, shown(key), "a list of tables", f"for instance `{key}: [Orders]`")
            return None
        if not node.items:
            self.problems.add(node.position, f"{shown(key)} is empty", "name tables, or take it out")
            return None
        return node

    def text(self, node: Node | None, key: str) -> Word | None:
        """The text under `key`; nothing, without a problem, where there is no node."""
        if node is None:
            return None
        if not isinstance(node, Scalar):
            self.wrong_kind(node, shown(key), "text", example_of(key))
        elif node.kind == "nothing" or not node.text:
            self.problems.add(node.position, f"{shown(key)} has no value", example_of(key))
        elif node.kind != "text":
            self.problems.add(
                node.position,
                f"{shown(key)} must be text, but YAML may read {shown(node.text)} as {node.kind}",
                f'if it is meant as text, write it in quotes: `"{node.text}"`',
            )
        else:
            return word_of(node)
        return None

    def is_true(self, node: Node, key: str) -> bool:
        """Only `true` is something to say: what is not wanted is left out."""
        if isinstance(node, Scalar) and node.plain and node.text == "true":
            return True
        help_line = f"write `{key}: true`, or take it out"
        if isinstance(node, Scalar) and node.kind != "nothing":
            self.problems.add(node.position, f"{shown(key)} cannot be {shown(node.text)}", help_line)
        else:
            self.wrong_kind(node, shown(key), "`true`", help_line)
        return False

    def wrong_kind(self, node: Node, what: str, wanted: str, help_line: str | None) -> None:
        """Note that `what` has no value, or is not `wanted`."""
        if isinstance(node, Scalar) and node.kind == "nothing":
            self.problems.add(node.position, f"{what} has no value", help_line)
        else:
            self.problems.add(node.position, f"{what} must be {wanted}, not {node.kind}", help_line)

    def name(self, key: Scalar, pattern: re.Pattern[str], kind: str, rule: str) -> Word | None:
        """A name that the author chose; `rule` says in words what `pattern` does."""
        if not pattern.fullmatch(key.text):
            self.problems.add(key.position, f"{shown(key.text)} cannot be the name of {kind}", rule)
        elif key.kind != "text":
            self.problems.add(
                key.position,
                f"YAML may read {shown(key.text)} as {key.kind}, not as the name of {kind}",
                f'choose another name, or write it in quotes: `"{key.text}"`',
            )
        else:
            return word_of(key)
        return None


def word_of(scalar: Scalar) -> Word:
    """The word, at its first character behind a quote."""
    return Word(scalar.text, next(scalar.lines())[0])


def example_of(key: str) -> str | None:
    """A help line that shows how `key` is written."""
    example = EXAMPLES.get(key) or EXAMPLES_OF_PARTS.get(key)
    return f"for instance `{example}`" if example else None
