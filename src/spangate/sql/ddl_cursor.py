"""A place in a list of tokens, and the small steps that all DDL is read with.

Rules: a step either takes exactly what it names or raises at the token that stands there instead.
Source of the reserved words: https://cloud.google.com/spanner/docs/reference/standard-sql/lexical#reserved_keywords
Not here: statements (ddl.py), tables (ddl_table.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from spangate.model.nearest import nearest
from spangate.sql.ddl_tokens import DdlError, Kind, Token

# "Table and column names: 1 to 128 characters, begin with a letter" (Spanner's quotas and naming rules); the underscore
# is ours, for what tools generate.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)

RESERVED = frozenset(
    """
    ALL AND ANY ARRAY AS ASC ASSERT_ROWS_MODIFIED AT BETWEEN BY CASE CAST COLLATE CONTAINS CREATE CROSS CUBE CURRENT
    DEFAULT DEFINE DESC DISTINCT ELSE END ENUM ESCAPE EXCEPT EXCLUDE EXISTS EXTRACT FALSE FETCH FOLLOWING FOR FROM FULL
    GROUP GROUPING GROUPS HASH HAVING IF IGNORE IN INNER INTERSECT INTERVAL INTO IS JOIN LATERAL LEFT LIKE LIMIT LOOKUP
    MERGE NATURAL NEW NO NOT NULL NULLS OF ON OR ORDER OUTER OVER PARTITION PRECEDING PROTO RANGE RECURSIVE RESPECT
    RIGHT ROLLUP ROWS SELECT SET SOME STRUCT TABLESAMPLE THEN TO TREAT TRUE UNBOUNDED UNION UNNEST USING WHEN WHERE
    WINDOW WITH WITHIN
    """.split()  # noqa: SIM905 - a hundred words read better as words
)

_CLOSING = {"(": ")", "[": "]", "{": "}"}


class Cursor:
    """Reads one statement; `tokens` ends with an END token."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def token(self) -> Token:
        """The token at this place."""
        return self._tokens[self._at]

    def ahead(self, count: int) -> Token:
        """The token `count` further on, or the END token."""
        return self._tokens[min(self._at + count, len(self._tokens) - 1)]

    def next(self) -> Token:
        """Takes the token at this place; END stays."""
        token = self.token
        if token.kind is not Kind.END:
            self._at += 1
        return token

    def at_words(self, *words: str) -> bool:
        """Whether these words follow one another from here."""
        return all(self.ahead(count).is_word(word) for count, word in enumerate(words))

    def try_words(self, *words: str) -> bool:
        """Takes these words if they follow one another from here."""
        if found := self.at_words(*words):
            self._at += len(words)
        return found

    def try_symbol(self, symbol: str) -> bool:
        """Takes `symbol` if it stands here."""
        if found := self.token.is_symbol(symbol):
            self._at += 1
        return found

    def words(self, *words: str) -> None:
        """Takes these words or raises."""
        for word in words:
            if not self.token.is_word(word):
                raise self.token.error(f"expected {word}, found {self.token}")
            self._at += 1

    def symbol(self, symbol: str) -> None:
        """Takes `symbol` or raises."""
        if not self.try_symbol(symbol):
            raise self.token.error(f"expected `{symbol}`, found {self.token}")

    def end(self) -> None:
        """Raises unless the statement ends here."""
        if self.token.kind is not Kind.END:
            raise self.token.error(f"unexpected {self.token}")

    def expected(self, words: Iterable[str], what: str) -> DdlError:
        """The error for a token that is none of `words`, with the one that was probably meant."""
        near = nearest(self.token.text, words) if self.token.kind is Kind.WORD else None
        hint = f"; did you mean {near}?" if near and not self.token.is_word(near) else ""
        return self.token.error(f"expected {what}, found {self.token}{hint}")

    def name(self, what: str) -> Token:
        """Takes one name, quoted or not; `what` says what it names."""
        token = self.token
        if token.kind not in {Kind.WORD, Kind.QUOTED_NAME}:
            raise token.error(f"expected {what}, found {token}")
        if token.kind is Kind.WORD and token.text.upper() in RESERVED:
            raise token.error(f"expected {what}, found the reserved word `{token.text}`; put it in backquotes")
        if not _NAME.fullmatch(token.text):
            raise token.error(f"`{token.text}` cannot be {what}: 1 to 128 letters, digits, underscores, no digit first")
        return self.next()

    def path(self, what: str) -> tuple[str, Token]:
        """Takes `name` or `schema.name`: the text without quotes, and the first token."""
        first = self.token
        if first.kind is Kind.QUOTED_NAME and "." in first.text:
            raise first.error(f"`{first.text}` cannot be {what}: quote the parts, not the dot")
        parts = [self.name(what).text]
        while self.try_symbol("."):
            parts.append(self.name(what).text)
        if len(parts) > 2:
            raise first.error(f"`{'.'.join(parts)}` cannot be {what}: more than one schema")
        return ".".join(parts), first

    def names(self, what: str) -> list[Token]:
        """Takes `(name, ...)`, possibly empty."""
        self.symbol("(")
        found: list[Token] = []
        while not self.try_symbol(")"):
            if found:
                self.symbol(",")
            found.append(self.name(what))
        return found

    def skip_parentheses(self) -> None:
        """Takes `( ... )` with whatever is balanced inside; expressions and options are Spanner's business."""
        if not self.token.is_symbol("("):
            raise self.token.error(f"expected `(`, found {self.token}")
        opened = self.token
        if self.ahead(1).is_symbol(")"):
            raise self.ahead(1).error("there is nothing between the parentheses")
        closing: list[str] = []
        while True:
            token = self.next()
            if token.kind is Kind.END:
                raise opened.error("this parenthesis is not closed")
            if token.kind is not Kind.SYMBOL:
                continue
            if token.text in _CLOSING:
                closing.append(_CLOSING[token.text])
            elif token.text in _CLOSING.values():
                if token.text != closing.pop():
                    raise token.error(f"unexpected {token}")
                if not closing:
                    return
