"""A GoogleSQL statement -> exactly the accesses it makes, by Google's own analyser.

Rules:
- What cannot be read raises UnreadableStatement and is to be denied; nothing is guessed from the text.
- A statement is analysed against a catalog in which every table has one column more, the probe. One that reads it asks
  for whatever columns a table has (`SELECT *`, a row as a value): `Access.every`; it is analysed again without the
  probe, which no client can therefore use. One that the probe breaks (`INSERT ... SELECT *`, where columns are
  counted) is analysed without it, and then once for each table with a probe in that one alone.
- A view is a table whose columns are those of its query; one with invoker's rights also makes its query's accesses.
Not here: the engine (adapters/zetasql_engine.py), the dialect (catalog.py), the rules of reading (tree.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service

from spangate.model.access import Access, Operation, merged
from spangate.model.schema import ObjectKind, Schema, SchemaObject
from spangate.model.sqltype import SqlType
from spangate.settings import LIMITS
from spangate.sql.catalog import UnknownType, analyzer_options, catalog_of
from spangate.sql.ddl_tokens import DdlError
from spangate.sql.engine import Engine, EngineCrashed, EngineFailure
from spangate.sql.literals import normal_form
from spangate.sql.objects import view_query
from spangate.sql.relations import Names, View, names_of, probe_of, widened
from spangate.sql.tree import NotUnderstood, accesses_of
from spangate.sql.wire import BadMessage, Node

__all__ = ["Analyzer", "Engine", "EngineCrashed", "EngineFailure", "UnreadableStatement"]

# A message quotes the statement; more than this is of no use to anybody.
_MESSAGE_CHARACTERS_MAX = 300
# Tables that are looked at one by one when columns are counted; with more, all of them count as read completely.
_SINGLE_PROBES_MAX = 4
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
            request = service.AnalyzeRequest(
                options=analyzer_options(param_types), registered_catalog_id=self._id, sql_statement=sql
            )
            answer = self._engine.call("ZetaSqlLocalService_Analyze", request.SerializeToString())
            return Node(service.AnalyzeResponse.DESCRIPTOR, answer).message("resolved_statement")
        except EngineFailure as failure:
            raise UnreadableStatement(failure.message) from failure
        except (UnknownType, BadMessage) as reason:
            raise UnreadableStatement(str(reason)) from reason
        except UnicodeEncodeError as error:
            raise UnreadableStatement("the statement is not valid Unicode") from error

    def accesses(self, sql: str, param_types: Mapping[str, SqlType]) -> tuple[Access, ...]:
        """What `sql` does. Raises UnreadableStatement; EngineCrashed."""
        try:
            return accesses_of(self.statement(sql, param_types), self.names)
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
        try:
            found = self._widened.accesses(sql, param_types)
        except UnreadableStatement:
            return self._with_single_probes(sql, param_types)
        if not any(self._probe in access.columns for access in found) and not self._may_name_probe(sql):
            return found
        every = {access.table for access in found if self._reads_probe(access)}
        return _marked(self._plain.accesses(sql, param_types), every)

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

    def _may_name_probe(self, sql: str) -> bool:
        """Whether `sql` may name the probe without reading it: `* EXCEPT (probe)`. Escapes can hide a name."""
        return self._probe in sql.lower() or ("`" in sql and "\\" in sql)

    def _reads_probe(self, access: Access) -> bool:
        return access.operation is Operation.READ and self._probe in access.columns

    def _with_single_probes(self, sql: str, param_types: Mapping[str, SqlType]) -> tuple[Access, ...]:
        """For a statement that does not go with the probe everywhere."""
        found = self._plain.accesses(sql, param_types)
        tables = sorted({one.table for one in found if one.operation is Operation.READ and one.columns})
        if len(tables) > _SINGLE_PROBES_MAX:
            return _marked(found, set(tables))
        return _marked(found, {table for table in tables if self._depends_on_columns(sql, param_types, table)})

    def _depends_on_columns(self, sql: str, param_types: Mapping[str, SqlType], table: str) -> bool:
        """Whether one more column of `table` is read by `sql`, or makes it invalid."""
        catalog = _Catalog(self._engine, widened(self._plain.names, self._probe, only=table))
        try:
            return any(map(self._reads_probe, catalog.accesses(sql, param_types)))
        except UnreadableStatement:
            return True
        finally:
            catalog.close()

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
            self._register(names_of(schema, views))

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


def _marked(accesses: tuple[Access, ...], every: set[str]) -> tuple[Access, ...]:
    """The accesses, with `every` where one of these tables is read."""
    return tuple(
        replace(one, every=True) if one.operation is Operation.READ and one.table in every else one for one in accesses
    )
