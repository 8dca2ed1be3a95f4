"""A schema's text -> Schema, by the database's dialect.

Rules: PostgreSQL's grammar comes with the extra `postgresql`, and is loaded when a database of that dialect is met.
Not here: the grammars (ddl.py, pg_ddl.py).
"""

from __future__ import annotations

from collections.abc import Callable

from spangate.errors import YourFault
from spangate.model.schema import Dialect, Schema
from spangate.sql.ddl import parse_ddl


def parse_schema(text: str, dialect: Dialect) -> Schema:
    """The schema that `text` creates in an empty database of `dialect`; raises DdlError at the first mistake.

    YourFault if the grammar is not installed.
    """
    return _postgresql()(text) if dialect is Dialect.POSTGRESQL else parse_ddl(text)


def _postgresql() -> Callable[[str], Schema]:
    try:
        from spangate.sql.pg_ddl import parse_pg_ddl
    except ModuleNotFoundError as error:
        if error.name != "pglast":
            raise
        raise YourFault(
            "PostgreSQL's grammar is not installed, and a database is of that dialect",
            help="pip install 'spangate[postgresql]'",
        ) from error
    return parse_pg_ddl
