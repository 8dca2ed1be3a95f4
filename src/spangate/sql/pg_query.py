"""PostgreSQL queries -> what they read, and what their columns are called.

Rules: the scoping of PostgreSQL (pg_scope.py has those of names): a common table expression hides tables, and is seen
by those after it; a subquery in FROM sees the outer queries, and its neighbours only with LATERAL; a join's condition
sees the two sides of the join. What is named is read, also where its value is dropped later; an unused common table
expression counts. `*`, whole rows, natural joins and renaming a table's columns by their order depend on the columns
that a table has by then: they read it as a whole (`Access.every`). Data-modifying and recursive WITH are refused.
Views: a view is read as such; with invoker's rights what is behind it is read too.
Not here: expressions (pg_expression.py), data manipulation (pg_statement.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from spangate.model.access import Operation
from spangate.model.schema import ObjectKind, Schema, SchemaObject, Table
from spangate.sql.pg_expression import Expressions, plain_fields
from spangate.sql.pg_functions import CHANGE_STREAM_FUNCTIONS, ROW_FUNCTIONS
from spangate.sql.pg_naming import column_name
from spangate.sql.pg_parse import Node, only, strings
from spangate.sql.pg_scope import Entry, Field, Level, NotReadable, Output, Reads, Relation, relation_called
from spangate.sql.pg_view import view_query

# "Nested subselect statements: 60; nested subquery expressions: 25" (https://cloud.google.com/spanner/quotas).
DEPTH_MAX = 60
# "Joins in a query: 20", same source; every join looks at the names before it.
JOINS_MAX = 100

_SELECT = (
    "all distinctClause fromClause groupClause groupDistinct havingClause larg limitCount limitOffset limitOption "
    "lockingClause op rarg sortClause targetList valuesLists whereClause windowClause withClause"
).split()
# A side of a set operation with one of these is a query of its own.
_OF_ITS_OWN = frozenset({"limitCount", "limitOffset", "lockingClause", "sortClause", "withClause"})
_LOCK = ("lockedRels", "strength", "waitPolicy")
# Unqualified names are looked up in `pg_catalog` first, and all of its relations begin so.
_CATALOG_PREFIX = "pg_"
# What Go's client asks at start; it says which dialect a database has, and that may be known.
_ALWAYS_ALLOWED = ("information_schema", "database_options")


class Queries:
    """Reads queries against one schema; accesses go to `reads`."""

    def __init__(self, schema: Schema, reads: Reads, depth: int = 0) -> None:
        self._schema = schema
        self._reads = reads
        self._depth = depth
        self.expressions = Expressions(schema, reads, self.query)

    def query(self, node: Node, parent: Level | None) -> Output:
        """A SELECT, VALUES, TABLE or set operation."""
        kind, body = only(node)
        if kind != "SelectStmt":
            raise NotReadable(f"`{kind}` is not supported here", body)
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise NotReadable(f"the statement has more than {DEPTH_MAX} queries inside one another")
        output = self._select(body, parent)
        self._depth -= 1
        return output

    def ctes(self, clause: Node | None, parent: Level | None) -> Level:
        """A level that has only what WITH brings."""
        level = Level(parent)
        if clause is None:
            return level
        plain_fields("WITH", clause, ("ctes", "recursive"))
        if clause.get("recursive"):
            raise NotReadable("WITH RECURSIVE is not supported", clause)
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

    def sources(self, items: Iterable[Node], level: Level) -> Level:
        """The level with what a FROM or USING clause brings."""
        for item in items:
            found, _ = self._item(item, level)
            level = _joined(level, found)
            if len(level.entries) > 2 * JOINS_MAX:
                raise NotReadable(f"FROM has more than {JOINS_MAX} relations")
        return level

    def table(self, body: Node, level: Level) -> tuple[Table, Relation]:
        """The table that data manipulation changes."""
        schema, name = _relation_name(body)
        if schema is None and level.cte(name):
            raise NotReadable(f"`{name}` is a common table expression and cannot be changed", body)
        table = self._table(schema, name)
        if table is None:
            raise NotReadable(f"there is no table `{_shown(schema, name)}`", body)
        return table, self._alias(table_relation(table), body)

    def targets(self, nodes: Iterable[Node], level: Level) -> Output:
        """A SELECT list or RETURNING."""
        names: list[str] = []
        is_open = False
        for node in nodes:
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
        plain_fields("SELECT", body, tuple(_SELECT))
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
            level = self.sources(body.get("fromClause", ()), level)
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
        for name in ("sortClause", "distinctClause"):
            for node in body.get(name, ()):
                if node and _own_name(node) not in output.names:
                    self.expressions.read(node, level)
        todo = [node for node in body.get("groupClause", ()) if node]
        while todo:
            node = todo.pop()
            kind, inside = only(node)
            name = _own_name(node)
            columns = {field.name for entry in level.entries if entry.by_column for field in entry.relation.fields}
            if kind == "GroupingSet":
                plain_fields("GROUP BY", inside, ("kind", "content"))
                todo += inside.get("content", ())
            elif kind == "RowExpr":
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

    def _item(self, node: Node, level: Level) -> tuple[tuple[Entry, ...], Relation]:
        """What one item of FROM brings to its level, and as the side of a join. `level` has what stands before it."""
        kind, body = only(node)
        match kind:
            case "RangeVar":
                relation = self._relation(body, level)
            case "RangeSubselect":
                plain_fields("a subquery in FROM", body, ("lateral", "subquery", "alias"))
                output = self.query(body["subquery"], level if body.get("lateral") else level.of(()))
                relation = self._alias(_derived("", output), body)
            case "RangeFunction":
                relation = self._function(body, level)
            case "JoinExpr":
                return self._joins(body, level)
            case _:
                raise NotReadable(f"`{kind}` is not supported", body)
        return (Entry(relation),), relation

    def _joins(self, body: Node, level: Level) -> tuple[tuple[Entry, ...], Relation]:
        """A chain of joins from the left; only what stands in parentheses on the right recurses."""
        chain = [body]
        while "JoinExpr" in chain[-1]["larg"]:
            chain.append(chain[-1]["larg"]["JoinExpr"])
            if len(chain) > JOINS_MAX:
                raise NotReadable(f"FROM has more than {JOINS_MAX} joins", body)
        entries, whole = self._item(chain[-1]["larg"], level)
        for join in reversed(chain):
            entries, whole = self._join(join, entries, whole, level)
        return entries, whole

    def _join(
        self, body: Node, entries: tuple[Entry, ...], left: Relation, level: Level
    ) -> tuple[tuple[Entry, ...], Relation]:
        plain_fields(
            "JOIN", body, ("jointype", "isNatural", "larg", "rarg", "usingClause", "quals", "alias", "rtindex")
        )
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise NotReadable(f"the statement has more than {DEPTH_MAX} joins or queries inside one another")
        found, right = self._item(body["rarg"], _joined(level, entries))
        self._depth -= 1
        both = _joined(Level(), (*entries, *found)).entries
        merged = tuple(strings(body.get("usingClause", ())))
        if body.get("isNatural"):
            merged = self._natural(left, right, body)
        fields = [self._merged(name, left, right, body) for name in merged]
        fields += [field for side in (left, right) for field in side.fields if field.name not in merged]
        self.expressions.read(body.get("quals"), level.of(both))
        whole = Relation("", tuple(fields), left.tables + right.tables, open=left.open or right.open)
        if "alias" in body:
            whole = self._alias(whole, body)
            return (Entry(whole),), whole
        return (*(replace(entry, by_column=False) for entry in both), Entry(whole, by_name=False)), whole

    def _natural(self, left: Relation, right: Relation, body: Node) -> tuple[str, ...]:
        """The columns that both sides have; which these are is for the tables to say."""
        if left.open or right.open:
            raise NotReadable("NATURAL JOIN is not supported with tables whose columns are not known", body)
        self._reads.passed((*left.tables, *right.tables))
        names = {field.name for field in right.fields}
        return tuple(field.name for field in left.fields if field.name in names)

    def _merged(self, name: str, left: Relation, right: Relation, body: Node) -> Field:
        sources: frozenset[tuple[str, str]] = frozenset()
        for side in (left, right):
            found = [field for field in side.fields if field.name == name]
            if len(found) > 1 or not (found or side.open):
                raise NotReadable(f"`{name}` is not one column on each side of the join", body)
            sources = sources.union(*(field.sources for field in found))
        merged = Field(name, sources)
        self._reads.field(merged)
        return merged

    def _relation(self, body: Node, level: Level) -> Relation:
        """A name in FROM."""
        schema, name = _relation_name(body)
        if schema is None and (cte := level.cte(name)) is not None:
            return self._alias(_derived(name, cte), body)
        if schema is None and name.startswith(_CATALOG_PREFIX):
            schema = "pg_catalog"
        if schema in {"information_schema", "pg_catalog", "spanner_sys"}:
            if (schema, name) != _ALWAYS_ALLOWED:
                self._reads.add(
                    Operation.SPANNER_SYS if schema == "spanner_sys" else Operation.INFORMATION_SCHEMA, ""
                )
            return self._alias(Relation(name, (), schema=schema, open=True), body)
        table = self._table(schema, name)
        if table is not None:
            self._reads.add(Operation.READ, table.name)
            if body.get("alias", {}).get("colnames"):
                self._reads.passed((table,))
            return self._alias(table_relation(table), body)
        view = self._schema.object(_full_name(schema, name))
        if view is None or view.kind is not ObjectKind.VIEW or view.name != _full_name(schema, name):
            raise NotReadable(f"there is no table `{_shown(schema, name)}`", body)
        return self._alias(replace(_derived(name, self._view(view)), schema=schema or "public"), body)

    def _view(self, view: SchemaObject) -> Output:
        reads = Reads() if view.definer else self._reads
        output = Queries(self._schema, reads, self._depth).query(view_query(view.definition), None)
        self._reads.add(Operation.READ, view.name)
        return output

    def _table(self, schema: str | None, name: str) -> Table | None:
        full_name = _full_name(schema, name)
        table = self._schema.table(full_name)
        return table if table is not None and table.name == full_name else None

    def _function(self, body: Node, level: Level) -> Relation:
        plain_fields("a function in FROM", body, ("lateral", "ordinality", "functions", "alias"))
        if len(body["functions"]) != 1:
            raise NotReadable("ROWS FROM with several functions is not supported", body)
        kind, call = only(body["functions"][0]["List"]["items"][0])
        if kind != "FuncCall":
            raise NotReadable(f"`{kind}` in FROM is not supported", call)
        ordinality = (Field("ordinality"),) if body.get("ordinality") else ()
        path = tuple(strings(call["funcname"]))
        if path[0] == "spanner" and (stream := self._change_stream(path[-1])):
            plain_fields("a function that reads a change stream", call, ("funcname", "args", "funcformat"))
            self.expressions.read(call.get("args"), level)
            self._reads.add(Operation.READ, stream)
            return self._alias(Relation(path[-1], ordinality, open=True), body)
        self.expressions.read({"FuncCall": call}, level)
        schema, name = self.expressions.function(call)
        if schema != "pg_catalog" or name not in ROW_FUNCTIONS:
            raise NotReadable(f"the function `{name}` is not supported in FROM", call)
        alias = body.get("alias", {}).get("aliasname", name)
        # unnest of several arrays has a column for each, all of that name.
        width = max(1, len(call.get("args", ()))) if name == "unnest" else 1
        fields = tuple(Field(ROW_FUNCTIONS[name] or alias) for _ in range(width))
        return self._alias(Relation(name, fields + ordinality), body)

    def _change_stream(self, function: str) -> str | None:
        for prefix in CHANGE_STREAM_FUNCTIONS:
            found = self._schema.object(function.removeprefix(prefix)) if function.startswith(prefix) else None
            if found is not None and found.kind is ObjectKind.CHANGE_STREAM and prefix + found.name == function:
                return found.name
        return None

    def _alias(self, relation: Relation, body: Node) -> Relation:
        """The relation under the alias that an item of FROM gives it, with the columns that it renames."""
        alias = body.get("alias")
        if alias is None:
            return relation
        names = tuple(strings(alias.get("colnames", ())))
        if len(names) > len(relation.fields) and not relation.open:
            raise NotReadable(f"`{alias['aliasname']}` has fewer columns than names for them", body)
        renamed = tuple(replace(field, name=name) for name, field in zip(names, relation.fields, strict=False))
        renamed += tuple(Field(name) for name in names[len(relation.fields) :])
        fields = renamed + relation.fields[len(names) :]
        return replace(relation, alias=alias["aliasname"], fields=fields, schema=None)


def table_relation(table: Table) -> Relation:
    """A table under its own name."""
    schema, _, name = table.name.rpartition(".")
    fields = tuple(Field(column.name, frozenset({(table.name, column.name)})) for column in table.columns)
    return Relation(name, fields, (table,), schema or "public")


def _derived(alias: str, output: Output) -> Relation:
    return Relation(alias, tuple(Field(name) for name in output.names), open=output.open)


def _joined(level: Level, entries: Iterable[Entry]) -> Level:
    """The level with more relations; one that is there under the same name makes both ambiguous."""
    found = [*level.entries, *entries]
    names = [(entry.relation.schema, entry.relation.alias) for entry in found if entry.by_name]
    twice = next((alias for schema, alias in names if alias and names.count((schema, alias)) > 1), None)
    if twice is not None:
        raise NotReadable(f"`{twice}` is the name of more than one relation in FROM")
    return level.of(found)


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


def _relation_name(body: Node) -> tuple[str | None, str]:
    plain_fields("a table", body, ("schemaname", "relname", "inh", "relpersistence", "alias"))
    return body.get("schemaname"), body["relname"]


def _full_name(schema: str | None, name: str) -> str:
    return name if schema in {None, "public"} else f"{schema}.{name}"


def _shown(schema: str | None, name: str) -> str:
    return f"{schema}.{name}" if schema else name
