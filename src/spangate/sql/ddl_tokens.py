"""Schema text -> tokens with their places, comments left out.

Rules: the lexical structure of Spanner's GoogleSQL DDL: names may stand in backquotes, words are case-insensitive,
comments begin with `--` or `#` or stand between `/*` and `*/`, strings may be triple-quoted and raw. Every token knows
where it begins and ends; a character that begins none raises.
Source: https://cloud.google.com/spanner/docs/reference/standard-sql/lexical
Not here: what the tokens mean (ddl.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import pairwise


class DdlError(ValueError):
    """The schema is wrong at one place; line and column (in characters) count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"{line}:{column}: {message}")
        self.message = message
        self.line = line
        self.column = column


class Kind(Enum):
    """What a token is."""

    WORD = auto()
    QUOTED_NAME = auto()
    STRING = auto()
    NUMBER = auto()
    SYMBOL = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A token; `start` and `end` are offsets into the text. For a quoted name, `text` is what the quotes hold."""

    kind: Kind
    text: str
    start: int
    end: int
    line: int
    column: int

    def error(self, message: str) -> DdlError:
        """An error at this token's place."""
        return DdlError(message, self.line, self.column)

    def is_word(self, *words: str) -> bool:
        """Whether this is one of these words, unquoted, in any case."""
        return self.kind is Kind.WORD and self.text.upper() in words

    def is_symbol(self, symbol: str) -> bool:
        """Whether this is this very symbol."""
        return self.kind is Kind.SYMBOL and self.text == symbol

    def __str__(self) -> str:
        return "the end of the file" if self.kind is Kind.END else f"`{self.text}`"


# A table with 1,024 columns has some 10,000 tokens; what has more than this is no statement that ends.
STATEMENT_TOKENS_MAX = 100_000
# Tools leave a `;` too many, here and there.
EMPTY_STATEMENTS_MAX = 1_000

# Possessive and atomic forms (Python 3.11) keep every part linear.
_TOKEN = re.compile(
    r"""
      (?P<space>\s++)
    | (?P<comment>(?:--|\#)[^\r\n]*+ | /\*(?s:.*?)\*/)
    | (?P<string>(?:[rR][bB]?|[bB][rR]?)?+
          (?: \"\"\"(?:[^\\"]|\\(?s:.)|\"(?!\"\"))*+\"\"\"
            | '''(?:[^\\']|\\(?s:.)|'(?!''))*+'''
            | \"(?!\"\")(?:[^\\"\r\n]|\\.)*+\"
            | '(?!'')(?:[^\\'\r\n]|\\.)*+' ))
    | (?P<quoted>`[^`\\\r\n]++`)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*+)
    | (?P<number>(?:0[xX][0-9A-Fa-f]++|[0-9]++(?:\.[0-9]*+)?+(?:[eE][+-]?[0-9]++)?+|\.[0-9]++(?:[eE][+-]?[0-9]++)?+))
    | (?P<symbol>=>|<=|>=|<>|!=|\|\||<<|/(?!\*)|[][(){}<>,.;=+*&|^~@?:!$%-])
    """,
    re.VERBOSE,
)
_KINDS = {
    "string": Kind.STRING,
    "quoted": Kind.QUOTED_NAME,
    "word": Kind.WORD,
    "number": Kind.NUMBER,
    "symbol": Kind.SYMBOL,
}
_COMMENT = re.compile(r"(?:--|\#)[^\r\n]*+|/\*(?s:.*?)\*/")
_SPACE_AT_END_OF_LINE = re.compile(r"[ \t]++(?=\r?\n)")
# What a text that breaks off in the middle of something begins with.
_UNTERMINATED = (
    (re.compile(r"/\*"), "this comment is not terminated"),
    (re.compile(r"(?:[rR][bB]?|[bB][rR]?)?['\"]"), "this string is not terminated"),
    (re.compile(r"`"), "this quoted name is empty or not terminated"),
)


def tokens_of(text: str) -> list[Token]:
    """All tokens of `text` and one END token; raises DdlError."""
    return list(scan(text))


def scan(text: str) -> Iterator[Token]:
    """The same, one by one: whoever stops at a mistake does not wait for what stands behind it."""
    at, line, line_start = 0, 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        column = at - line_start + 1
        if match is None or match.lastgroup is None:
            raise DdlError(_complaint(text, at), line, column)
        if kind := _KINDS.get(match.lastgroup):
            content = match[0][1:-1] if kind is Kind.QUOTED_NAME else match[0]
            if kind is Kind.WORD and text[match.end() : match.end() + 1] in {"'", '"'}:
                _check_string_prefix(match[0], text, at, line, column)
            yield Token(kind, content, at, match.end(), line, column)
        line += match[0].count("\n")
        if "\n" in match[0]:
            line_start = at + match[0].rindex("\n") + 1
        at = match.end()
    yield Token(Kind.END, "", at, at, line, at - line_start + 1)


def statements(tokens: Iterable[Token]) -> Iterator[list[Token]]:
    """The tokens of each statement and an END token where it ends; empty statements are left out. Raises DdlError.

    `tokens` ends with an END token. What is between two statements is not asked for before it is needed.
    """
    statement: list[Token] = []
    empty = 0
    for token in tokens:
        if token.kind is not Kind.END and not token.is_symbol(";"):
            statement.append(token)
            if len(statement) > STATEMENT_TOKENS_MAX:
                raise statement[0].error(f"this statement has more than {STATEMENT_TOKENS_MAX} words and signs")
        elif statement:
            yield [*statement, replace(token, kind=Kind.END)]
            statement = []
        else:
            empty += 1
            if empty > EMPTY_STATEMENTS_MAX:
                raise token.error(f"more than {EMPTY_STATEMENTS_MAX} statements are empty")


def text_without_comments(text: str, tokens: list[Token]) -> str:
    """The part of `text` that `tokens` cover, as it stands there but for the comments between them."""
    parts: list[str] = []
    for token, following in pairwise(tokens):
        between = text[token.end : following.start]
        if _COMMENT.search(between):
            between = _SPACE_AT_END_OF_LINE.sub("", _COMMENT.sub(" ", between))
        parts += text[token.start : token.end], between
    last = tokens[-1]
    return "".join([*parts, text[last.start : last.end]])


def _check_string_prefix(word: str, text: str, at: int, line: int, column: int) -> None:
    """`r'...` that did not match as a string is a string without an end, not a word before a string."""
    if word.lower() in {"r", "b", "rb", "br"}:
        raise DdlError(_complaint(text, at), line, column)


def _complaint(text: str, at: int) -> str:
    for pattern, complaint in _UNTERMINATED:
        if pattern.match(text, at):
            return complaint
    return f"unexpected character `{text[at]}`" if text[at].isprintable() else f"unexpected character {text[at]!a}"
