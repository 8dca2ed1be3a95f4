"""Schema file -> Schema: Spanner's GoogleSQL DDL, statement by statement, as `CREATE DATABASE` would run it.

Rules: statements take effect in order, on what those before them made. Tables, columns and indexes are understood
completely or refused with their place. Views, change streams, sequences, models, queues and property graphs become
`Schema.objects`, each with the statement that made it. Everything else (roles, functions, search indexes, ...) is kept
word for word and creates nothing that anybody could be granted. Every statement is in `Schema.statements`, in order, so
that a database can be made from it: without its semicolon and without comments, because the API takes neither (tools
cut them out).
Source: https://cloud.google.com/spanner/docs/reference/standard-sql/data-definition-language
Not here: tables and indexes (ddl_table.py, ddl_alter.py), what is inside of views and models (objects.py), statements
about rows (googlesql.py).
"""

from __future__ import annotations

from spangate.model.schema import ObjectKind, Schema, SchemaObject
from spangate.sql.ddl_alter import alter_index, alter_table, drop_index, drop_table
from spangate.sql.ddl_cursor import Cursor
from spangate.sql.ddl_database import Database
from spangate.sql.ddl_table import create_index, create_table
from spangate.sql.ddl_tokens import DdlError, scan, statements, text_without_comments
from spangate.sql.objects import security

__all__ = ["DdlError", "parse_ddl"]

_VERBS = ("CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "RENAME", "ANALYZE")

# GoogleSQL's functions live in these (`NET.HOST`). A named schema of that name would hide them or be hidden by them.
_FUNCTION_NAMESPACES = frozenset({"hll_count", "kll_quantiles", "net"})
# And these are there already.
_SYSTEM_SCHEMAS = frozenset({"information_schema", "ml", "spanner_sys"})

# What CREATE, ALTER and DROP can be about besides tables and indexes. Those that share the tables' name space are
# marked, so that a table cannot take a view's name.
_SHARES_NAMES = True
_OTHER_OBJECTS: dict[tuple[str, ...], bool] = {
    ("CHANGE", "STREAM"): _SHARES_NAMES,
    ("DATABASE",): False,
    ("FUNCTION",): False,
    ("LOCALITY", "GROUP"): False,
    ("MODEL",): _SHARES_NAMES,
    ("PLACEMENT",): False,
    ("PROPERTY", "GRAPH"): _SHARES_NAMES,
    ("PROTO", "BUNDLE"): False,
    ("QUEUE",): _SHARES_NAMES,
    ("ROLE",): False,
    ("SCHEMA",): False,
    ("SEARCH", "INDEX"): _SHARES_NAMES,
    ("SEQUENCE",): _SHARES_NAMES,
    ("STATISTICS",): False,
    ("VECTOR", "INDEX"): _SHARES_NAMES,
    ("VIEW",): _SHARES_NAMES,
}
_KINDS: dict[tuple[str, ...], ObjectKind] = {tuple(kind.value.upper().split()): kind for kind in ObjectKind}


def parse_ddl(text: str) -> Schema:
    """The schema that `text` creates in an empty database; raises DdlError at the first mistake."""
    database = Database()
    texts: list[str] = []
    for statement in statements(scan(text)):
        texts.append(text_without_comments(text, statement[:-1]))
        _run(Cursor(statement), database, texts[-1])
    if not texts:
        *_, end = scan(text)
        raise end.error("the schema is empty")
    return Schema(
        tables=tuple(database.tables.values()),
        indexes=tuple(database.indexes.values()),
        objects=tuple(database.objects.values()),
        functions=tuple(sorted(database.functions)),
        statements=tuple(texts),
    )


def _run(cursor: Cursor, database: Database, text: str) -> None:
    """Carries out one statement; `text` is what it says, without comments."""
    verb = cursor.token
    if not verb.is_word(*_VERBS):
        raise cursor.expected(_VERBS, "a DDL statement")
    cursor.next()
    match verb.text.upper():
        case "CREATE":
            _create(cursor, database, text)
        case "ALTER":
            _alter(cursor, database)
        case "DROP":
            _drop(cursor, database)
        case "RENAME":
            raise verb.error("renaming a table is not supported; create it under its new name")
        case _:
            pass


def _create(cursor: Cursor, database: Database, text: str) -> None:
    if cursor.try_words("TABLE"):
        create_table(cursor, database)
        cursor.end()
        return
    unique = cursor.try_words("UNIQUE")
    null_filtered = cursor.try_words("NULL_FILTERED")
    if unique or null_filtered or cursor.at_words("INDEX"):
        cursor.words("INDEX")
        create_index(cursor, database)
        cursor.end()
        return
    may_replace = cursor.try_words("OR", "REPLACE")
    words = _other_object(cursor, ("TABLE", "INDEX", "UNIQUE", "NULL_FILTERED"))
    may_exist = cursor.try_words("IF", "NOT", "EXISTS")
    what = " ".join(words).lower()
    if words == ("SCHEMA",):
        token = cursor.name("a schema name")
        if token.text.lower() in _FUNCTION_NAMESPACES:
            raise token.error(f"`{token.text}` cannot be a schema name: functions of GoogleSQL begin with it")
        if token.text.lower() in _SYSTEM_SCHEMAS:
            raise token.error(f"`{token.text}` cannot be a schema name: every database has it already")
        database.add_schema(token.text)
    elif words == ("FUNCTION",):
        database.functions.add(cursor.path("a function name")[0].lower())
    elif _OTHER_OBJECTS[words]:
        name, token = cursor.path(f"a {what} name")
        free = database.add_other(what, name, token, may_exist=may_exist, may_replace=may_replace)
        definer = words == ("VIEW",) and security(cursor)
        if free and words in _KINDS:
            database.put_object(SchemaObject(_KINDS[words], name, text, definer))


def _alter(cursor: Cursor, database: Database) -> None:
    if cursor.try_words("TABLE"):
        alter_table(cursor, database)
        cursor.end()
    elif cursor.try_words("INDEX"):
        alter_index(cursor, database)
        cursor.end()
    else:
        _other_object(cursor, ("TABLE", "INDEX"))


def _drop(cursor: Cursor, database: Database) -> None:
    if cursor.try_words("TABLE"):
        drop_table(cursor, database)
        cursor.end()
    elif cursor.try_words("INDEX"):
        drop_index(cursor, database)
        cursor.end()
    else:
        words = _other_object(cursor, ("TABLE", "INDEX"))
        cursor.try_words("IF", "EXISTS")
        if words == ("SCHEMA",):
            database.drop_schema(cursor.path("a schema name")[0])
        elif _OTHER_OBJECTS[words]:
            what = " ".join(words).lower()
            database.drop_other(what, *cursor.path(f"a {what} name"))


def _other_object(cursor: Cursor, alternatives: tuple[str, ...]) -> tuple[str, ...]:
    """Takes the words for what a statement is about, if we know that it does not concern tables."""
    for words in _OTHER_OBJECTS:
        if cursor.try_words(*words):
            return words
    raise cursor.expected((*alternatives, *(words[0] for words in _OTHER_OBJECTS)), "what the statement is about")
