"""Tables and indexes as DDL creates them: columns, keys, constraints, clauses.

Rules: names are looked up at once, in the table that is being read and in those before it; policies and options are
checked for balance only, they are Spanner's business.
Source: https://cloud.google.com/spanner/docs/reference/standard-sql/data-definition-language
Not here: columns (ddl_column.py), later changes (ddl_alter.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from spangate.model.schema import Index, Table
from spangate.sql.ddl_column import ParsedColumn, column_of
from spangate.sql.ddl_cursor import Cursor
from spangate.sql.ddl_database import Database, check_room, column_named, columns_named
from spangate.sql.ddl_tokens import Kind, Token

_CLAUSES = ("INTERLEAVE", "ROW", "OPTIONS")


def create_table(cursor: Cursor, database: Database) -> None:
    """`[IF NOT EXISTS] name (columns and constraints) [clauses]`, after CREATE TABLE."""
    may_exist = cursor.try_words("IF", "NOT", "EXISTS")
    name, token = cursor.path("a table name")
    free = database.is_free(name, token, may_exist=may_exist)
    columns: list[ParsedColumn] = []
    keys: list[list[Token]] = []
    checks: list[Callable[[Table], None]] = []
    cursor.symbol("(")
    while not cursor.try_symbol(")"):
        if at_constraint(cursor):
            checks.append(constraint(cursor, database))
        elif cursor.at_words("PRIMARY", "KEY") and cursor.ahead(2).is_symbol("("):
            raise cursor.token.error("PRIMARY KEY (...) stands behind the parenthesis that closes the columns")
        elif cursor.at_words("SYNONYM") and cursor.ahead(1).is_symbol("("):
            # A second name for the table. Requests that use it name no table of the schema and are denied.
            cursor.next()
            cursor.names("a table name")
        else:
            check_room(len(columns), cursor.token)
            columns.append(column_of(cursor))
        if not cursor.token.is_symbol(")"):
            cursor.symbol(",")
    table = _table(name, columns)
    if cursor.at_words("PRIMARY", "KEY"):
        keys.append(_primary_key(cursor))
    while cursor.token.kind is not Kind.END:
        cursor.symbol(",")
        if cursor.try_words("INTERLEAVE", "IN"):
            table = replace(table, parent=interleave(cursor, database))
        else:
            table_clause(cursor, table)
    keys.extend([one.token] for one in columns if one.is_key)
    if len(keys) != 1:
        raise token.error(f"table `{name}` needs exactly one primary key, found {len(keys) or 'none'}")
    table = replace(table, primary_key=columns_named(table, keys[0]))
    for check in checks:
        check(table)
    if free:
        database.put(table)


def create_index(cursor: Cursor, database: Database) -> None:
    """`[IF NOT EXISTS] name ON table (key) [STORING (...)] [clauses]`, after CREATE ... INDEX."""
    may_exist = cursor.try_words("IF", "NOT", "EXISTS")
    name, token = cursor.path("an index name")
    free = database.is_free(name, token, may_exist=may_exist)
    cursor.words("ON")
    table = database.table(*cursor.path("a table name"))
    key_token = cursor.token
    key = columns_named(table, _key_parts(cursor))
    if not key:
        raise key_token.error("an index needs at least one column")
    stored = cursor.names("a column name") if cursor.try_words("STORING") else []
    for one in stored:
        if column_named(table, one).name in key:
            raise one.error(f"column `{one.text}` is in the key already")
    index = Index(name, table.name, key, columns_named(table, stored))
    if cursor.try_words("WHERE"):
        _not_null_filter(cursor, table)
    if cursor.try_symbol(","):
        cursor.words("INTERLEAVE", "IN")
        database.table(*cursor.path("a table name"))
    if cursor.try_words("OPTIONS"):
        cursor.skip_parentheses()
    if free:
        database.put(index)


def at_constraint(cursor: Cursor) -> bool:
    """Whether a table constraint begins here, and not a column that happens to have its name."""
    return (
        cursor.at_words("FOREIGN", "KEY")
        or (cursor.at_words("CHECK") and cursor.ahead(1).is_symbol("("))
        or (cursor.at_words("CONSTRAINT") and cursor.ahead(2).is_word("FOREIGN", "CHECK"))
    )


def constraint(cursor: Cursor, database: Database) -> Callable[[Table], None]:
    """Takes a table constraint; gives the check of its names, to be made when the table is complete."""
    if cursor.try_words("CONSTRAINT"):
        cursor.name("a constraint name")
    if cursor.try_words("CHECK"):
        cursor.skip_parentheses()
        _enforcement(cursor)
        return lambda _: None
    cursor.words("FOREIGN", "KEY")
    referencing = cursor.names("a column name")
    cursor.words("REFERENCES")
    target, target_token = cursor.path("a table name")
    referenced = cursor.names("a column name")
    if cursor.try_words("ON", "DELETE"):
        on_delete(cursor)
    _enforcement(cursor)

    def check(table: Table) -> None:
        columns_named(table, referencing)
        other = table if target.lower() == table.name.lower() else database.table(target, target_token)
        columns_named(other, referenced)
        if len(referencing) != len(referenced) or not referencing:
            raise target_token.error("a foreign key names as many columns on one side as on the other, at least one")

    return check


def on_delete(cursor: Cursor) -> None:
    """`CASCADE` or `NO ACTION`, after ON DELETE."""
    if not (cursor.try_words("CASCADE") or cursor.try_words("NO", "ACTION")):
        raise cursor.expected(("CASCADE", "NO"), "CASCADE or NO ACTION")


def interleave(cursor: Cursor, database: Database) -> str | None:
    """`[PARENT] table [ON DELETE ...]`, after INTERLEAVE IN: the parent.

    None without the word PARENT: rows then lie together, but neither needs nor deletes the other.
    """
    is_parent = cursor.try_words("PARENT")
    parent = database.table(*cursor.path("a table name"))
    if cursor.try_words("ON", "DELETE"):
        on_delete(cursor)
    return parent.name if is_parent else None


def table_clause(cursor: Cursor, table: Table) -> None:
    """`ROW DELETION POLICY (...)` or `OPTIONS (...)`."""
    if cursor.try_words("ROW", "DELETION", "POLICY"):
        if cursor.ahead(1).is_word("OLDER_THAN") and cursor.ahead(2).is_symbol("("):
            column_named(table, cursor.ahead(3))
        cursor.skip_parentheses()
    elif cursor.try_words("OPTIONS"):
        cursor.skip_parentheses()
    else:
        raise cursor.expected(_CLAUSES, "INTERLEAVE IN, ROW DELETION POLICY or OPTIONS")


def _table(name: str, parsed: list[ParsedColumn]) -> Table:
    seen: set[str] = set()
    for one in parsed:
        if one.column.name.lower() in seen:
            raise one.token.error(f"column `{one.column.name}` exists already")
        seen.add(one.column.name.lower())
    return Table(name, tuple(one.column for one in parsed))


def _primary_key(cursor: Cursor) -> list[Token]:
    cursor.words("PRIMARY", "KEY")
    return _key_parts(cursor)


def _key_parts(cursor: Cursor) -> list[Token]:
    """`(name [ASC|DESC] [NULLS FIRST|LAST], ...)`, possibly empty."""
    cursor.symbol("(")
    found: list[Token] = []
    while not cursor.try_symbol(")"):
        if found:
            cursor.symbol(",")
        found.append(cursor.name("a column name"))
        if cursor.token.is_word("ASC", "DESC"):
            cursor.next()
        if cursor.try_words("NULLS") and not (cursor.try_words("FIRST") or cursor.try_words("LAST")):
            raise cursor.expected(("FIRST", "LAST"), "FIRST or LAST")
    return found


def _not_null_filter(cursor: Cursor, table: Table) -> None:
    """`column IS NOT NULL [AND ...]`, after WHERE."""
    while True:
        column_named(table, cursor.name("a column name"))
        cursor.words("IS", "NOT", "NULL")
        if not cursor.try_words("AND"):
            return


def _enforcement(cursor: Cursor) -> None:
    if not cursor.try_words("NOT", "ENFORCED"):
        cursor.try_words("ENFORCED")
