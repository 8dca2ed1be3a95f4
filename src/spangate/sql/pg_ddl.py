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
from spangate.sql.pg_ddl_alter import alter_index, alter_table
from spangate.sql.pg_ddl_table import create_index, create_table
from spangate.sql.pg_ddl_tokens import PUBLIC, PgCursor, Statement, statements_of
from spangate.sql.pg_parse import PgSyntaxError, place
from spangate.sql.pg_view import view_query, view_text

__all__ = ["parse_pg_ddl"]

# Kept word for word: they make nothing that a statement could read.
_PASSED = (
    ("ALTER", "CHANGE", "STREAM"),
    ("ALTER", "DATABASE"),
    ("ALTER", "LOCALITY", "GROUP"),
    ("ALTER", "ROLE"),
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


class _Named(Database):
    """Tables and indexes, and the names of what else there is."""

    def take(self, what: str, name: str, token: Token, *, may_exist: bool, may_replace: bool) -> bool:
        """Takes a name for something that is neither table nor index; whether it is made now."""
        replaces = may_replace and self._others.get(name.lower()) == what
        made = self.is_free(name, token, may_exist=may_exist or replaces) or replaces
        if made:
            self._others[name.lower()] = what
        return made

    def give_back(self, what: str, name: str, token: Token) -> bool:
        """Frees a name that `take` took; whether it was there."""
        if name.lower() in self._others and self._others[name.lower()] != what:
            raise token.error(f"`{name}` is a {self._others[name.lower()]}, not a {what}")
        return self._others.pop(name.lower(), None) is not None

    def remove_schema(self, name: str) -> bool:
        """Takes a named schema away; whether it was there."""
        return self._named_schemas.pop(name.lower(), None) is not None


class _Builder:
    """What the statements have made so far."""

    def __init__(self) -> None:
        self.database = _Named()
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
        elif cursor.at_words("ALTER", "INDEX"):
            alter_index(statement, self.database)
        elif cursor.try_words("CREATE"):
            self._create(cursor, statement)
        elif cursor.try_words("DROP"):
            self._drop(cursor)
        else:
            if verb.is_word("ALTER"):
                raise cursor.ahead(1).error(f"ALTER {cursor.ahead(1)} is not supported")
            raise cursor.expected(("CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "ANALYZE"), "a DDL statement")

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
        if known is not None and known.name != name:
            raise token.error(f"`{known.name}` exists already")
        made = self.database.take(what, name, token, may_exist=may_exist, may_replace=may_replace)
        if kind is not None and made:
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
        words = () if is_schema else self._kind(cursor)[0]
        if_exists = cursor.try_words("IF", "EXISTS")
        name, token = cursor.path("a name")
        cursor.end()
        found = self.objects.get(name.lower())
        if found is not None and found.name != name:
            gone = False
        elif is_schema:
            gone = self.database.remove_schema(name)
        else:
            gone = self.database.give_back(" ".join(words).lower(), name, token)
            self.objects.pop(name.lower(), None)
        if not (gone or if_exists):
            raise token.error(f"`{name}` does not exist")

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
    """Whether a view has its definer's rights; not if it does not say. Raises DdlError if it cannot be read."""
    try:
        view_query(statement.source)
        return bool(view_text(statement.source).definer)
    except PgSyntaxError as error:
        raise statement.tokens[0].error(error.message) from error
