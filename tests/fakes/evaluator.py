"""Runs queries over a few rows in memory, by ZetaSQL's own reference implementation.

It shares no code with what reads accesses out of a statement, so it can judge that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service

from spangate.model.schema import Schema
from spangate.sql.catalog import analyzer_options, catalog_of
from spangate.sql.engine import Engine

Row = Sequence[int | str | None]


class Evaluator:
    """Queries against tables of INT64 and STRING columns."""

    def __init__(self, engine: Engine, schema: Schema) -> None:
        self._engine = engine
        self._catalog = catalog_of(schema)

    def rows(self, sql: str, contents: Mapping[str, Sequence[Row]]) -> list[bytes]:
        """The rows that `sql` gives, encoded, in no particular order; raises EngineFailure if it fails."""
        request = service.EvaluateQueryRequest(sql=sql, simple_catalog=self._catalog, options=analyzer_options({}))
        request.options.prune_unused_columns = False
        for name, rows in contents.items():
            data = request.table_content[name].table_data
            for row in rows:
                cells = data.row.add().cell
                for value in row:
                    cell = cells.add()
                    if isinstance(value, int):
                        cell.int64_value = value
                    elif isinstance(value, str):
                        cell.string_value = value
        answer = self._engine.call("ZetaSqlLocalService_EvaluateQuery", request.SerializeToString())
        found = service.EvaluateQueryResponse.FromString(answer).content.table_data.row
        return sorted(row.SerializeToString(deterministic=True) for row in found)
