"""Whether a DDL statement manages roles: those of a database are made from the intent, by Spangate alone.

Rules: a statement that could be one counts as one. Without one of the words GRANT, REVOKE and ROLE there is none: no
dialect can write a keyword in another way. With one, what stands at the beginning decides, if the statement can be read
with certainty.
Not here: who may send DDL at all (decision/).
"""

from __future__ import annotations

import re

from spangate.model.schema import Dialect
from spangate.sql.ddl_tokens import DdlError, Token, tokens_of

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TELLTALE = frozenset({"GRANT", "REVOKE", "ROLE"})
# How all other statements begin.
_FIRST = ("CREATE", "ALTER", "DROP", "RENAME", "ANALYZE", "COMMENT")
# PostgreSQL reads these otherwise than `tokens_of`, which is of GoogleSQL: nested comments, `#` as an operator, strings
# in dollars, backslashes that escape nothing.
_READ_OTHERWISE = ("/*", "--", "#", "'", "$", "\\", "`")


def manages_roles(statement: str, dialect: Dialect) -> bool:
    """Whether `statement` creates, changes, drops or grants a role, or cannot be told from one that does."""
    if _TELLTALE.isdisjoint(word.upper() for word in _WORD.findall(statement)):
        return False
    if dialect is Dialect.POSTGRESQL and any(mark in statement for mark in _READ_OTHERWISE):
        return True
    try:
        tokens = tokens_of(statement)[:-1]
    except DdlError:
        return True
    while tokens and tokens[-1].is_symbol(";"):
        tokens.pop()
    return any(token.is_symbol(";") for token in tokens) or _begins_so(tokens, dialect)


def _begins_so(tokens: list[Token], dialect: Dialect) -> bool:
    # What begins otherwise is GRANT, REVOKE, or nothing that is known here.
    if len(tokens) < 2 or not tokens[0].is_word(*_FIRST):
        return True
    first, second = tokens[:2]
    if first.is_word("CREATE") and second.is_word("OR"):
        return not tokens[2:] or any(token.is_word("ROLE") for token in tokens[2:4])
    # PostgreSQL's grammar lets CREATE SCHEMA hold GRANTs; ALTER DEFAULT PRIVILEGES grants.
    if dialect is Dialect.POSTGRESQL and second.is_word("SCHEMA"):
        return True
    return second.is_word("ROLE", "DEFAULT")
