"""Changes to the tables and indexes of a PostgreSQL-dialect schema.

Rules: a change that is not understood completely is refused at its place, for a schema that is almost right would allow
or deny the wrong thing.
Not here: their creation (pg_ddl_table.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from spangate.model.schema import Table
from spangate.sql.ddl_database import Database, check_room
from spangate.sql.ddl_tokens import Kind, Token
from spangate.sql.pg_ddl_table import (
    check_constraint,
    column_named,
    column_of,
    cut_clauses,
    interleave,
    known_fields,
    table_named,
    ttl,
    type_of,
)
from spangate.sql.pg_ddl_tokens import PgCursor, Statement
from spangate.sql.pg_parse import Node


def alter_index(statement: Statement, database: Database) -> None:
    """ALTER INDEX name {ADD | DROP} INCLUDE COLUMN column."""
    cursor = PgCursor(statement.tokens)
    cursor.words("ALTER", "INDEX")
    name, token = cursor.path("an index name")
    index = database.index(name, token)
    table = database.table(index.table, token)
    adds = cursor.try_words("ADD")
    if not adds:
        cursor.words("DROP")
    cursor.words("INCLUDE", "COLUMN")
    at = cursor.name("a column name")
    column = column_named(table, at.text, at).name
    cursor.end()
    if index.name != name or adds == (column in (*index.key, *index.storing)):
        raise at.error(f"index `{index.name}` has {'already' if adds else 'no included'} column `{column}`")
    storing = (*index.storing, column) if adds else tuple(one for one in index.storing if one != column)
    database.put(replace(index, storing=storing))


def alter_table(statement: Statement, database: Database) -> None:
    """ALTER TABLE."""
    cursor = PgCursor(statement.tokens)
    cursor.words("ALTER", "TABLE")
    if_exists = cursor.try_words("IF", "EXISTS")
    cursor.try_words("ONLY")
    name, token = cursor.path("a table name")
    existing = database.tables.get(name.lower())
    if if_exists and (existing is None or existing.name != name):
        return
    table = table_named(database, name, token)
    if cursor.at_words("RENAME"):
        raise cursor.token.error("renaming is not supported; create it under its new name")
    if _is_spanners(cursor, table, database):
        return
    cut_clauses(statement, statement.tokens.index(cursor.token) - 1)
    _, body = statement.tree()
    known_fields("ALTER TABLE", body, frozenset({"relation", "cmds", "objtype", "missing_ok"}), statement.tokens[0])
    for node in body["cmds"]:
        _alter(node["AlterTableCmd"], name, cursor.token, statement, database)


def _alter(command: Node, name: str, token: Token, statement: Statement, database: Database) -> None:
    """One action of ALTER TABLE."""
    table = table_named(database, name, token)
    known = {"subtype", "name", "def", "behavior", "missing_ok"}
    known_fields("ALTER TABLE", command, frozenset(known), token)
    change = _CHANGES.get(command["subtype"])
    if change is None:
        raise token.error("this change of a table is not supported")
    change(command, table, token, statement, database)


def _add_column(command: Node, table: Table, token: Token, statement: Statement, database: Database) -> None:
    column, is_key, constraints = column_of(command["def"]["ColumnDef"], statement, set())
    if is_key:
        raise token.error(f"table `{table.name}` has its primary key already")
    if table.column(column.name) is None:
        check_room(len(table.columns), token)
        table = replace(table, columns=(*table.columns, column))
        database.put(table)
        for constraint in constraints:
            check_constraint(constraint, table, statement, database)
    elif not command.get("missing_ok"):
        raise token.error(f"column `{column.name}` exists already")


def _drop_column(command: Node, table: Table, token: Token, _: Statement, database: Database) -> None:
    if table.column(command["name"]) is not None or not command.get("missing_ok"):
        database.drop_column(table, column_named(table, command["name"], token), token)


def _add_constraint(command: Node, table: Table, token: Token, statement: Statement, database: Database) -> None:
    constraint = command["def"]["Constraint"]
    if constraint["contype"] == "CONSTR_PRIMARY":
        raise token.error(f"table `{table.name}` has its primary key already")
    check_constraint(constraint, table, statement, database)


def _change_type(command: Node, table: Table, token: Token, _: Statement, database: Database) -> None:
    column = column_named(table, command["name"], token)
    database.put_column(table, replace(column, type=type_of(command["def"]["ColumnDef"]["typeName"], token)))


def _change_null(command: Node, table: Table, token: Token, _: Statement, database: Database) -> None:
    column = column_named(table, command["name"], token)
    database.put_column(table, replace(column, not_null=command["subtype"] == "AT_SetNotNull"))


def _change_value(command: Node, table: Table, token: Token, _: Statement, __: Database) -> None:
    column_named(table, command["name"], token)


def _nothing(_: Node, __: Table, ___: Token, ____: Statement, _____: Database) -> None:
    """A constraint that is dropped changes nothing that matters here."""


_CHANGES: Mapping[str, Callable[[Node, Table, Token, Statement, Database], None]] = {
    "AT_AddColumn": _add_column,
    "AT_AddConstraint": _add_constraint,
    "AT_AlterColumnType": _change_type,
    "AT_ColumnDefault": _change_value,
    "AT_DropColumn": _drop_column,
    "AT_DropConstraint": _nothing,
    "AT_DropNotNull": _change_null,
    "AT_SetExpression": _change_value,
    "AT_SetNotNull": _change_null,
}


def _is_spanners(cursor: PgCursor, table: Table, database: Database) -> bool:
    """Carries out an action that only Spanner has; whether it was one."""
    if cursor.at_words("ADD", "TTL") or cursor.at_words("ALTER", "TTL"):
        cursor.next()
        ttl(cursor, table)
    elif cursor.try_words("DROP", "TTL"):
        pass
    elif cursor.try_words("ADD", "SYNONYM") or cursor.try_words("DROP", "SYNONYM"):
        # Statements that use the second name find no table of that name, and are denied.
        cursor.name("a table name")
    elif cursor.try_words("SET", "INTERLEAVE", "IN"):
        database.put(replace(table, parent=interleave(cursor, database)))
    elif cursor.try_words("SET", "LOCALITY", "GROUP"):
        cursor.name("a locality group")
    elif (
        cursor.at_words("ALTER", "COLUMN") and cursor.ahead(3).is_word("ALTER") and cursor.ahead(4).is_word("IDENTITY")
    ):
        column_named(table, cursor.ahead(2).text, cursor.ahead(2))
        while cursor.token.kind is not Kind.END:
            cursor.next()
    else:
        return False
    cursor.end()
    return True
