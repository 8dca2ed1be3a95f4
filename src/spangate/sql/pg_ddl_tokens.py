"""PostgreSQL schema text -> statements: their tokens with places, and their trees with Spanner's own clauses cut out.

Rules: PostgreSQL's scanner makes the tokens, so strings, quoted names and comments end where they end there. What
PostgreSQL's grammar does not know is blanked token by token; everything else keeps its place. Names fold to lower case
unless they are quoted, and may hold letters, digits and underscores: what Spanner allows, and no dot that could be
taken for a schema's.
Not here: what the statements mean (pg_ddl.py, pg_ddl_table.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from pglast.parser import Token as PgToken

from spangate.sql.ddl_cursor import Cursor
from spangate.sql.ddl_tokens import DdlError, Kind, Token, statements
from spangate.sql.pg_parse import (
    COMMENTS,
    Node,
    PgSyntaxError,
    character_at,
    check_names,
    only,
    place,
    tokens_of,
    trees_of,
)

PUBLIC = "public"

_STRINGS = frozenset({"SCONST", "USCONST", "BCONST", "XCONST"})
_NUMBERS = frozenset({"ICONST", "FCONST"})
_NAME_CHARACTERS_MAX = 128


class PgCursor(Cursor):
    """Reads a statement of PostgreSQL; names fold, and no word is reserved here: the grammar has its own mind."""

    def name(self, what: str) -> Token:
        """Takes one name, quoted or not; `what` says what it names."""
        token = self.token
        if token.kind not in {Kind.WORD, Kind.QUOTED_NAME}:
            raise token.error(f"expected {what}, found {token}")
        check_name(token.text, token, what)
        return self.next()

    def path(self, what: str) -> tuple[str, Token]:
        """Takes `name` or `schema.name`, without `public`, and the first token."""
        name, token = super().path(what)
        return name.removeprefix(PUBLIC + "."), token


class Statement:
    """One statement of a schema; `tokens` ends with an END token."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self._text = text
        self.tokens = tokens
        self._cut: set[int] = set()
        self._by_start = {token.start: token for token in reversed(tokens)}

    @property
    def source(self) -> str:
        """As it stands, without comments and semicolon."""
        parts: list[str] = []
        for token, following in pairwise(self.tokens):
            parts.append(self._text[token.start : token.end])
            if following.kind is not Kind.END:
                between = self._text[token.end : following.start]
                # What is between tokens and no space is a comment.
                parts.append(("\n" if "\n" in between else " ") if between.strip() else between)
        return "".join(parts)

    def cut(self, first: int, count: int) -> None:
        """Leaves `count` tokens from number `first` out of the tree."""
        self._cut.update(range(first, first + count))

    def tree(self) -> tuple[str, Node]:
        """What PostgreSQL's grammar makes of the rest: type and fields. Raises DdlError."""
        start = self.tokens[0].start
        parts: list[str] = []
        at = start
        for number, token in enumerate(self.tokens[:-1]):
            if number not in self._cut:
                parts += " " * (token.start - at), self._text[token.start : token.end]
                at = token.end
        self._tree_text = "".join(parts)
        try:
            trees = trees_of(self._tree_text)
        except PgSyntaxError as error:
            raise _ddl_error(self._text, error, start) from error
        if len(trees) != 1:
            raise self.tokens[0].error("expected one statement")
        return only(trees[0])

    def token_of(self, node: Node) -> Token:
        """The token at which a node of the tree begins, or the statement's first."""
        byte = node.get("location")
        if not isinstance(byte, int):
            return self.tokens[0]
        start = self.tokens[0].start + character_at(self._tree_text, byte)
        return self._by_start.get(start, self.tokens[0])


def statements_of(text: str) -> Iterator[Statement]:
    """The statements of a schema; empty ones are left out. Raises DdlError."""
    try:
        tokens = [token for token in tokens_of(text) if token.name not in COMMENTS]
        check_names(text, tokens)
    except PgSyntaxError as error:
        raise _ddl_error(text, error) from error
    for statement in statements(_with_places(text, tokens)):
        yield Statement(text, statement)


def _with_places(text: str, tokens: list[PgToken]) -> Iterator[Token]:
    lines = _Lines(text)
    yield from map(lines.token, tokens)
    yield lines.end(len(text))


def check_name(name: str, token: Token, what: str) -> str:
    """`name`, if Spanner could have it; else DdlError."""
    plain = name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit()
    if not plain or len(name) > _NAME_CHARACTERS_MAX:
        raise token.error(f"`{name}` cannot be {what}: 1 to 128 letters, digits, underscores, no digit first")
    return name


class _Lines:
    """Gives tokens their lines; they are asked for in order."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at, self._line, self._line_start = 0, 1, 0

    def token(self, found: PgToken) -> Token:
        start, end = found.start, found.end + 1
        text = self._text[start:end]
        self._advance(start)
        kind = Kind.SYMBOL
        if found.name == "IDENT" and text.startswith('"'):
            kind, text = Kind.QUOTED_NAME, text[1:-1].replace('""', '"')
        elif found.name == "IDENT" or found.kind != "NO_KEYWORD":
            kind, text = Kind.WORD, text.lower()
        elif found.name in _STRINGS:
            kind = Kind.STRING
        elif found.name in _NUMBERS:
            kind = Kind.NUMBER
        return Token(kind, text, start, end, self._line, start - self._line_start + 1)

    def end(self, at: int) -> Token:
        self._advance(at)
        return Token(Kind.END, "", at, at, self._line, at - self._line_start + 1)

    def _advance(self, to: int) -> None:
        newlines = self._text.count("\n", self._at, to)
        if newlines:
            self._line += newlines
            self._line_start = self._text.rfind("\n", self._at, to) + 1
        self._at = to


def _ddl_error(text: str, error: PgSyntaxError, start: int = 0) -> DdlError:
    line, column = place(text, start + (error.offset or 0))
    return DdlError(error.message, line, column)
