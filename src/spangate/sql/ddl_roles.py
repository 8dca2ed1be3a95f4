"""Whether a DDL statement manages roles: those of a database are made from the intent, by Spangate alone.

Rules: a statement that could be one counts as one. Without one of the words GRANT, REVOKE and ROLE there is none: no
dialect can write a keyword in another way. With one, the two words at the beginning decide, if each statement of the
text can be read with certainty, by the tokens of its own dialect.
Not here: who may send DDL at all (decision/).
"""

from __future__ import annotations

import re

from spangate.model.schema import Dialect
from spangate.sql.ddl_tokens import DdlError, Kind, tokens_of

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TELLTALE = frozenset({"GRANT", "REVOKE", "ROLE"})
# How all other statements begin.
_FIRST = frozenset({"CREATE", "ALTER", "DROP", "RENAME", "ANALYZE", "COMMENT"})

# A statement, as far as it matters here: words without quotes in upper case, `;`, and for all else the empty text.
Words = list[str]


def manages_roles(statement: str, dialect: Dialect) -> bool:
    """Whether `statement` creates, changes, drops or grants a role, or cannot be told from one that does."""
    if _TELLTALE.isdisjoint(word.upper() for word in _WORD.findall(statement)):
        return False
    words = _postgresql(statement) if dialect is Dialect.POSTGRESQL else _googlesql(statement)
    while words and words[-1] == ";":
        words.pop()
    return not words or ";" in words or _begins_so(words, dialect)


def _googlesql(statement: str) -> Words:
    """Nothing for what cannot be read."""
    try:
        tokens = tokens_of(statement)[:-1]
    except DdlError:
        return []
    return [token.text.upper() if token.kind is Kind.WORD else ";" if token.is_symbol(";") else "" for token in tokens]


def _postgresql(statement: str) -> Words:
    """Nothing for what cannot be read. The grammar is there: the database's schema was read by it."""
    from spangate.sql.pg_parse import COMMENTS, PgSyntaxError, tokens_of

    try:
        tokens = [token for token in tokens_of(statement) if token.name not in COMMENTS]
    except PgSyntaxError:
        return []
    texts = [statement[token.start : token.end + 1] for token in tokens]
    return [text.upper() if _WORD.fullmatch(text) else text if text == ";" else "" for text in texts]


def _begins_so(words: Words, dialect: Dialect) -> bool:
    # What begins otherwise is GRANT, REVOKE, or nothing that is known here.
    if len(words) < 2 or words[0] not in _FIRST:
        return True
    second = words[1]
    if words[0] == "CREATE" and second == "OR":
        return "" in words[2:4] or "ROLE" in words[2:4] or len(words) < 4
    # PostgreSQL's grammar lets CREATE SCHEMA hold GRANTs; ALTER DEFAULT PRIVILEGES grants.
    if dialect is Dialect.POSTGRESQL and second == "SCHEMA":
        return True
    return second in ("", "ROLE", "DEFAULT")
