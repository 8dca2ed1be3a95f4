"""Schema file of a PostgreSQL-dialect database -> Schema, statement by statement, in order.

Rules: tables, indexes, views and sequences are understood completely or refused with their place. Roles and grants,
statistics and the like are kept word for word and create nothing. Names that differ only in case are two names to
PostgreSQL; a schema that has both is refused, because the rest of Spangate, as Spanner's API, does not tell them apart.
Every statement is in `Schema.statements`, without semicolon and comments.
Source: https://cloud.google.com/spanner/docs/reference/postgresql/data-definition-language
Not here: tables and indexes (pg_ddl_table.py), statements about rows (pg_statement.py), GoogleSQL's DDL (ddl.py).
"""

from __future__ import annotations

from spangate.model.schema import Dialect, ObjectKind, Schema, SchemaObject
from spangate.sql.ddl_database import Database
from spangate.sql.ddl_tokens import DdlError, Token
from spangate.sql.pg_ddl_table import alter_table, create_index, create_table
from spangate.sql.pg_ddl_tokens import PUBLIC, PgCursor, Statement, statements_of
from spangate.sql.pg_parse import PgSyntaxError, place
from spangate.sql.pg_view import view_query, view_text

__all__ = ["parse_pg_ddl"]

# Kept word for word: they make nothing that a statement could read.
_PASSED = (
    ("ALTER", "CHANGE", "STREAM"),
    ("ALTER", "DATABASE"),
    ("ALTER", "INDEX"),
    ("ALTER", "LOCALITY", "GROUP"),
    ("ALTER", "ROLE"),
    ("ALTER", "SCHEMA"),
    ("ALTER", "SEARCH", "INDEX"),
    ("ALTER", "SEQUENCE"),
    ("ALTER", "STATISTICS"),
    ("ANALYZE",),
    ("CREATE", "LOCALITY", "GROUP"),
    ("CREATE", "PLACEMENT"),
    ("CREATE", "ROLE"),
    ("DROP", "LOCALITY", "GROUP"),
    ("DROP", "PLACEMENT"),
    ("DROP", "ROLE"),
    ("GRANT",),
    ("REVOKE",),
)
# Objects that take a name; None where nothing can be granted on them.
_KINDS: dict[tuple[str, ...], ObjectKind | None] = {
    ("CHANGE", "STREAM"): ObjectKind.CHANGE_STREAM,
    ("MODEL",): ObjectKind.MODEL,
    ("SEARCH", "INDEX"): None,
    ("SEQUENCE",): ObjectKind.SEQUENCE,
    ("VECTOR", "INDEX"): None,
    ("VIEW",): ObjectKind.VIEW,
}
# Schemas that are there without being made, and those that PostgreSQL keeps for itself.
_OWN_SCHEMAS = frozenset({PUBLIC, "information_schema", "spanner", "spanner_sys"})
_OWN_SCHEMA_PREFIX = "pg_"


class _Builder:
    """What the statements have made so far."""

    def __init__(self) -> None:
        self.database = Database()
        self.objects: dict[str, SchemaObject] = {}

    def run(self, statement: Statement) -> None:
        """Carries out one statement."""
        cursor = PgCursor(statement.tokens)
        if any(cursor.at_words(*words) for words in _PASSED):
            return
        verb = cursor.token
        if cursor.at_words("CREATE", "TABLE"):
            create_table(statement, self.database)
        elif cursor.at_words("CREATE", "INDEX") or cursor.at_words("CREATE", "UNIQUE", "INDEX"):
            create_index(statement, self.database)
        elif cursor.at_words("ALTER", "TABLE"):
            alter_table(statement, self.database)
        elif cursor.try_words("CREATE"):
            self._create(cursor, statement)
        elif cursor.try_words("DROP"):
            self._drop(cursor)
        else:
            raise cursor.expected(("CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "ANALYZE"), "a DDL statement") if (
                not verb.is_word("ALTER")
            ) else cursor.ahead(1).error(f"cannot read ALTER {cursor.ahead(1)}")

    def _create(self, cursor: PgCursor, statement: Statement) -> None:
        may_replace = cursor.try_words("OR", "REPLACE")
        if cursor.try_words("SCHEMA"):
            may_exist = cursor.try_words("IF", "NOT", "EXISTS")
            token = cursor.name("a schema name")
            cursor.end()
            if token.text in _OWN_SCHEMAS or token.text.startswith(_OWN_SCHEMA_PREFIX):
                if not (may_exist and token.text == PUBLIC):
                    raise token.error(f"`{token.text}` cannot be a schema name: it is there already")
                return
            self.database.add_schema(token.text)
            return
        if cursor.try_words("FUNCTION"):
            self.database.functions.add(cursor.path("a function name")[0].lower())
            return
        words, kind = self._kind(cursor)
        may_exist = cursor.try_words("IF", "NOT", "EXISTS")
        name, token = cursor.path("a name")
        what = " ".join(words).lower()
        if name.rpartition(".")[2].startswith(_OWN_SCHEMA_PREFIX):
            raise token.error(f"`{name}` cannot be a name: PostgreSQL's own begin with `{_OWN_SCHEMA_PREFIX}`")
        known = self.objects.get(name.lower())
        if may_replace and known is not None and known.name != name:
            raise token.error(f"`{known.name}` exists already")
        there = not self.database.is_free(name, token, may_exist=may_exist or may_replace)
        self.database.add_other(what, name, token, may_exist=may_exist, may_replace=may_replace)
        if kind is not None and not (there and may_exist):
            definer = _definer(statement) if kind is ObjectKind.VIEW else False
            self.objects[name.lower()] = SchemaObject(kind, name, statement.source, definer)

    def _drop(self, cursor: PgCursor) -> None:
        if cursor.at_words("TABLE") or cursor.at_words("INDEX"):
            is_table = cursor.next().is_word("TABLE")
            if_exists = cursor.try_words("IF", "EXISTS")
            name, token = cursor.path("a name")
            cursor.end()
            self._drop_stored(name, token, is_table=is_table, if_exists=if_exists)
            return
        if cursor.try_words("FUNCTION"):
            # The name stays refused.
            return
        is_schema = cursor.try_words("SCHEMA")
        if not is_schema:
            self._kind(cursor)
        if_exists = cursor.try_words("IF", "EXISTS")
        name, token = cursor.path("a name")
        cursor.end()
        found = self.objects.get(name.lower())
        if found is not None and found.name == name and not is_schema:
            del self.objects[name.lower()]
        elif found is not None and not if_exists:
            raise token.error(f"`{name}` does not exist; did you mean `{found.name}`?")
        self.database.drop_other(name)

    def _drop_stored(self, name: str, token: Token, *, is_table: bool, if_exists: bool) -> None:
        places = self.database.tables if is_table else self.database.indexes
        found = places.get(name.lower())
        if found is None or found.name != name:
            if if_exists:
                return
            raise token.error(f"{'table' if is_table else 'index'} `{name}` does not exist")
        if is_table:
            self.database.drop_table(self.database.table(name, token), token)
        else:
            del self.database.indexes[name.lower()]

    def _kind(self, cursor: PgCursor) -> tuple[tuple[str, ...], ObjectKind | None]:
        for words, kind in _KINDS.items():
            if cursor.try_words(*words):
                return words, kind
        alternatives = ("TABLE", "INDEX", "UNIQUE", "SCHEMA", *(words[0] for words in _KINDS))
        raise cursor.expected(alternatives, "what the statement is about")


def parse_pg_ddl(text: str) -> Schema:
    """The schema that `text` creates in an empty PostgreSQL-dialect database; raises DdlError at the first mistake."""
    builder = _Builder()
    statements: list[str] = []
    for statement in statements_of(text):
        first = statement.tokens[0]
        try:
            builder.run(statement)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise first.error("the statement has a form that is not understood") from error
        statements.append(statement.source)
    if not statements:
        raise DdlError("the schema is empty", *place(text, len(text)))
    return Schema(
        tables=tuple(builder.database.tables.values()),
        indexes=tuple(builder.database.indexes.values()),
        objects=tuple(builder.objects.values()),
        dialect=Dialect.POSTGRESQL,
        functions=tuple(sorted(builder.database.functions)),
        statements=tuple(statements),
    )


def _definer(statement: Statement) -> bool:
    """Whether a view has its definer's rights. Raises DdlError if it does not say, or if it cannot be read."""
    first = statement.tokens[0]
    try:
        definer = view_text(statement.source).definer
        view_query(statement.source)
    except PgSyntaxError as error:
        raise first.error(error.message) from error
    if definer is None:
        raise first.error("a view needs SQL SECURITY INVOKER or SQL SECURITY DEFINER")
    return definer
