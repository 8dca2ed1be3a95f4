"""A schema's text by the database's dialect."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest

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
    for name in [name for name in sys.modules if name.startswith(("spangate.sql.pg_", "pglast"))]:
        monkeypatch.delitem(sys.modules, name)
    load = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "pglast":
            raise ModuleNotFoundError("No module named 'pglast'", name="pglast")
        return load(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(YourFault, match="not installed") as error:
        parse_schema("CREATE TABLE t (a bigint PRIMARY KEY)", Dialect.POSTGRESQL)
    assert error.value.help == "pip install 'spangate[postgresql]'"
    assert parse_schema("CREATE TABLE T (A INT64) PRIMARY KEY (A)", Dialect.GOOGLESQL).tables
