"""PostgreSQL FROM clauses -> the names they bring, and what they read by themselves.

Rules: a table in FROM is read, also if none of its columns is. Common table expressions hide tables; unqualified names
are looked up in `pg_catalog` before `public`. A view is read as such; with its invoker's rights what is behind it is
read too. Natural joins, and renaming a table's columns by their order, depend on the columns that a table has by then:
they read it as a whole (`Access.every`). INFORMATION_SCHEMA, `pg_catalog` and SPANNER_SYS are read as schemas.
Not here: what names mean (pg_scope.py), queries (pg_query.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from spangate.model.access import Operation
from spangate.model.schema import ObjectKind, Schema, SchemaObject, Table
from spangate.sql.pg_expression import Expressions, plain_fields
from spangate.sql.pg_functions import CHANGE_STREAM_FUNCTIONS, ROW_FUNCTIONS
from spangate.sql.pg_parse import Node, only, strings
from spangate.sql.pg_scope import Depth, Entry, Field, Level, NotReadable, Output, Reads, Relation

# "Joins in a query: 20" (https://cloud.google.com/spanner/quotas#query-limits); each looks at the names before it.
JOINS_MAX = 100

# Unqualified names are looked up in `pg_catalog` first, and all of its relations begin so.
_CATALOG_PREFIX = "pg_"
# What Go's client asks at start; it says which dialect a database has, and that may be known.
_ALWAYS_ALLOWED = ("information_schema", "database_options")


class Sources:
    """Reads FROM clauses; `query` reads a subquery in the view of a level, `view` a view."""

    def __init__(
        self,
        schema: Schema,
        reads: Reads,
        depth: Depth,
        expressions: Expressions,
        query: Callable[[Node, Level], Output],
        view: Callable[[SchemaObject], Output],
    ) -> None:
        self._schema = schema
        self._reads = reads
        self._depth = depth
        self._expressions = expressions
        self._query = query
        self._view = view

    def level(self, items: Iterable[Node], level: Level) -> Level:
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

    def _item(self, node: Node, level: Level) -> tuple[tuple[Entry, ...], Relation]:
        """What one item of FROM brings to its level, and as the side of a join. `level` has what stands before it."""
        kind, body = only(node)
        match kind:
            case "RangeVar":
                relation = self._relation(body, level)
            case "RangeSubselect":
                plain_fields("a subquery in FROM", body, ("lateral", "subquery", "alias"))
                output = self._query(body["subquery"], level if body.get("lateral") else level.of(()))
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
        with self._depth.deeper():
            found, right = self._item(body["rarg"], _joined(level, entries))
        both = _joined(Level(), (*entries, *found)).entries
        merged = tuple(strings(body.get("usingClause", ())))
        if body.get("isNatural"):
            merged = self._natural(left, right, body)
        fields = [self._merged(name, left, right, body) for name in merged]
        fields += [field for side in (left, right) for field in side.fields if field.name not in merged]
        self._expressions.read(body.get("quals"), level.of(both))
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
                self._reads.add(Operation.SPANNER_SYS if schema == "spanner_sys" else Operation.INFORMATION_SCHEMA, "")
            return self._alias(Relation(name, (), schema=schema, open=True), body)
        table = self._table(schema, name)
        if table is not None:
            self._reads.add(Operation.READ, table.name)
            return self._alias(table_relation(table), body)
        view = self._schema.object(_full_name(schema, name))
        if view is None or view.kind is not ObjectKind.VIEW or view.name != _full_name(schema, name):
            raise NotReadable(f"there is no table `{_shown(schema, name)}`", body)
        self._reads.add(Operation.READ, view.name)
        return self._alias(replace(_derived(name, self._view(view)), schema=schema or "public"), body)

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
            self._expressions.read(call.get("args"), level)
            self._reads.add(Operation.READ, stream)
            return self._alias(Relation(path[-1], ordinality, open=True), body)
        self._expressions.read({"FuncCall": call}, level)
        schema, name = self._expressions.function(call)
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
        if names:
            # Which column the first is, the table says.
            self._reads.passed(relation.tables)
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


def _relation_name(body: Node) -> tuple[str | None, str]:
    plain_fields("a table", body, ("schemaname", "relname", "inh", "relpersistence", "alias"))
    return body.get("schemaname"), body["relname"]


def _full_name(schema: str | None, name: str) -> str:
    return name if schema in {None, "public"} else f"{schema}.{name}"


def _shown(schema: str | None, name: str) -> str:
    return f"{schema}.{name}" if schema else name
