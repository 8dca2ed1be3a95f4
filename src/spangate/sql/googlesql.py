"""A GoogleSQL statement -> exactly the accesses it makes, by Google's own analyser.

Rules: what cannot be read raises UnreadableStatement and is to be denied; nothing is guessed from the text. Tables of
INFORMATION_SCHEMA and SPANNER_SYS, views, change streams, sequences, models, graphs and functions that a schema
defines are not in the catalog, so statements that use them are unreadable.
Not here: the engine (adapters/zetasql_engine.py), the dialect (catalog.py), the rules of reading (tree.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service

from spangate.model.access import Access
from spangate.model.schema import Schema
from spangate.model.sqltype import SqlType
from spangate.settings import LIMITS
from spangate.sql.catalog import UnknownType, analyzer_options, catalog_of
from spangate.sql.engine import Engine, EngineCrashed, EngineFailure
from spangate.sql.tree import NotUnderstood, accesses_of
from spangate.sql.wire import BadMessage, Node

__all__ = ["Analyzer", "Engine", "EngineCrashed", "EngineFailure", "UnreadableStatement"]

# A message quotes the statement; more than this is of no use to anybody.
_MESSAGE_CHARACTERS_MAX = 300


class UnreadableStatement(Exception):
    """It cannot be said for certain what the statement does; `message` says why, with ` [at line:column]` if known."""

    def __init__(self, message: str) -> None:
        self.message = " ".join(message.split())[:_MESSAGE_CHARACTERS_MAX]
        super().__init__(self.message)


class Analyzer:
    """Reads statements against one schema on one engine; as little thread safe as the engine."""

    def __init__(self, engine: Engine, schema: Schema) -> None:
        """Registers the catalog (about half a millisecond a table). Raises EngineFailure or EngineCrashed."""
        self._engine = engine
        self._schema = schema
        self._refused_functions = frozenset(schema.functions)
        request = service.RegisterCatalogRequest(simple_catalog=catalog_of(schema))
        answer = engine.call("ZetaSqlLocalService_RegisterCatalog", request.SerializeToString())
        self._catalog_id = service.RegisterResponse.FromString(answer).registered_id
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
            request = service.AnalyzeRequest(
                options=analyzer_options(param_types),
                registered_catalog_id=self._catalog_id,
                sql_statement=sql,
            )
            answer = self._engine.call("ZetaSqlLocalService_Analyze", request.SerializeToString())
            statement = Node(service.AnalyzeResponse.DESCRIPTOR, answer).message("resolved_statement")
            return accesses_of(statement, self._schema, self._refused_functions)
        except EngineFailure as failure:
            raise UnreadableStatement(failure.message) from failure
        except (NotUnderstood, UnknownType, BadMessage) as reason:
            raise UnreadableStatement(str(reason)) from reason
        except UnicodeEncodeError as error:
            raise UnreadableStatement("the statement is not valid Unicode") from error

    def close(self) -> None:
        """Gives the catalog's memory back to the engine."""
        request = service.UnregisterRequest(registered_id=self._catalog_id)
        self._engine.call("ZetaSqlLocalService_UnregisterCatalog", request.SerializeToString())
