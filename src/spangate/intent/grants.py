"""Lists of tables: `[Customers(CustomerId, Name), Orders]`.

Rules: YAML splits a flow list at every comma, also inside parentheses, so the pieces `Customers(CustomerId` and `Name)`
arrive here apart and are put together again; block and flow style mean the same. Every word keeps the position of its
first character. An entry that cannot be read is a problem and does not stop the next one.
Not here: whether the tables exist (check.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from spangate.intent.errors import Problems, shown
from spangate.intent.nodes import Mapping, Node, Scalar, Sequence
from spangate.intent.tree import GrantEntry, Word
from spangate.intent.words import COLUMN, NAME_CHARACTERS_MAX, TABLE
from spangate.model.access import Operation
from spangate.model.policy import Position

_TOKEN = re.compile(r"[(),]|[^\s(),]+")
_TABLE = re.compile(TABLE, re.ASCII)
_COLUMN = re.compile(COLUMN, re.ASCII)
_NAME_RULE = f"letters, digits and `_`, no digit first, at most {NAME_CHARACTERS_MAX} characters"
_EXAMPLE = "write a table, `Orders`, or a table with columns, `Orders(OrderId, Status)`"


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


def read_grants(node: Sequence, operation: Operation, problems: Problems) -> Iterator[GrantEntry]:
    """The entries of one list under `read`, `insert`, `update` or `delete`."""
    pending: _Entry | None = None
    for item in node.items:
        if pending is not None and pending.goes_on and isinstance(item, Scalar) and item.plain:
            pending.take(item)
            continue
        if pending is not None:
            yield from _read_entry(pending, operation, problems)
        pending = _begin(item, node.flow, problems)
    if pending is not None:
        yield from _read_entry(pending, operation, problems)


def _begin(item: Node, flow: bool, problems: Problems) -> _Entry | None:
    """A new entry, or None after noting that `item` cannot begin one."""
    if isinstance(item, Mapping):
        problems.add(item.position, "a `:` is not allowed in a list of tables", _EXAMPLE)
    elif isinstance(item, Sequence):
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


def _read_entry(entry: _Entry, operation: Operation, problems: Problems) -> Iterator[GrantEntry]:
    """The grant an entry spells; at most one problem for its form, and one for each bad name in it."""
    if not entry.tokens:
        problems.add(entry.position, "a table is missing here", _EXAMPLE)
        return
    table, *rest = entry.tokens
    if table.text in "(),":
        problems.add(table.position, f"a table is missing before {shown(table.text)}", _EXAMPLE)
        return
    good = _is_name(table, _TABLE, "table", problems)
    if not rest:
        if good:
            yield GrantEntry(operation, table, None)
        return
    columns = _read_columns(table, rest, problems)
    if columns is None:
        return
    if operation is Operation.DELETE:
        problems.add(
            rest[0].position,
            "`delete` takes no columns: a row is deleted as a whole",
            f"write {shown(table.text)}",
        )
        return
    names_are_good = [_is_name(column, _COLUMN, "column", problems) for column in columns]
    if good and all(names_are_good):
        yield GrantEntry(operation, table, tuple(columns))


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


def _is_name(word: Word, pattern: re.Pattern[str], kind: str, problems: Problems) -> bool:
    if pattern.fullmatch(word.text):
        return True
    if word.text == "*":
        every = "a table without parentheses stands for all its columns" if kind == "column" else "name each table"
        problems.add(word.position, f"`*` is not a {kind}", every)
    else:
        problems.add(word.position, f"{shown(word.text)} cannot be the name of a {kind}", _NAME_RULE)
    return False
