"""Lists of tables: `[Customers(CustomerId, Name), Orders(* except Total), Log*, {on: Items, until: ...}]`.

Rules: YAML splits a flow list at every comma, also inside parentheses, so the pieces `Customers(CustomerId` and `Name)`
arrive here apart and are put together again; block and flow style mean the same. Every word keeps the position of its
first character. An entry that cannot be read is a problem and does not stop the next one.
Not here: whether the tables exist (check.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from spangate.intent.errors import Problems, listed, shown
from spangate.intent.moments import read_moment
from spangate.intent.nodes import Mapping, Node, Scalar, Sequence
from spangate.intent.tree import GrantEntry, Word
from spangate.intent.words import (
    COLUMN,
    EXAMPLES_OF_PARTS,
    ITEM_KEYS,
    NAME_CHARACTERS_MAX,
    ON_KEY,
    OPERATIONS_OF,
    PATTERN,
    TABLE,
    UNTIL_KEY,
)
from spangate.model.access import Operation
from spangate.model.policy import Position

_TOKEN = re.compile(r"[(),]|[^\s(),]+")
_TABLE = re.compile(TABLE, re.ASCII)
_PATTERN = re.compile(PATTERN, re.ASCII)
_COLUMN = re.compile(COLUMN, re.ASCII)
_NAME_RULE = f"letters, digits and `_`, no digit first, at most {NAME_CHARACTERS_MAX} characters"
_EXAMPLE = "write a table, `Orders`, or a table with columns, `Orders(OrderId, Status)`"
_EXAMPLE_UNTIL = f"an entry that ends is written `{EXAMPLES_OF_PARTS[ON_KEY]}`"
_EXCEPT = "except"

# What has no columns, and why.
_WHOLE = {
    "delete": "a row is deleted as a whole",
    "write": "`write` includes `delete`, and a row is deleted as a whole",
    Operation.PARTITIONED_DML.value: "the columns stand under `update`",
    Operation.EXECUTE.value: "a model is used as a whole",
    Operation.SEND.value: "a message is sent as a whole",
    Operation.ACK.value: "a message is acknowledged as a whole",
}


@dataclass(frozen=True, slots=True)
class _Under:
    """Where a list stands: its key, whether under `deny`, and when its entry ends."""

    key: str
    deny: bool
    until: datetime | None = None


@dataclass(slots=True)
class _Entry:
    """One entry of the list, put together from one or more scalars. `tokens` are words and `(`, `)`, `,`."""

    position: Position
    tokens: list[Word]
    goes_on: bool

    def take(self, piece: Scalar) -> None:
        # The comma that YAML took away stood right behind the piece before.
        tokens = _tokens(piece)
        self.tokens += [Word(",", piece.position), *tokens]
        self.goes_on = not any(token.text == ")" for token in tokens)


def read_grants(node: Sequence, key: str, deny: bool, problems: Problems) -> Iterator[GrantEntry]:
    """The entries of one list under `read`, `write` and so on, or under the same word in `deny`."""
    under = _Under(key, deny)
    pending: _Entry | None = None
    for item in node.items:
        if pending is not None and pending.goes_on and isinstance(item, Scalar) and item.plain:
            pending.take(item)
            continue
        if pending is not None:
            yield from _read_entry(pending, under, problems)
        pending = None
        if isinstance(item, Mapping):
            yield from _read_item(item, under, problems)
        else:
            pending = _begin(item, node.flow, problems)
    if pending is not None:
        yield from _read_entry(pending, under, problems)


def _read_item(item: Mapping, under: _Under, problems: Problems) -> Iterator[GrantEntry]:
    """`{on: "Orders(Status)", until: ...}`."""
    parts = {key.text: value for key, value in item.entries if key.text in ITEM_KEYS}
    for key, value in item.entries:
        if key.text not in ITEM_KEYS:
            on = parts.get(ON_KEY)
            if isinstance(on, Scalar) and on.plain and "(" in on.text and ")" not in on.text and not _raw(value):
                help_line: str | None = f"put it in quotes: `{EXAMPLES_OF_PARTS[ON_KEY]}`"
                problems.add(on.position, f"YAML ends {shown(on.text)} at the comma", help_line)
                return
            if not parts:
                problems.add(item.position, "a `:` is not allowed in a list of tables", f"{_EXAMPLE}; {_EXAMPLE_UNTIL}")
                return
            help_line = problems.suggest(key.text, tuple(ITEM_KEYS), "known here")
            problems.add(key.position, f"unknown key {shown(key.text)}", help_line)
            return
    if len(parts) < len(ITEM_KEYS):
        if item.complete:
            problems.add(item.position, f"an entry in braces needs both {listed(ITEM_KEYS)}", _EXAMPLE_UNTIL)
        return
    until = read_moment(parts[UNTIL_KEY], problems)
    on = parts[ON_KEY]
    if isinstance(on, Mapping):
        problems.add(on.position, f"`{ON_KEY}` must be text, not {on.kind}", _EXAMPLE_UNTIL)
        return
    entry = _begin(on, False, problems)
    if entry is not None and until is not None:
        yield from _read_entry(entry, replace(under, until=until), problems)


def _raw(node: Node) -> str:
    return node.raw if isinstance(node, Scalar) else "?"


def _begin(item: Scalar | Sequence, flow: bool, problems: Problems) -> _Entry | None:
    """A new entry, or None after noting that `item` cannot begin one."""
    if isinstance(item, Sequence):
        problems.add(item.position, "a list is not allowed in a list of tables", _EXAMPLE)
    elif item.kind == "nothing":
        problems.add(item.position, "a table is missing here", _EXAMPLE)
    elif item.kind == "a boolean":
        problems.add(
            item.position,
            f"YAML may read {shown(item.text)} as {item.kind}, not as a table",
            f'if a table has this name, write it in quotes: `"{item.text}"`',
        )
    else:
        tokens = _tokens(item)
        texts = {token.text for token in tokens}
        return _Entry(item.position, tokens, goes_on=flow and item.plain and "(" in texts and ")" not in texts)
    return None


def _tokens(scalar: Scalar) -> list[Word]:
    # From the source, not the value: positions stay right where a long text runs over several lines.
    return [
        Word(found.group(), Position(start.file, start.line, start.column + found.start()))
        for start, line in scalar.lines()
        for found in _TOKEN.finditer(line)
    ]


def _read_entry(entry: _Entry, under: _Under, problems: Problems) -> Iterator[GrantEntry]:
    """The grants an entry spells; at most one problem for its form, and one for each bad name in it."""
    if not entry.tokens:
        problems.add(entry.position, "a table is missing here", _EXAMPLE)
        return
    table, *rest = entry.tokens
    if table.text in "(),":
        problems.add(table.position, f"a table is missing before {shown(table.text)}", _EXAMPLE)
        return
    good = _is_table(table, problems)
    if not rest:
        if good:
            yield from _entries(under, table, None, ())
        return
    columns = _read_columns(table, rest, problems)
    if columns is None:
        return
    if under.key in _WHOLE:
        help_line = f"write {shown(table.text)}"
        if under.key == "write":
            help_line = f"write {shown(table.text)}, or `insert` and `update` with columns"
        problems.add(rest[0].position, f"`{under.key}` takes no columns: {_WHOLE[under.key]}", help_line)
        return
    excepted: list[Word] = []
    if columns and columns[0].text == "*":
        excepted = columns[2:]
        if not _is_exception(table, columns, under, problems):
            return
    names_are_good = [_is_column(column, problems) for column in excepted or columns]
    if good and all(names_are_good):
        yield from _entries(under, table, None if excepted else tuple(columns), tuple(excepted))


def _entries(
    under: _Under, table: Word, columns: tuple[Word, ...] | None, excepted: tuple[Word, ...]
) -> Iterator[GrantEntry]:
    for operation in OPERATIONS_OF[under.key]:
        yield GrantEntry(under.key, operation, table, columns, excepted, under.until, under.deny)


def _is_exception(table: Word, words: list[Word], under: _Under, problems: Problems) -> bool:
    """Whether `words` are `*`, `except` and at least one column, where that may stand."""
    example = f"write {shown(f'{table.text}(* except Total)')}, or {shown(table.text)} for all columns"
    if len(words) < 2 or words[1].text.lower() != _EXCEPT:
        problems.add(words[0].position, "`*` is not a column", example)
    elif len(words) < 3:
        problems.add(words[1].position, f"a column is missing after `{_EXCEPT}`", example)
    elif under.deny:
        problems.add(words[1].position, "an exception has no exceptions of its own", "name the columns that are denied")
    else:
        return True
    return False


def _read_columns(table: Word, rest: list[Word], problems: Problems) -> list[Word] | None:
    """The words of `(A, B)`, or None after noting what is wrong with its form."""
    opening, *inside = rest
    if opening.text != "(":
        message = f"unexpected {shown(opening.text)} after {shown(table.text)}"
        help_line = "there is no `(` before it" if opening.text == ")" else "is a comma missing before it?"
        problems.add(opening.position, message, help_line)
        return None
    if inside and inside[0].text == ")":
        problems.add(
            opening.position,
            "the parentheses are empty",
            f"name columns, or write {shown(table.text)} for all of them",
        )
        return None
    columns: list[Word] = []
    wants_name = True
    if inside and inside[0].text == "*":
        # `* except` are two words without a comma between them; whether they are right says _is_exception.
        columns = [word for word in inside[:2] if word.text not in "(),"]
        inside = inside[len(columns) :]
        wants_name = len(columns) == 2 and columns[1].text.lower() == _EXCEPT
        if wants_name and inside and inside[0].text == ")":
            wants_name = False
    for place, token in enumerate(inside):
        if wants_name:
            if token.text in "(),":
                problems.add(token.position, f"a column is missing before {shown(token.text)}")
                return None
            columns.append(token)
        elif token.text == ")":
            return columns if _ends(inside[place + 1 :], problems) else None
        elif token.text == "(":
            break  # the next entry has begun already
        elif token.text != ",":
            problems.add(token.position, f"a comma is missing before {shown(token.text)}")
            return None
        wants_name = not wants_name
    problems.add(opening.position, f"the `(` after {shown(table.text)} is not closed", "add the missing `)`")
    return None


def _ends(rest: list[Word], problems: Problems) -> bool:
    if rest:
        problems.add(rest[0].position, f"unexpected {shown(rest[0].text)} after `)`", "is a comma missing before it?")
    return not rest


def _is_table(word: Word, problems: Problems) -> bool:
    if (_PATTERN if "*" in word.text else _TABLE).fullmatch(word.text):
        return True
    if "*" in word.text:
        problems.add(word.position, f"{shown(word.text)} cannot be a pattern", f"`*` and {_NAME_RULE}; one `.` at most")
    else:
        problems.add(word.position, f"{shown(word.text)} cannot be the name of a table", _NAME_RULE)
    return False


def _is_column(word: Word, problems: Problems) -> bool:
    if _COLUMN.fullmatch(word.text):
        return True
    if "*" in word.text:
        problems.add(
            word.position,
            f"{shown(word.text)} is not a column",
            "name the columns; a table without parentheses stands for all, `Orders(* except Total)` for all but some",
        )
    else:
        problems.add(word.position, f"{shown(word.text)} cannot be the name of a column", _NAME_RULE)
    return False
