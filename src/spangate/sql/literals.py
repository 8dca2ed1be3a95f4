"""The normal form of a statement: its text with a placeholder in place of every literal.

Rules: what a literal is says ZetaSQL's own parser, by its syntax tree; there is no lexer here. Numbers and strings of
every kind are replaced, each kind by a placeholder of its own; TRUE, FALSE and NULL stay, and so does everything else,
comments and spaces included. A number that is all of an ORDER BY or GROUP BY item names a column and stays: after
`FROM t |>` it can be any column of the table. Statements with one normal form make the same accesses if they are valid
at all (tests/properties/test_literals.py), because accesses are made of names only.
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


def normal_form(engine: Engine, sql: str) -> str | None:
    """`SELECT 1, 'a'` -> `SELECT \\0i\\0, \\0s\\0`; None if the parser refuses it, or if it is long.

    Raises EngineCrashed.
    """
    if not _MAY_HOLD_LITERALS.search(sql):
        return sql
    if _MARK in sql or len(sql) > _CHARACTERS_MAX:
        return None
    try:
        request = service.ParseRequest(sql_statement=sql, options=language_options())
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


_POSITIONS = frozenset({"ParseLocationRangeProto"})
