"""Which names of a subquery could come to mean a column that its tables do not have yet.

A name that no table of a subquery knows means something of the query around it; when a table gains a column of that
name, it means that column. `SELECT (SELECT MAX(Secret) FROM C) FROM (SELECT A AS Secret FROM T)` reads `A` today and
`C.Secret` from the day it exists. So whoever reads a statement by a schema that may be old has to ask what it would
read if its tables had such columns (googlesql.py asks). Everywhere else what a query itself names comes first, or a new
column makes the name ambiguous, and the statement invalid (tests/unit/test_capture.py).

Rules: the words of the text are what could be a name; too many is safe, too few is not. Left out is what can only be
a table or the alias of one: it is used before a dot, and stands alone only where it is given. A column can hide an
alias only if it is of type JSON or a message; that is for Spanner's own roles to refuse (docs/decisions/0017).
Not here: analysing (googlesql.py), where subqueries use names from around them (tree.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from spangate.sql.ddl_cursor import RESERVED
from spangate.sql.ddl_tokens import DdlError, Kind, Token, tokens_of

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def names_alone(sql: str, relations: Iterable[str], *, before_dots: bool) -> frozenset[str] | None:
    """The names in `sql`, in lower case, that stand alone somewhere, where they are used and not given; with
    `before_dots` those too that begin a path. `relations` are the last parts of the names of all tables that the
    statement reads. None if it cannot be said.
    """
    if "\\" in sql and "`" in sql:
        return None  # escapes can hide a name
    try:
        tokens = tokens_of(sql)[:-1]
    except DdlError:
        return frozenset(word.lower() for word in _WORD.findall(sql))
    given_to = {name.lower() for name in relations} | _with_names(tokens)
    # `EXTRACT(DAY FROM x)` and `IS DISTINCT FROM x` have another FROM.
    is_certain = not any(token.is_word("EXTRACT", "DISTINCT") for token in tokens)
    tables_follow = ("FROM", "JOIN", "INTO", "UPDATE") if is_certain else ("JOIN", "INTO", "UPDATE")
    alone: set[str] = set()
    given: set[str] = set()
    dotted: set[str] = set()
    for place, token in enumerate(tokens):
        if not _is_name(token):
            continue
        name = token.text.lower()
        before = tokens[place - 1] if place else None
        after = tokens[place + 1] if place + 1 < len(tokens) else None
        if before is not None and (before.is_symbol(".") or before.is_symbol("@")):
            continue  # a part of something, a parameter
        if after is not None and after.is_symbol("("):
            continue  # a function
        if after is not None and after.is_symbol("."):
            dotted.add(name)
        elif before is not None and name in given_to and before.is_word(*tables_follow):
            continue
        elif _gives_an_alias(tokens[max(0, place - 2) : place], given_to):
            given.add(name)
        else:
            alone.add(name)
    # A column's alias is used alone, or not at all; one that is only used before dots is a table's.
    alone |= given - dotted
    return frozenset(alone | dotted) if before_dots else frozenset(alone)


def _is_name(token: Token) -> bool:
    return token.kind is Kind.QUOTED_NAME or (token.kind is Kind.WORD and token.text.upper() not in RESERVED)


def _gives_an_alias(before: list[Token], given_to: set[str]) -> bool:
    """Whether a name behind these tokens is an alias: `AS x`, `(...) x`, `FROM Orders x`. A word that could be a
    keyword (`|> EXTEND x`) is no table, whatever tables there are.
    """
    if not before:
        return False
    last = before[-1]
    if last.is_word("AS") or last.is_symbol(")"):
        return True
    if len(before) < 2 or not _is_name(last) or last.text.lower() not in given_to:
        return False
    first = before[0]
    return first.is_word("FROM", "JOIN", "UPDATE", "INTO") or first.is_symbol(",") or first.is_symbol(".")


def _with_names(tokens: list[Token]) -> set[str]:
    """`x` in every `x AS (`."""
    return {
        first.text.lower()
        for first, second, third in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if _is_name(first) and second.is_word("AS") and third.is_symbol("(")
    }
