"""A GoogleSQL statement -> exactly the accesses it makes, by Google's own analyser.

Rules:
- What cannot be read raises UnreadableStatement and is to be denied; nothing is guessed from the text.
- A statement is analysed against a catalog in which every table has one column more, the probe. One that reads it asks
  for whatever columns a table has (`SELECT *`, a row as a value): `Access.every`; it is analysed again without the
  probe, which no client can therefore use. One that the probe breaks (`INSERT ... SELECT *`, where columns are
  counted) is analysed without it, and then once for each table with a probe in that one alone.
- A subquery that uses names from around it is analysed again for each of its tables, with a column more for every name
  that the table could take over by having such a column (capture.py). A table that would take one counts as read
  completely, so that a stale schema never widens access.
- A graph is what ZetaSQL makes of the statement that created it.
- A view is a table whose columns are those of its query; one with invoker's rights also makes its query's accesses.
Not here: the engine (adapters/zetasql_engine.py), the dialect (catalog.py), the rules of reading (tree.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.proto.options_pb2 import AnalyzerOptionsProto

from spangate.model.access import Access, Operation, merged
from spangate.model.schema import ObjectKind, Schema, SchemaObject
from spangate.model.sqltype import SqlType
from spangate.settings import LIMITS
from spangate.sql.capture import names_alone
from spangate.sql.catalog import UnknownType, analyzer_options, catalog_of, graph_options
from spangate.sql.ddl_tokens import DdlError
from spangate.sql.engine import Engine, EngineCrashed, EngineFailure
from spangate.sql.graphs import Graph, NotAGraph, graph_of
from spangate.sql.literals import normal_form
from spangate.sql.objects import view_query
from spangate.sql.relations import Names, Origin, Relation, View, names_of, probe_of, widened
from spangate.sql.tree import NotUnderstood, Reading, reading_of
from spangate.sql.wire import BadMessage, Node

__all__ = ["Analyzer", "Engine", "EngineCrashed", "EngineFailure", "UnreadableStatement"]

# A message quotes the statement; more than this is of no use to anybody.
_MESSAGE_CHARACTERS_MAX = 300
# Tables that are looked at one by one when columns are counted; with more, all of them count as read completely.
_SINGLE_PROBES_MAX = 4
# Beyond these, all tables of subqueries that use names from around them count as read completely.
_CAPTURE_TABLES_MAX = 8
_CAPTURE_NAMES_MAX = 100
# Names that turn out to be ambiguous are taken back one by one.
_CAPTURE_ATTEMPTS_MAX = 12
_AMBIGUOUS = re.compile(r"Column name (\S+) is ambiguous")
# What ZetaSQL adds to a message can be a name that the caller may not know.
_SUGGESTION = re.compile(r";? *Did you mean [^\[]*?\??(?= *\[at |$)", re.DOTALL)


class UnreadableStatement(Exception):
    """It cannot be said for certain what the statement does; `message` says why, with ` [at line:column]` if known."""

    def __init__(self, message: str) -> None:
        self.message = " ".join(_SUGGESTION.sub("", message).split())[:_MESSAGE_CHARACTERS_MAX]
        super().__init__(self.message)


class _Catalog:
    """Names as one engine knows them, until `close`."""

    def __init__(self, engine: Engine, names: Names) -> None:
        self.names = names
        self._engine = engine
        request = service.RegisterCatalogRequest(simple_catalog=catalog_of(names))
        answer = engine.call("ZetaSqlLocalService_RegisterCatalog", request.SerializeToString())
        self._id = service.RegisterResponse.FromString(answer).registered_id

    def statement(self, sql: str, param_types: Mapping[str, SqlType]) -> Node:
        """The resolved statement. Raises UnreadableStatement; EngineCrashed."""
        try:
            return self._resolved(sql, analyzer_options(param_types))
        except UnknownType as reason:
            raise UnreadableStatement(str(reason)) from reason

    def graph(self, sql: str) -> Graph:
        """What CREATE PROPERTY GRAPH makes. Raises UnreadableStatement; EngineCrashed."""
        try:
            return graph_of(self._resolved(sql, graph_options()))
        except (NotAGraph, BadMessage) as reason:
            raise UnreadableStatement("the graph is not supported") from reason

    def _resolved(self, sql: str, options: AnalyzerOptionsProto) -> Node:
        try:
            request = service.AnalyzeRequest(options=options, registered_catalog_id=self._id, sql_statement=sql)
            answer = self._engine.call("ZetaSqlLocalService_Analyze", request.SerializeToString())
            return Node(service.AnalyzeResponse.DESCRIPTOR, answer).message("resolved_statement")
        except EngineFailure as failure:
            raise UnreadableStatement(failure.message) from failure
        except BadMessage as reason:
            raise UnreadableStatement(str(reason)) from reason
        except UnicodeEncodeError as error:
            raise UnreadableStatement("the statement is not valid Unicode") from error

    def accesses(self, sql: str, param_types: Mapping[str, SqlType]) -> tuple[Access, ...]:
        """What `sql` does. Raises UnreadableStatement; EngineCrashed."""
        return self.reading(sql, param_types).accesses

    def reading(self, sql: str, param_types: Mapping[str, SqlType]) -> Reading:
        """The same, with what its subqueries use. Raises UnreadableStatement; EngineCrashed."""
        try:
            return reading_of(self.statement(sql, param_types), self.names)
        except (NotUnderstood, BadMessage) as reason:
            raise UnreadableStatement(str(reason)) from reason

    def close(self) -> None:
        """Gives the memory back to the engine."""
        request = service.UnregisterRequest(registered_id=self._id)
        self._engine.call("ZetaSqlLocalService_UnregisterCatalog", request.SerializeToString())


class Analyzer:
    """Reads statements against one schema on one engine; as little thread safe as the engine."""

    def __init__(self, engine: Engine, schema: Schema) -> None:
        """Registers the catalogs (about a millisecond a table). Raises EngineFailure or EngineCrashed."""
        self._engine = engine
        self._probe = probe_of(schema)
        self._register(names_of(schema))
        self._graphs = self._read_graphs(schema)
        self._read_views(schema)
        # An instance's first analysis takes 0.1 s longer than the same again; no client should wait for that.
        self.accesses("SELECT 1", {})

    def accesses(self, sql: str, param_types: Mapping[str, SqlType]) -> tuple[Access, ...]:
        """What `sql` does, one Access for each operation and table, sorted, names spelled as in the schema.

        A parameter that is not in `param_types` gets its type from its use, as in Spanner.
        Raises UnreadableStatement; EngineCrashed if the engine has to be replaced.
        """
        if len(sql) > LIMITS.statement_characters_max:
            raise UnreadableStatement(f"the statement is longer than {LIMITS.statement_characters_max} characters")
        reading = self._reading(sql, param_types)
        if not reading.inner:
            return reading.accesses
        return _marked(reading.accesses, self._captured(sql, param_types, reading))

    def normal_form(self, sql: str) -> str | None:
        """`sql` with a placeholder for every literal, or None if it cannot be said; see literals.py."""
        return normal_form(self._engine, sql)

    def close(self) -> None:
        """Gives the catalogs' memory back to the engine."""
        self._plain.close()
        self._widened.close()

    def _register(self, names: Names) -> None:
        self._plain = _Catalog(self._engine, names)
        self._widened = _Catalog(self._engine, widened(names, self._probe))

    def _reading(self, sql: str, param_types: Mapping[str, SqlType]) -> Reading:
        """What `sql` does by this schema, and which tables it reads completely whatever their columns are called."""
        try:
            reading = self._widened.reading(sql, param_types)
        except UnreadableStatement:
            return self._with_single_probes(sql, param_types)
        found = reading.accesses
        if not any(self._probe in access.columns for access in found) and not self._may_name_probe(sql):
            return reading
        every = {access.table for access in found if self._reads_probe(access)}
        plain = self._plain.reading(sql, param_types)
        return replace(plain, accesses=_marked(plain.accesses, every))

    def _captured(self, sql: str, param_types: Mapping[str, SqlType], reading: Reading) -> set[str]:
        """The tables in subqueries that could come to be read where a name means something around the subquery now."""
        relations = self._plain.names.relations
        known = {one.table.name.rpartition(".")[2] for one in relations}
        names = names_alone(sql, known, before_dots=reading.parts)
        if names is None or len(names) > _CAPTURE_NAMES_MAX or len(reading.inner) > _CAPTURE_TABLES_MAX:
            return set(reading.inner)
        mentioned = replace(self._plain.names, relations=tuple(one for one in relations if _mentions(sql, one)))
        return {table for table in reading.inner if self._captures(sql, param_types, table, names, mentioned)}

    def _captures(
        self, sql: str, param_types: Mapping[str, SqlType], table: str, names: frozenset[str], known: Names
    ) -> bool:
        """Whether `table` would take over one of `names` if it had such columns. What cannot be said is yes."""
        itself = next(one.table for one in known.relations if one.table.name == table)
        more = sorted(names - {column.name.lower() for column in itself.columns})
        for _ in range(_CAPTURE_ATTEMPTS_MAX):
            if not more:
                return False
            catalog = _Catalog(self._engine, widened(known, *more, only=table))
            try:
                found = catalog.accesses(sql, param_types)
            except UnreadableStatement as reason:
                # With that name the statement would be invalid in Spanner too; the others may still be taken over.
                ambiguous = _AMBIGUOUS.search(reason.message)
                if ambiguous is None or ambiguous[1].lower() not in more:
                    return True
                more.remove(ambiguous[1].lower())
                continue
            finally:
                catalog.close()
            return any(access.table == table and not set(access.columns).isdisjoint(more) for access in found)
        return True

    def _may_name_probe(self, sql: str) -> bool:
        """Whether `sql` may name the probe without reading it: `* EXCEPT (probe)`. Escapes can hide a name."""
        return self._probe in sql.lower() or ("`" in sql and "\\" in sql)

    def _reads_probe(self, access: Access) -> bool:
        return access.operation is Operation.READ and self._probe in access.columns

    def _with_single_probes(self, sql: str, param_types: Mapping[str, SqlType]) -> Reading:
        """For a statement that does not go with the probe everywhere."""
        reading = self._plain.reading(sql, param_types)
        found = reading.accesses
        tables = sorted({one.table for one in found if one.operation is Operation.READ and one.columns})
        if len(tables) > _SINGLE_PROBES_MAX:
            return replace(reading, accesses=_marked(found, set(tables)))
        every = {table for table in tables if self._depends_on_columns(sql, param_types, table)}
        return replace(reading, accesses=_marked(found, every))

    def _depends_on_columns(self, sql: str, param_types: Mapping[str, SqlType], table: str) -> bool:
        """Whether one more column of `table` is read by `sql`, or makes it invalid."""
        catalog = _Catalog(self._engine, widened(self._plain.names, self._probe, only=table))
        try:
            return any(map(self._reads_probe, catalog.accesses(sql, param_types)))
        except UnreadableStatement:
            return True
        finally:
            catalog.close()

    def _read_graphs(self, schema: Schema) -> list[Graph]:
        """Puts those graphs into the catalogs that can be carried over."""
        graphs = []
        for one in schema.objects:
            if one.kind is ObjectKind.GRAPH:
                with suppress(UnreadableStatement):
                    graphs.append(self._plain.graph(one.definition))
        if graphs:
            self.close()
            self._register(names_of(schema, graphs=graphs))
        return graphs

    def _read_views(self, schema: Schema) -> None:
        """Puts those views into the catalogs whose queries can be read, also when they build on one another."""
        todo = [one for one in schema.objects if one.kind is ObjectKind.VIEW]
        views: list[View] = []
        while True:
            found = {one.name: view for one in todo if (view := self._view(one)) is not None}
            if not found:
                return
            views += found.values()
            todo = [one for one in todo if one.name not in found]
            self.close()
            self._register(names_of(schema, views, self._graphs))

    def _view(self, view: SchemaObject) -> View | None:
        """The view, or None if its query cannot be read (yet)."""
        with suppress(UnreadableStatement, DdlError):
            query = view_query(view)
            accesses = self.accesses(query, {})
            outputs = [
                (output.text("name"), output.message("column").message("type").encoded)
                for output in _query_of(self._plain.statement(query, {})).messages("output_column_list")
            ]
            names = [name.lower() for name, _ in outputs]
            # Names that nobody can write, or that mean two things, are not worth an exception: Spanner has none.
            if len(set(names)) == len(names) and not any(name.startswith("$") for name in names):
                itself = Access(Operation.READ, view.name)
                return View(view.name, tuple(outputs), (itself,) if view.definer else merged([itself, *accesses]))
        return None


def _query_of(statement: Node) -> Node:
    """The ResolvedQueryStmtProto in an AnyResolvedStatementProto."""
    query = next(statement.children(), statement)
    if query.name != "ResolvedQueryStmtProto":
        raise UnreadableStatement("a view is made of a query")
    return query


def _mentions(sql: str, relation: Relation) -> bool:
    """Whether `sql` may name the relation, directly or through a graph."""
    text = sql.lower()
    return relation.table.name.rpartition(".")[2].lower() in text or (
        relation.origin is Origin.TABLE and "graph" in text
    )


def _marked(accesses: tuple[Access, ...], every: set[str]) -> tuple[Access, ...]:
    """The accesses, with `every` where one of these tables is read."""
    return tuple(
        replace(one, every=True) if one.operation is Operation.READ and one.table in every else one for one in accesses
    )
