"""The normal form of a statement: its text with a placeholder in place of every literal.

Rules: what a literal is says ZetaSQL's own parser, by its syntax tree; there is no lexer here. Numbers and strings of
every kind are replaced, each kind by a placeholder of its own; TRUE, FALSE and NULL stay, and so does everything else,
comments and spaces included. A number that is all of an ORDER BY or GROUP BY item names a column and stays: after
`FROM t |>` it can be any column of the table. Statements with one normal form make the same accesses if they are valid
at all (tests/properties/test_literals.py), because accesses are made of names only. `quick_form` guesses the normal
form without the parser; a guess says nothing until the parser has given it for one statement.
Not here: who remembers accesses by normal form (adapters/analysers.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service

from spangate.sql.catalog import language_options
from spangate.sql.engine import Engine, EngineFailure
from spangate.sql.wire import BadMessage, Node

_KINDS = {
    "ASTIntLiteralProto": "i",
    "ASTFloatLiteralProto": "f",
    "ASTStringLiteralProto": "s",
    "ASTBytesLiteralProto": "b",
}
# What an item of these says with a number alone is the place of a column.
_BY_PLACE = frozenset({"ASTGroupingItemProto", "ASTOrderingExpressionProto"})
# A node that only says of which kind the one inside is.
_WRAPPER = "AnyAST"
# Cannot stand in a statement outside of a literal or a comment.
_MARK = "\x00"
# A tree is read in some 3 ms for each KiB of its encoding; what is longer costs more to read than to analyse, and is
# rarely sent twice in other words.
_CHARACTERS_MAX = 8 * 1024
_TREE_BYTES_MAX = 32 * 1024
# Without one of these there is no literal to replace.
_MAY_HOLD_LITERALS = re.compile(r"[0-9'\"]")
# The plainest literals: digits that are no part of a word, and a string in single quotes, without an escape, on one
# line, with something in it (two quotes can begin a string of three), with nothing beside it that it could belong to.
_PLAIN = re.compile(
    r"(?<![\w.@'\"`])(?:(?P<f>[0-9]+\.[0-9]+)|(?P<i>[0-9]+)|'(?P<s>[^'\\\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]+)')"
    r"(?![\w.'\"`])"
)
# What begins or ends anything that holds text other than words: a string, a quoted name, a comment.
_HOLDS_TEXT = re.compile(r"['\"`\\#]|--|/\*|\*/")


def quick_form(sql: str) -> str | None:
    """What `normal_form` gives if the parser finds a literal exactly where one seems to be; None if that is uncertain.

    It has to be confirmed: once `normal_form` has given F for one statement, every statement whose quick form is F has
    that normal form too. For nothing is left in F that could hold a quote, so that in such a statement every quote
    begins or ends one of its plain strings, and its tokens are of the same kinds as those that the parser has read, one
    by one (but for strings in a row, which make one literal); and what a parser makes of tokens depends on their kinds.
    """
    if _MARK in sql or len(sql) > _CHARACTERS_MAX:
        return None
    form = _PLAIN.sub(lambda found: f"{_MARK}{found.lastgroup}{_MARK}", sql)
    return None if _HOLDS_TEXT.search(form) else form


def normal_form(engine: Engine, sql: str) -> str | None:
    """`SELECT 1, 'a'` -> `SELECT \\0i\\0, \\0s\\0`; None if the parser refuses it, or if it is long.

    Raises EngineCrashed.
    """
    if _MARK in sql:
        return None
    if not _MAY_HOLD_LITERALS.search(sql):
        return sql
    if len(sql) > _CHARACTERS_MAX:
        return None
    try:
        request = service.ParseRequest(sql_statement=sql, options=_OPTIONS)
        answer = engine.call("ZetaSqlLocalService_Parse", request.SerializeToString())
        if len(answer) > _TREE_BYTES_MAX:
            return None
        literals = sorted(set(_literals(Node(service.ParseResponse.DESCRIPTOR, answer))))
        text = sql.encode()
    except (EngineFailure, BadMessage, UnicodeEncodeError):
        return None
    parts: list[bytes] = []
    at = 0
    for start, end, kind in literals:
        if not at <= start < end <= len(text):
            return None
        parts += text[at:start], f"{_MARK}{kind}{_MARK}".encode()
        at = end
    return b"".join([*parts, text[at:]]).decode("utf-8", "replace")


def _literals(tree: Node) -> Iterator[tuple[int, int, str]]:
    """Where literals begin and end, in bytes, and their kinds."""
    todo = [(tree, False)]
    while todo:
        node, by_place = todo.pop()
        kind = _KINDS.get(node.name)
        if kind is None:
            by_place = node.name in _BY_PLACE or (by_place and node.name.startswith(_WRAPPER))
            todo.extend((one, by_place) for one in node.children(leaves=_POSITIONS))
            continue
        if by_place:
            continue
        place = node
        while not place.has("parse_location_range"):
            if not place.has("parent"):
                raise BadMessage("a literal without a place")
            place = place.message("parent")
        reach = place.message("parse_location_range")
        yield reach.number("start"), reach.number("end"), kind


_OPTIONS = language_options()
_POSITIONS = frozenset({"ParseLocationRangeProto"})
