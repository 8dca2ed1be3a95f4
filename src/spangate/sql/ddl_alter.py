"""Changes to tables and indexes: ALTER and DROP.

Rules: a change that is not understood completely is refused at its place, for a schema that is almost right would
allow or deny the wrong thing.
Not here: their creation (ddl_table.py).
"""

from __future__ import annotations

from dataclasses import replace

from spangate.model.schema import Table
from spangate.sql.ddl_column import column_of, skip_generation, skip_value, type_of
from spangate.sql.ddl_cursor import Cursor
from spangate.sql.ddl_database import Database, check_room, column_named, unknown
from spangate.sql.ddl_table import at_constraint, constraint, interleave, on_delete, table_clause
from spangate.sql.ddl_tokens import Kind

_ACTIONS = ("ADD", "ALTER", "DROP", "REPLACE", "SET")


def alter_table(cursor: Cursor, database: Database) -> None:
    """`name action`, after ALTER TABLE."""
    table = database.table(*cursor.path("a table name"))
    if cursor.try_words("ADD"):
        _add(cursor, database, table)
    elif cursor.try_words("DROP"):
        _drop(cursor, database, table)
    elif cursor.try_words("ALTER"):
        cursor.try_words("COLUMN")
        _alter_column(cursor, database, table)
    elif cursor.try_words("SET"):
        _set(cursor, database, table)
    elif cursor.try_words("REPLACE"):
        table_clause(cursor, table)
    elif cursor.at_words("RENAME"):
        raise cursor.token.error("renaming a table is not supported; create it under its new name")
    else:
        raise cursor.expected(_ACTIONS, f"one of {', '.join(_ACTIONS)}")


def alter_index(cursor: Cursor, database: Database) -> None:
    """`name action`, after ALTER INDEX."""
    name, name_token = cursor.path("an index name")
    index = database.index(name, name_token)
    table = database.table(index.table, name_token)
    if cursor.try_words("ADD", "STORED", "COLUMN"):
        token = cursor.name("a column name")
        column = column_named(table, token).name
        if column in (*index.key, *index.storing):
            raise token.error(f"column `{column}` is in the index already")
        database.put(replace(index, storing=(*index.storing, column)))
    elif cursor.try_words("DROP", "STORED", "COLUMN"):
        token = cursor.name("a column name")
        column = column_named(table, token).name
        if column not in index.storing:
            raise unknown("stored column", token, token.text, index.storing)
        database.put(replace(index, storing=tuple(one for one in index.storing if one != column)))
    elif cursor.try_words("SET", "OPTIONS"):
        cursor.skip_parentheses()
    else:
        raise cursor.token.error(f"expected ADD or DROP STORED COLUMN or SET OPTIONS, found {cursor.token}")


def drop_table(cursor: Cursor, database: Database) -> None:
    """`[IF EXISTS] name`, after DROP TABLE."""
    if_exists = cursor.try_words("IF", "EXISTS")
    name, token = cursor.path("a table name")
    if not (if_exists and name.lower() not in database.tables):
        database.drop_table(database.table(name, token), token)


def drop_index(cursor: Cursor, database: Database) -> None:
    """`[IF EXISTS] name`, after DROP INDEX."""
    if_exists = cursor.try_words("IF", "EXISTS")
    name, token = cursor.path("an index name")
    if not (if_exists and name.lower() not in database.indexes):
        del database.indexes[database.index(name, token).name.lower()]


def _add(cursor: Cursor, database: Database, table: Table) -> None:
    if at_constraint(cursor):
        constraint(cursor, database)(table)
    elif cursor.at_words("ROW", "DELETION"):
        table_clause(cursor, table)
    elif cursor.try_words("SYNONYM"):
        cursor.name("a table name")
    else:
        cursor.try_words("COLUMN")
        may_exist = cursor.try_words("IF", "NOT", "EXISTS")
        parsed = column_of(cursor)
        if parsed.is_key:
            raise parsed.token.error(f"table `{table.name}` has its primary key already")
        if table.column(parsed.column.name) is None:
            check_room(len(table.columns), parsed.token)
            database.put(replace(table, columns=(*table.columns, parsed.column)))
        elif not may_exist:
            raise parsed.token.error(f"column `{parsed.column.name}` exists already")


def _drop(cursor: Cursor, database: Database, table: Table) -> None:
    if cursor.try_words("CONSTRAINT"):
        cursor.name("a constraint name")
    elif cursor.try_words("ROW", "DELETION", "POLICY"):
        pass
    elif cursor.try_words("SYNONYM"):
        cursor.name("a table name")
    else:
        cursor.try_words("COLUMN")
        if_exists = cursor.try_words("IF", "EXISTS")
        token = cursor.name("a column name")
        if not (if_exists and table.column(token.text) is None):
            database.drop_column(table, column_named(table, token), token)


def _set(cursor: Cursor, database: Database, table: Table) -> None:
    if cursor.try_words("ON", "DELETE"):
        on_delete(cursor)
    elif cursor.try_words("OPTIONS"):
        cursor.skip_parentheses()
    elif cursor.try_words("INTERLEAVE", "IN"):
        database.put(replace(table, parent=interleave(cursor, database)))
    else:
        raise cursor.expected(("ON", "OPTIONS", "INTERLEAVE"), "ON DELETE, OPTIONS or INTERLEAVE IN")


def _alter_column(cursor: Cursor, database: Database, table: Table) -> None:
    column = column_named(table, cursor.name("a column name"))
    if cursor.try_words("SET"):
        if cursor.try_words("NOT", "NULL"):
            column = replace(column, not_null=True)
        elif not skip_value(cursor):
            raise cursor.token.error(f"expected NOT NULL, DEFAULT, ON UPDATE or OPTIONS, found {cursor.token}")
    elif cursor.try_words("DROP"):
        if cursor.try_words("NOT", "NULL"):
            column = replace(column, not_null=False)
        elif not (cursor.try_words("DEFAULT") or cursor.try_words("ON", "UPDATE")):
            raise cursor.token.error(f"expected NOT NULL, DEFAULT or ON UPDATE, found {cursor.token}")
    elif cursor.try_words("ALTER", "IDENTITY"):
        while cursor.token.kind in {Kind.WORD, Kind.NUMBER} or cursor.token.is_symbol(","):
            cursor.next()
    else:
        column = replace(column, type=type_of(cursor), not_null=cursor.try_words("NOT", "NULL"))
        if skip_generation(cursor):
            column = replace(column, generated=True)
        else:
            skip_value(cursor)
    database.put_column(table, column)
