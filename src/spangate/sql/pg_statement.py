"""A PostgreSQL-dialect statement + schema -> exactly the accesses it makes.

Rules: PostgreSQL's own grammar reads the statement, and what cannot be understood completely raises
UnreadableStatement and is to be denied; nothing is guessed from the text. The rules of reading and writing are those of
GoogleSQL (tree.py): `ON CONFLICT` reads the columns of the conflict and, with DO UPDATE, is an insert and an update;
DML reads what its WHERE, its expressions and its RETURNING read. An INSERT without a list of columns inserts whatever
columns the table has by then. Exactly one statement: a query or data manipulation.
Not here: queries (pg_query.py), GoogleSQL (googlesql.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from pglast.parser import Token

from spangate.model.access import Access, Operation, merged
from spangate.model.schema import Schema, Table
from spangate.settings import LIMITS
from spangate.sql.googlesql import UnreadableStatement
from spangate.sql.pg_expression import plain_fields
from spangate.sql.pg_from import table_relation
from spangate.sql.pg_parse import (
    Node,
    PgSyntaxError,
    character_at,
    check_names,
    only,
    place,
    strings,
    tokens_of,
    trees_of,
)
from spangate.sql.pg_query import Queries
from spangate.sql.pg_scope import Entry, Field, Level, NotReadable, Reads, Relation

# Time and memory follow the number of tokens, comments among them: this many take a second, and no thread waits longer
# than a third of one for the tree to be read. Spanner's own bound of 80,000 mutations for a commit fits in.
TOKENS_MAX = 200_000


def pg_accesses(schema: Schema, sql: str) -> tuple[Access, ...]:
    """What `sql` does, one Access for each operation and table, sorted, names spelled as in the schema.

    Types of parameters do not matter: they choose between functions, never between columns.
    Raises UnreadableStatement.
    """
    if len(sql) > LIMITS.statement_characters_max:
        raise UnreadableStatement(f"the statement is longer than {LIMITS.statement_characters_max} characters")
    try:
        check_names(sql, _tokens_of(sql))
        return _accesses(trees_of(sql), schema)
    except PgSyntaxError as error:
        raise UnreadableStatement(error.message + _place(sql, error.offset)) from error
    except NotReadable as error:
        byte = error.byte
        raise UnreadableStatement(error.message + _place(sql, None if byte is None else character_at(sql, byte))) from (
            error
        )
    except RecursionError as error:
        raise UnreadableStatement("the statement is nested too deeply") from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # A tree of a form that is not expected here; which one does not matter to the answer.
        raise UnreadableStatement("the statement has a form that is not understood") from error


def _tokens_of(sql: str) -> list[Token]:
    tokens = tokens_of(sql)
    if len(tokens) > TOKENS_MAX:
        raise NotReadable(f"the statement has more than {TOKENS_MAX} words, values and signs")
    return tokens


def _accesses(trees: list[Node], schema: Schema) -> tuple[Access, ...]:
    if len(trees) != 1:
        raise NotReadable(f"expected one statement, found {len(trees) or 'none'}")
    reads = Reads()
    queries = Queries(schema, reads)
    kind, body = only(trees[0])
    match kind:
        case "SelectStmt":
            queries.query(trees[0], None)
        case "InsertStmt":
            _insert(body, queries, reads)
        case "UpdateStmt":
            _update(body, queries, reads)
        case "DeleteStmt":
            _delete(body, queries, reads)
        case _:
            raise NotReadable(f"`{kind.removesuffix('Stmt')}` is not supported")
    return merged(reads.found)


def _insert(body: Node, queries: Queries, reads: Reads) -> None:
    plain_fields(
        "INSERT",
        body,
        ("relation", "cols", "selectStmt", "onConflictClause", "returningClause", "withClause", "override"),
    )
    level = queries.ctes(body.get("withClause"), None)
    table, relation = queries.sources.table(body["relation"], level)
    if "cols" in body:
        columns = [_column(node["ResTarget"], table, ("name",)) for node in body["cols"]]
        reads.add(Operation.INSERT, table.name, columns)
    elif "selectStmt" in body:
        columns = [column.name for column in table.columns if not (column.generated or column.hidden)]
        reads.add(Operation.INSERT, table.name, columns, every=True)
    else:
        reads.add(Operation.INSERT, table.name)
    if "selectStmt" in body:
        queries.query(body["selectStmt"], level)
    target = level.of((Entry(relation),))
    if "onConflictClause" in body:
        _on_conflict(body["onConflictClause"], table, target, queries, reads)
    _returning(body, target, queries)


def _on_conflict(clause: Node, table: Table, target: Level, queries: Queries, reads: Reads) -> None:
    plain_fields("ON CONFLICT", clause, ("action", "infer", "targetList", "whereClause"))
    conflict: list[str] = []
    if infer := clause.get("infer"):
        plain_fields("ON CONFLICT", infer, ("indexElems", "whereClause"))
        for node in infer.get("indexElems", ()):
            element = node["IndexElem"]
            plain_fields("ON CONFLICT", element, ("name", "ordering", "nulls_ordering"))
            conflict.append(_named(element["name"], table, element))
        reads.add(Operation.READ, table.name, conflict)
        queries.expressions.read(infer.get("whereClause"), target)
    if clause["action"] != "ONCONFLICT_UPDATE":
        return
    # `excluded` is the row that was to be inserted: reading it reads no table.
    excluded = Relation("excluded", tuple(Field(field.name) for field in table_relation(table).fields))
    level = target.of((*target.entries, Entry(excluded)))
    # Spanner wants the key among what is set. To the value that made the conflict, it stays as it is.
    unchanged = set(table.primary_key) if set(conflict) == set(table.primary_key) else set()
    targets = [node for node in clause["targetList"] if _excluded(node["ResTarget"]) not in unchanged]
    _set(targets, table, level, queries, reads)
    queries.expressions.read(clause.get("whereClause"), level)


def _excluded(target: Node) -> str | None:
    """`x` of `SET x = excluded.x`; None for anything else."""
    fields = target["val"].get("ColumnRef", {}).get("fields", ())
    path = list(strings(fields)) if all("String" in field for field in fields) else []
    return target["name"] if "indirection" not in target and path == ["excluded", target["name"]] else None


def _update(body: Node, queries: Queries, reads: Reads) -> None:
    plain_fields(
        "UPDATE", body, ("relation", "targetList", "whereClause", "fromClause", "returningClause", "withClause")
    )
    level = queries.ctes(body.get("withClause"), None)
    table, relation = queries.sources.table(body["relation"], level)
    level = _with_sources(body.get("fromClause", ()), relation, level, queries)
    _set(body["targetList"], table, level, queries, reads)
    queries.expressions.read(body.get("whereClause"), level)
    _returning(body, level, queries)


def _delete(body: Node, queries: Queries, reads: Reads) -> None:
    plain_fields("DELETE", body, ("relation", "usingClause", "whereClause", "returningClause", "withClause"))
    level = queries.ctes(body.get("withClause"), None)
    table, relation = queries.sources.table(body["relation"], level)
    reads.add(Operation.DELETE, table.name)
    level = _with_sources(body.get("usingClause", ()), relation, level, queries)
    queries.expressions.read(body.get("whereClause"), level)
    _returning(body, level, queries)


def _with_sources(items: Iterable[Node], relation: Relation, level: Level, queries: Queries) -> Level:
    """The table that is changed and what FROM or USING brings; subqueries there do not see the table."""
    level = queries.sources.level(items, level)
    if any(entry.by_name and entry.relation.alias == relation.alias for entry in level.entries):
        raise NotReadable(f"`{relation.alias}` is the name of more than one relation")
    return level.of((Entry(relation), *level.entries))


def _set(targets: Iterable[Node], table: Table, level: Level, queries: Queries, reads: Reads) -> None:
    """The columns that SET sets, and what it reads for them."""
    for node in targets:
        target = node["ResTarget"]
        reads.add(Operation.UPDATE, table.name, (_column(target, table, ("name", "val")),))
        queries.expressions.read(target["val"], level)


def _returning(body: Node, level: Level, queries: Queries) -> None:
    clause = body.get("returningClause")
    if clause:
        plain_fields("RETURNING", clause, ("exprs",))
        queries.targets(clause["exprs"], level)


def _column(target: Node, table: Table, fields: tuple[str, ...]) -> str:
    if "indirection" in target:
        raise NotReadable("setting a part of a column is not supported", target)
    plain_fields("a column", target, fields)
    return _named(target["name"], table, target)


def _named(name: str, table: Table, node: Node) -> str:
    column = table.column(name)
    if column is None or column.name != name:
        raise NotReadable(f"table `{table.name}` has no column `{name[:128]}`", node)
    return column.name


def _place(sql: str, offset: int | None) -> str:
    if offset is None:
        return ""
    line, column = place(sql, offset)
    return f" [at {line}:{column}]"
