"""A schema's text by the database's dialect."""

from __future__ import annotations

import pytest

from fakes.missing import not_installed
from spangate.errors import YourFault
from spangate.model.schema import Dialect
from spangate.sql.dialects import parse_schema


def test_each_dialect_has_its_own_grammar() -> None:
    google = parse_schema("CREATE TABLE T (A INT64) PRIMARY KEY (A)", Dialect.GOOGLESQL)
    postgresql = parse_schema("CREATE TABLE t (a bigint PRIMARY KEY)", Dialect.POSTGRESQL)
    assert [table.name for table in google.tables] == ["T"]
    assert [table.name for table in postgresql.tables] == ["t"]
    assert (google.dialect, postgresql.dialect) == (Dialect.GOOGLESQL, Dialect.POSTGRESQL)


def test_without_the_extra_a_postgresql_database_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    not_installed(monkeypatch, "pglast", "spangate.sql.pg_")
    with pytest.raises(YourFault, match="not installed") as error:
        parse_schema("CREATE TABLE t (a bigint PRIMARY KEY)", Dialect.POSTGRESQL)
    assert error.value.help == "pip install 'spangate[postgresql]'"
    assert parse_schema("CREATE TABLE T (A INT64) PRIMARY KEY (A)", Dialect.GOOGLESQL).tables
