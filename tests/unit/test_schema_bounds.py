"""Schema files of no use: each is refused at the first place that says so, and no file takes more than linear time."""

from __future__ import annotations

import re

import pytest

from spangate.model.schema import Dialect
from spangate.sql.ddl_database import COLUMNS_MAX
from spangate.sql.ddl_tokens import EMPTY_STATEMENTS_MAX, STATEMENT_TOKENS_MAX, DdlError, scan
from spangate.sql.dialects import parse_schema

TABLE = {
    Dialect.GOOGLESQL: "CREATE TABLE t (a INT64{}) PRIMARY KEY (a);",
    Dialect.POSTGRESQL: "CREATE TABLE t (a bigint PRIMARY KEY{});",
}
TYPE = {Dialect.GOOGLESQL: "INT64", Dialect.POSTGRESQL: "bigint"}


def wide(dialect: Dialect, columns: int) -> str:
    """A table with so many columns, its key among them."""
    return TABLE[dialect].format("".join(f", c{number} {TYPE[dialect]}" for number in range(1, columns)))


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("empty", [";", "; ", ";\n-- nothing\n", ";;/* nothing */"])
def test_a_few_statements_may_be_empty_but_not_countless_ones(dialect: Dialect, empty: str) -> None:
    few = TABLE[dialect].format("") + empty * (EMPTY_STATEMENTS_MAX // 2 - 1)
    assert [table.name for table in parse_schema(few, dialect).tables] == ["t"]
    with pytest.raises(DdlError, match=f": more than {EMPTY_STATEMENTS_MAX} statements are empty$"):
        parse_schema(empty * 200_000, dialect)


@pytest.mark.parametrize("dialect", Dialect)
def test_a_statement_that_does_not_end_is_refused_where_it_begins(dialect: Dialect) -> None:
    text = TABLE[dialect].format("") + "\nCREATE TABLE u (" + "a " * STATEMENT_TOKENS_MAX
    with pytest.raises(DdlError, match=f"^2:1: this statement has more than {STATEMENT_TOKENS_MAX} words and signs$"):
        parse_schema(text, dialect)


@pytest.mark.parametrize("dialect", Dialect)
def test_a_table_has_as_many_columns_as_in_spanner_and_no_more(dialect: Dialect) -> None:
    full = wide(dialect, COLUMNS_MAX)
    (table,) = parse_schema(full, dialect).tables
    assert len(table.columns) == COLUMNS_MAX
    more = wide(dialect, COLUMNS_MAX + 1)
    with pytest.raises(DdlError) as caught:
        parse_schema(more, dialect)
    assert (caught.value.message, caught.value.column) == (
        f"a table has at most {COLUMNS_MAX} columns",
        more.index(f"c{COLUMNS_MAX} ") + 1,
    )
    with pytest.raises(DdlError, match=re.escape(f"a table has at most {COLUMNS_MAX} columns")):
        parse_schema(full + f"ALTER TABLE t ADD COLUMN more {TYPE[dialect]};", dialect)


def test_tokens_are_made_only_as_far_as_they_are_asked_for() -> None:
    tokens = scan("CREATE TABLE \x01")
    assert [next(tokens).text, next(tokens).text] == ["CREATE", "TABLE"]
    with pytest.raises(DdlError, match="unexpected character"):
        next(tokens)


def test_the_first_mistake_counts_whatever_stands_behind_it() -> None:
    with pytest.raises(DdlError, match=r"^1:1: expected a DDL statement"):
        parse_schema("nonsense; CREATE \x01", Dialect.GOOGLESQL)
