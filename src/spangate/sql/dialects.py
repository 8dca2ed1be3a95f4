"""A schema's text -> Schema, by the database's dialect.

Not here: the grammars (ddl.py, pg_ddl.py).
"""

from __future__ import annotations

from spangate.model.schema import Dialect, Schema
from spangate.sql.ddl import parse_ddl
from spangate.sql.pg_ddl import parse_pg_ddl


def parse_schema(text: str, dialect: Dialect) -> Schema:
    """The schema that `text` creates in an empty database of `dialect`; raises DdlError at the first mistake.

    A live database may have no table yet: its text may be empty, and so is then its schema.
    """
    if not text.strip():
        return Schema(tables=(), dialect=dialect)
    return parse_pg_ddl(text) if dialect is Dialect.POSTGRESQL else parse_ddl(text)
