"""PostgreSQL queries -> what they read, and what their columns are called.

Rules: the scoping of PostgreSQL (pg_scope.py has those of names): a common table expression hides tables, and is seen
by those after it; a subquery in FROM sees the outer queries, and its neighbours only with LATERAL; a join's condition
sees the two sides of the join. What is named is read, also where its value is dropped later; an unused common table
expression counts. `*`, whole rows, natural joins and renaming a table's columns by their order depend on the columns
that a table has by then: they read it as a whole (`Access.every`). Data-modifying and recursive WITH are refused.
Not here: FROM clauses (pg_from.py), expressions (pg_expression.py), data manipulation (pg_statement.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from spangate.model.schema import Schema, SchemaObject
from spangate.sql.pg_expression import Expressions, plain_fields
from spangate.sql.pg_from import Sources
from spangate.sql.pg_naming import column_name
from spangate.sql.pg_parse import Node, only, strings
from spangate.sql.pg_scope import Depth, Field, Level, NotReadable, Output, Reads, Relation, relation_called
from spangate.sql.pg_view import view_query

_SELECT = (
    *("all", "distinctClause", "fromClause", "groupClause", "groupDistinct", "havingClause", "larg", "limitCount"),
    *("limitOffset", "limitOption", "lockingClause", "op", "rarg", "sortClause", "targetList", "valuesLists"),
    *("whereClause", "windowClause", "withClause"),
)
# A side of a set operation with one of these is a query of its own.
_OF_ITS_OWN = frozenset({"limitCount", "limitOffset", "lockingClause", "sortClause", "withClause"})
# Spanner's tables have 1,024 columns at most and its joins 20 tables. Names are looked for one by one.
COLUMNS_MAX = 4_096
CTES_MAX = 1_000
_LOCK = ("lockedRels", "strength", "waitPolicy")


class Queries:
    """Reads queries against one schema; accesses go to `reads`."""

    def __init__(self, schema: Schema, reads: Reads, depth: Depth | None = None) -> None:
        self._schema = schema
        self._reads = reads
        self._depth = depth or Depth()
        self.expressions = Expressions(schema, reads, self.query)
        self.sources = Sources(schema, reads, self._depth, self.expressions, self.query, self.view)

    def query(self, node: Node, parent: Level | None) -> Output:
        """A SELECT, VALUES, TABLE or set operation."""
        kind, body = only(node)
        if kind != "SelectStmt":
            raise NotReadable(f"`{kind}` is not supported here", body)
        with self._depth.deeper():
            return self._select(body, parent)

    def view(self, view: SchemaObject) -> Output:
        """What is behind a view, where that counts: with its invoker's rights."""
        reads = Reads() if view.definer else self._reads
        return Queries(self._schema, reads, self._depth).query(view_query(view.definition), None)

    def ctes(self, clause: Node | None, parent: Level | None) -> Level:
        """A level that has only what WITH brings."""
        level = Level(parent)
        if clause is None:
            return level
        plain_fields("WITH", clause, ("ctes", "recursive"))
        if clause.get("recursive"):
            raise NotReadable("WITH RECURSIVE is not supported", clause)
        if len(clause["ctes"]) > CTES_MAX:
            raise NotReadable(f"WITH has more than {CTES_MAX} queries", clause)
        for node in clause["ctes"]:
            cte = node["CommonTableExpr"]
            plain_fields("WITH", cte, ("ctename", "aliascolnames", "ctematerialized", "ctequery"))
            output = self.query(cte["ctequery"], level)
            names = tuple(strings(cte.get("aliascolnames", ())))
            if len(names) > len(output.names) and not output.open:
                raise NotReadable(f"`{cte['ctename']}` has fewer columns than names for them", cte)
            if cte["ctename"] in level.ctes:
                raise NotReadable(f"WITH has `{cte['ctename']}` twice", cte)
            output = replace(output, names=names + output.names[len(names) :])
            level = replace(level, ctes={**level.ctes, cte["ctename"]: output})
        return level

    def targets(self, nodes: Iterable[Node], level: Level) -> Output:
        """A SELECT list or RETURNING."""
        names: list[str] = []
        is_open = False
        for node in nodes:
            if len(names) > COLUMNS_MAX:
                raise NotReadable(f"a query has more than {COLUMNS_MAX} columns")
            target = node["ResTarget"]
            plain_fields("a result column", target, ("name", "val"))
            kind, value = only(target["val"])
            if kind == "ColumnRef" and "A_Star" in value["fields"][-1]:
                for relation in _stars(value, level):
                    self._reads.row(relation)
                    names += [field.name for field in relation.fields if not _is_hidden(relation, field)]
                    is_open = is_open or relation.open
                continue
            self.expressions.read(target["val"], level)
            names.append(target.get("name") or column_name(target["val"]))
        return Output(tuple(names), is_open)

    def _select(self, body: Node, parent: Level | None) -> Output:
        plain_fields("SELECT", body, _SELECT)
        level = self.ctes(body.get("withClause"), parent)
        if body.get("op", "SETOP_NONE") != "SETOP_NONE":
            output = self._set_operation(body, level)
            self._sort_by_name(body.get("sortClause", ()), output)
        elif "valuesLists" in body:
            for row in body["valuesLists"]:
                self.expressions.read(row, level)
            width = len(body["valuesLists"][0]["List"]["items"])
            output = Output(tuple(f"column{number}" for number in range(1, width + 1)))
            self._sort_by_name(body.get("sortClause", ()), output)
        else:
            level = self.sources.level(body.get("fromClause", ()), level)
            output = self.targets(body.get("targetList", ()), level)
            self._clauses(body, level, output)
        for name in ("limitCount", "limitOffset"):
            self.expressions.read(body.get(name), level)
        for node in body.get("lockingClause", ()):
            plain_fields("FOR UPDATE", node["LockingClause"], _LOCK)
            for relation in node["LockingClause"].get("lockedRels", ()):
                relation_called(level, (relation["RangeVar"]["relname"],), relation["RangeVar"])
        return output

    def _clauses(self, body: Node, level: Level, output: Output) -> None:
        for name in ("whereClause", "havingClause", "windowClause"):
            self.expressions.read(body.get(name), level)
        for clause in ("sortClause", "distinctClause"):
            for node in body.get(clause, ()):
                if node and _own_name(node) not in output.names:
                    self.expressions.read(node, level)
        self._group(body.get("groupClause", ()), level, output)

    def _group(self, nodes: Iterable[Node], level: Level, output: Output) -> None:
        """GROUP BY: the columns of FROM come before those of the result."""
        columns = {field.name for entry in level.entries if entry.by_column for field in entry.relation.fields}
        todo = [node for node in nodes if node]
        while todo:
            node = todo.pop()
            kind, inside = only(node)
            name = _own_name(node)
            if kind == "GroupingSet":
                plain_fields("GROUP BY", inside, ("kind", "content"))
                todo += inside.get("content", ())
            elif kind == "RowExpr" and inside.get("row_format") == "COERCE_IMPLICIT_CAST":
                # `(a, b)` are two keys, unlike `ROW(a, b)`.
                todo += inside.get("args", ())
            elif name in output.names and name not in columns:
                # A column of that name, if one is added to the table, comes before the result's.
                self._reads.passed(level.tables)
            else:
                self.expressions.read(node, level)

    def _set_operation(self, body: Node, level: Level) -> Output:
        """All sides in order, without recursion: a statement may unite thousands. The first gives the names."""
        first: Output | None = None
        todo = [body["rarg"], body["larg"]]
        while todo:
            side = todo.pop()
            if side.get("op", "SETOP_NONE") != "SETOP_NONE" and not _OF_ITS_OWN & side.keys():
                plain_fields("a set operation", side, ("all", "larg", "limitOption", "op", "rarg"))
                todo += [side["rarg"], side["larg"]]
                continue
            output = self.query({"SelectStmt": side}, level)
            first = first or output
        if first is None:
            raise NotReadable("a set operation has no sides", body)
        return first

    def _sort_by_name(self, nodes: Iterable[Node], output: Output) -> None:
        """ORDER BY of what has no FROM clause of its own: names of the result, or numbers."""
        for node in nodes:
            name = _own_name(node)
            if name is None and only(node["SortBy"]["node"])[0] == "A_Const":
                continue
            if name is None or not (name in output.names or output.open):
                raise NotReadable("ORDER BY here is supported only for the result's own columns", node["SortBy"])


def _stars(value: Node, level: Level) -> list[Relation]:
    path = tuple(strings(value["fields"][:-1]))
    if path:
        return [relation_called(level, path, value)]
    found = [entry.relation for entry in level.entries if entry.by_column]
    if not found:
        raise NotReadable("`*` without FROM is not supported", value)
    return found


def _is_hidden(relation: Relation, field: Field) -> bool:
    """Whether `*` leaves a column out."""
    tables = {table.name: table for table in relation.tables}
    columns = (tables[table].column(column) for table, column in field.sources)
    return any(column is not None and column.hidden for column in columns)


def _own_name(node: Node) -> str | None:
    """`x` of ORDER BY x or GROUP BY x; None for anything else."""
    kind, body = only(node)
    if kind == "SortBy":
        plain_fields("ORDER BY", body, ("node", "sortby_dir", "sortby_nulls"))
        kind, body = only(body["node"])
    if kind != "ColumnRef" or len(body["fields"]) != 1 or "String" not in body["fields"][0]:
        return None
    return next(strings(body["fields"]))
