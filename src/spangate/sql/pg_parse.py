"""PostgreSQL text -> parse trees, by PostgreSQL's own grammar (libpg_query, through pglast).

Rules: a tree is plain data, as libpg_query writes it in JSON: a node is a dict with one key, its type; fields that are
empty, zero or false are left out; places are offsets in bytes. What the grammar might read otherwise than Spanner does
is refused before it: names that PostgreSQL would cut at 63 bytes and Spanner would not, names with Unicode escapes,
names outside ASCII without quotes, whose folding differs between builds, and NUL, at which the grammar's text ends.
So are rows of operators on which its scanner takes time that grows with their square: minutes for a megabyte.
Trees of any depth can be read: the grammar ends what is too deep for it with an error of its own, and nothing here
recurses. Large ones are read only if they are not deep, which Python's own reader does quickly.
Not here: what a tree means (pg_statement.py, pg_ddl.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pglast import parser

# NAMEDATALEN - 1 of PostgreSQL: what is longer is cut without an error. Spanner's names have up to 128 characters.
NAME_BYTES_MAX = 63
# Names of the tokens that are comments.
COMMENTS = frozenset({"SQL_COMMENT", "C_COMMENT"})
# Longer than any place in a statement that a person would want quoted.
_NAME_SHOWN_MAX = 100

# The scanner looks at a whole row of operator characters (op_chars in PostgreSQL's scan.l), takes one comment's
# beginning, or one sign, and looks at the rest again. In rows as short as this, or with as few, nobody notices.
_ROW_MAX = 128
_COMMENTS_IN_ROW_MAX = 16
_ROW = re.compile(r"[~!@#^&|`?+\-*/%<>=]{" + str(_ROW_MAX + 1) + ",}")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_SIGNS = re.compile(r"[+\-]{" + str(_ROW_MAX + 1) + ",}")

# pglast counts characters anew for each token of a text that is not ASCII: this many tokens times characters take half
# a second. A statement of 10,000 characters may have as many tokens.
_TOKENS_TIMES_CHARACTERS_MAX = 200_000_000

# What is too deep for Python's own reader of JSON takes a second for this many characters: a union of 15,000 queries.
_DEEP_TREE_CHARACTERS_MAX = 4_000_000

# One JSON token: a bracket, a string, or a number or word; commas and colons carry nothing that order does not.
_JSON_TOKEN = re.compile(r'[\s,:]*+(?:([\[{])|([\]}])|("(?:[^"\\]|\\.)*+")|([^\s,:\[\]{}"]++))')

Node = dict[str, Any]


class PgSyntaxError(Exception):
    """The text is not PostgreSQL, or is refused as such. `offset` counts characters, None where it is not known."""

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


def tokens_of(text: str) -> list[parser.Token]:
    """PostgreSQL's tokens, comments among them, with places in characters (`end` is the last). PgSyntaxError."""
    if "\0" in text:
        raise PgSyntaxError("the text holds the character NUL", text.index("\0"))
    _check_rows(text)
    try:
        if not text.isascii() and _tokens_in(text) * len(text) > _TOKENS_TIMES_CHARACTERS_MAX:
            raise PgSyntaxError("the text has too many words for one that is not ASCII")
        tokens = parser.scan(text)
    except parser.ParseError as error:
        raise _syntax_error(error) from error
    except UnicodeEncodeError as error:
        raise PgSyntaxError("the text is not valid Unicode", error.start) from error
    return list(tokens)


def check_names(text: str, tokens: Iterable[parser.Token]) -> None:
    """Raise PgSyntaxError if a name could mean something else to Spanner than to this grammar."""
    for token in tokens:
        if token.name == "UIDENT":
            raise PgSyntaxError('names with Unicode escapes (`U&"..."`) are not supported', token.start)
        if token.name != "IDENT":
            continue
        name = text[token.start : token.end + 1]
        if len(name.strip('"').encode()) > NAME_BYTES_MAX:
            shown = name[:_NAME_SHOWN_MAX]
            raise PgSyntaxError(f"the name `{shown}` is longer than {NAME_BYTES_MAX} bytes", token.start)
        if not name.startswith('"') and not name.isascii():
            raise PgSyntaxError(f"`{name}` is not ASCII; put it in double quotes", token.start)


def trees_of(text: str) -> list[Node]:
    """One node for each statement of `text`, whose names `check_names` has passed. Raises PgSyntaxError."""
    try:
        written = parser.parse_sql_json(text)
    except parser.ParseError as error:
        raise _syntax_error(error) from error
    except UnicodeEncodeError as error:
        raise PgSyntaxError("the text is not valid Unicode", error.start) from error
    found = read_json(written)
    return [one["stmt"] for one in found.get("stmts", ())]


def read_json(text: str) -> Any:  # noqa: ANN401 - JSON is anything
    """What `json.loads` gives, however deep; a tree of the usual depth at its speed. Raises PgSyntaxError."""
    try:
        return json.loads(text)
    except RecursionError:
        if len(text) > _DEEP_TREE_CHARACTERS_MAX:
            raise PgSyntaxError("the statement is too large for one that is nested so deeply") from None
        return _read_deep_json(text)


def place(text: str, offset: int) -> tuple[int, int]:
    """Line and column of a character, from 1."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def character_at(text: str, byte: int) -> int:
    """The character that begins at `byte` of the text in UTF-8."""
    return byte if text.isascii() else len(text.encode()[:byte].decode(errors="ignore"))


def only(node: Node) -> tuple[str, Node]:
    """Type and fields of a node."""
    ((name, body),) = node.items()
    return name, body


def strings(nodes: Iterable[Node]) -> Iterator[str]:
    """The texts of String nodes; a KeyError says that one is not."""
    return (node["String"].get("sval", "") for node in nodes)


def _tokens_in(text: str) -> int:
    """How many tokens there are: to the scanner, any character outside ASCII is a letter."""
    return len(parser.scan(_NOT_ASCII.sub("q", text)))


def _check_rows(text: str) -> None:
    """Raise PgSyntaxError for a row of operators that takes the scanner long. `-----` is a comment, and quick."""
    for row in _ROW.finditer(text):
        many_comments = row.group().count("/*") > _COMMENTS_IN_ROW_MAX
        if many_comments or any("+" in signs for signs in _SIGNS.findall(row.group())):
            raise PgSyntaxError(f"more than {_ROW_MAX} operators in a row are not supported", row.start())


def _syntax_error(error: parser.ParseError) -> PgSyntaxError:
    message, offset = error.args[0], error.args[1] if len(error.args) > 1 else None
    if message.startswith(("memory exhausted", "stack depth limit exceeded")):
        return PgSyntaxError("the statement is nested too deeply")
    return PgSyntaxError(message, offset if isinstance(offset, int) and offset >= 0 else None)


def _read_deep_json(text: str) -> Any:  # noqa: ANN401 - JSON is anything
    """As json.loads for what libpg_query writes, without recursion."""
    result: list[Any] = []
    containers: list[Any] = [result]
    keys: list[str | None] = [None]
    value: Any
    for match in _JSON_TOKEN.finditer(text):
        opening, closing, quoted, word = match.groups()
        if closing:
            containers.pop()
            keys.pop()
            continue
        if not (opening or quoted or word):
            continue
        value = ({} if opening == "{" else []) if opening else json.loads(quoted or word)
        container = containers[-1]
        if isinstance(container, list):
            container.append(value)
        elif keys[-1] is None:
            keys[-1] = value
            continue
        else:
            container[keys[-1]] = value
            keys[-1] = None
        if opening:
            containers.append(value)
            keys.append(None)
    return result[0]
