"""The normal form of a PostgreSQL statement: its text with a placeholder for each literal that stands for a value.

Rules: what a literal is says PostgreSQL's own scanner. One is replaced only where nothing but its value can matter:
behind an operator, a word like AND or LIMIT, or in the lists of IN and VALUES. All others stay: numbers in ORDER BY and
GROUP BY name columns, arguments of functions can name sequences. Each kind of literal has a placeholder of its own.
Statements with one normal form make the same accesses (tests/properties/test_pg_literals.py).
Not here: who remembers accesses by normal form (adapters/analysers.py), GoogleSQL (literals.py).
"""

from __future__ import annotations

from pglast.parser import Token

from spangate.sql.pg_parse import PgSyntaxError, tokens_of

_KINDS = {"ICONST": "i", "FCONST": "f", "SCONST": "s"}
_OPERATORS = frozenset(
    {"ASCII_61", "ASCII_60", "ASCII_62", "LESS_EQUALS", "GREATER_EQUALS", "NOT_EQUALS", "ASCII_43", "ASCII_45"}
    | {"ASCII_42", "ASCII_47", "ASCII_37", "Op"}
)
_WORDS = frozenset({"LIKE", "ILIKE", "AND", "OR", "BETWEEN", "LIMIT", "OFFSET", "THEN", "ELSE", "WHEN", "WHERE"})
_OPEN, _CLOSE, _COMMA = "ASCII_40", "ASCII_41", "ASCII_44"
_LISTS = frozenset({"IN_P", "VALUES"})
# What begins with these is a query, where a number behind a comma can name a column.
_QUERIES = frozenset({"SELECT", "WITH", "TABLE", "VALUES"})
# Cannot stand in a statement.
_MARK = "\x00"
# What is longer is rarely sent twice in other words.
_CHARACTERS_MAX = 32 * 1024


def pg_normal_form(sql: str) -> str | None:
    """`sql` with placeholders, or None if there is nothing to replace, or it cannot be said."""
    if len(sql) > _CHARACTERS_MAX:
        return None
    try:
        tokens = tokens_of(sql)
    except PgSyntaxError:
        return None
    parts: list[str] = []
    at = 0
    for token in _replaceable(tokens):
        parts += sql[at : token.start], _MARK, _KINDS[token.name]
        at = token.end + 1
    return "".join([*parts, sql[at:]]) if parts else None


def _replaceable(tokens: list[Token]) -> list[Token]:
    found: list[Token] = []
    # For each open parenthesis, whether it holds a list of values, as far as is known by now.
    lists: list[bool] = []
    # Whether what was last closed was a row of VALUES: the next one follows behind a comma.
    row_closed = False
    before = before_that = ""
    for token in tokens:
        name = token.name
        if name == _OPEN:
            lists.append(before in _LISTS or (before == _COMMA and before_that == _CLOSE and row_closed))
        elif name == _CLOSE:
            row_closed = lists.pop() if lists else False
        elif name in _QUERIES and lists:
            lists[-1] = False
        elif name in _KINDS:
            in_list = bool(lists) and lists[-1] and before in (_OPEN, _COMMA)
            if before in _OPERATORS or before in _WORDS or in_list:
                found.append(token)
        before_that, before = before, name
    return found
