"""Runs statements over a few rows in memory, by ZetaSQL's own reference implementation.

It shares no code with what reads accesses out of a statement, so it can judge that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service

from spangate.model.schema import Schema
from spangate.sql.catalog import analyzer_options, catalog_of
from spangate.sql.engine import Engine

Row = Sequence[int | None]
Contents = Mapping[str, Sequence[Row]]


class Evaluator:
    """Statements against tables of INT64 columns."""

    def __init__(self, engine: Engine, schema: Schema) -> None:
        self._engine = engine
        self._catalog = catalog_of(schema)

    def rows(self, sql: str, contents: Contents) -> list[bytes]:
        """The rows that a query gives, encoded, in no particular order; raises EngineFailure if it fails."""
        request = service.EvaluateQueryRequest(sql=sql)
        self._prepare(request, contents)
        answer = self._engine.call("ZetaSqlLocalService_EvaluateQuery", request.SerializeToString())
        found = service.EvaluateQueryResponse.FromString(answer).content.table_data.row
        return sorted(row.SerializeToString(deterministic=True) for row in found)

    def changes(self, sql: str, contents: Contents) -> dict[int, list[int | None]]:
        """What an UPDATE or DELETE does: the new row by the old key, no columns if the row is gone.

        Keys are one INT64. Raises EngineFailure if it fails.
        """
        request = service.EvaluateModifyRequest(sql=sql)
        self._prepare(request, contents)
        answer = self._engine.call("ZetaSqlLocalService_EvaluateModify", request.SerializeToString())
        return {
            row.old_primary_key[0].int64_value: [
                cell.int64_value if cell.HasField("int64_value") else None for cell in row.cell
            ]
            for row in service.EvaluateModifyResponse.FromString(answer).content
        }

    def _prepare(self, request: Any, contents: Contents) -> None:
        request.simple_catalog.CopyFrom(self._catalog)
        request.options.CopyFrom(analyzer_options({}))
        request.options.prune_unused_columns = False
        for name, rows in contents.items():
            data = request.table_content[name].table_data
            for row in rows:
                cells = data.row.add().cell
                for value in row:
                    cell = cells.add()
                    if value is not None:
                        cell.int64_value = value
