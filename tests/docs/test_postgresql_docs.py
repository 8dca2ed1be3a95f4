"""The page about PostgreSQL-dialect databases is held to the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spangate.settings import LIMITS
from spangate.sql.pg_ddl import parse_pg_ddl
from spangate.sql.pg_expression import PARAMETERS_MAX
from spangate.sql.pg_from import JOINS_MAX
from spangate.sql.pg_scope import DEPTH_MAX
from spangate.sql.pg_statement import TOKENS_MAX, pg_accesses

PAGE = (Path(__file__).resolve().parents[2] / "docs/postgresql.md").read_text(encoding="utf-8")
SCHEMA = parse_pg_ddl("""
    CREATE TABLE orders (id bigint PRIMARY KEY, total bigint, status text);
    CREATE TABLE customers (id bigint PRIMARY KEY, name text);
    CREATE SEQUENCE numbers BIT_REVERSED_POSITIVE;
""")
ROWS = [
    (statement, re.findall(r"`([^`]+)`", accesses))
    for statements, accesses in re.findall(r"^\| (`[A-Z].*?) \| (`.*) \|$", PAGE, re.MULTILINE)
    for statement in re.findall(r"`([^`]+)`", statements)
]


def test_the_table_of_statements_is_found() -> None:
    assert len(ROWS) > 10


@pytest.mark.parametrize(("statement", "accesses"), ROWS)
def test_a_documented_statement_has_its_accesses(statement: str, accesses: list[str]) -> None:
    assert sorted(str(one) for one in pg_accesses(SCHEMA, statement)) == sorted(accesses)


def test_names_looked_up_past_a_table_read_it_whole_as_documented() -> None:
    past, beside = re.findall(r"`(SELECT \(SELECT [^`]+)`", PAGE)
    assert "read orders(*)" in [str(one) for one in pg_accesses(SCHEMA, past)]
    assert "read orders" in [str(one) for one in pg_accesses(SCHEMA, beside)]


def test_the_bounds_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| ([^|]+) \| ([\d,]+) \|$", PAGE, re.MULTILINE))
    found = {what: int(number.replace(",", "")) for what, number in rows.items()}
    assert found == {
        "characters of a statement": LIMITS.statement_characters_max,
        "words, values, signs and comments of a statement": TOKENS_MAX,
        "parameters": PARAMETERS_MAX,
        "queries inside one another": DEPTH_MAX,
        "joins of a FROM clause": JOINS_MAX,
    }
