"""PostgreSQL statements: what they access is what their writer meant, and no text whatever breaks their reader."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from fakes.pg_writer import statements
from spangate.model.access import Access
from spangate.sql.ddl_tokens import DdlError
from spangate.sql.googlesql import UnreadableStatement
from spangate.sql.pg_ddl import parse_pg_ddl
from spangate.sql.pg_parse import _read_deep_json, read_json
from spangate.sql.pg_statement import pg_accesses

SCHEMA_TEXT = """
    CREATE TABLE t (a bigint PRIMARY KEY, b bigint, c bigint, d bigint);
    CREATE TABLE u (a bigint PRIMARY KEY, e bigint, f bigint);
    CREATE SCHEMA sales;
    CREATE TABLE sales.x (k bigint PRIMARY KEY);
    CREATE INDEX by_b ON t (b) INCLUDE (c);
    CREATE VIEW v SQL SECURITY INVOKER AS SELECT t.a FROM t;
    CREATE SEQUENCE s BIT_REVERSED_POSITIVE;
"""
SCHEMA = parse_pg_ddl(SCHEMA_TEXT)
QUICK = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))

# Pieces that make sense next to one another more often than letters do.
PIECES = st.sampled_from(
    """
    select from where t u v s a b * ( ) , . ; ' " '' "" $1 $0 $ :: = + - [ ] 1 1.5 x'1' U&"\\0061" E'\\'' -- /* */ /*@
    with as recursive join left natural using on lateral union all except values insert into update set delete returning
    conflict do nothing group by order having limit over window partition case when then end in exists any array row
    null default for nextval('s') count(*) public pg_catalog information_schema tables create table view drop alter add
    column primary key index include interleave parent hidden identity ttl interval grant sql security invoker \0 \ud800
    é \n
    """.split(" ")  # noqa: SIM905 - words read better as words
)
TEXTS = st.lists(PIECES, max_size=30).map(" ".join) | st.text(max_size=50)


def found(sql: str) -> tuple[Access, ...] | None:
    try:
        return pg_accesses(SCHEMA, sql)
    except UnreadableStatement as error:
        assert error.message
        return None


@QUICK
@given(case=statements())
def test_a_statement_accesses_what_its_writer_meant(case: tuple[str, tuple[Access, ...]]) -> None:
    sql, accesses = case
    note(sql)
    assert pg_accesses(SCHEMA, sql) == accesses


@QUICK
@given(case=statements(), data=st.data())
def test_space_comments_and_case_change_nothing(case: tuple[str, tuple[Access, ...]], data: Any) -> None:
    sql, accesses = case
    between = data.draw(st.sampled_from([" \n ", " /* x */ ", " -- y\n", " /*@ force_index=by_b */ "]))
    changed = sql.replace(" ", between)
    note(changed)
    assert pg_accesses(SCHEMA, changed) == accesses
    if '"' not in sql:
        assert pg_accesses(SCHEMA, sql.upper()) == accesses


@QUICK
@given(case=statements(), data=st.data())
def test_a_broken_statement_is_read_or_refused(case: tuple[str, tuple[Access, ...]], data: Any) -> None:
    sql, _ = case
    start = data.draw(st.integers(0, len(sql)))
    end = data.draw(st.integers(start, min(len(sql), start + 10)))
    found(sql[:start] + data.draw(TEXTS) + sql[end:])


@QUICK
@given(sql=TEXTS)
def test_any_text_is_a_statement_or_refused(sql: str) -> None:
    found(sql)


@QUICK
@given(text=TEXTS, cut=st.integers(0, len(SCHEMA_TEXT)))
def test_any_text_is_a_schema_or_refused_with_its_place(text: str, cut: int) -> None:
    for whole in (text, SCHEMA_TEXT[:cut] + text + SCHEMA_TEXT[cut:]):
        try:
            parse_pg_ddl(whole)
        except DdlError as error:
            assert error.message
            assert 1 <= error.line <= whole.count("\n") + 1
            assert error.column >= 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@QUICK
@given(value=JSON, indent=st.sampled_from([None, 1]))
def test_trees_are_read_as_json_however_deep(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert _read_deep_json(text) == json.loads(text) == value


def test_a_tree_too_deep_for_recursion_is_read() -> None:
    text = '{"a":[' * 20_000 + "1" + "]}" * 20_000
    with pytest.raises(RecursionError):
        json.loads(text)
    value = read_json(text)
    for _ in range(20_000):
        value = value["a"][0]
    assert value == 1
