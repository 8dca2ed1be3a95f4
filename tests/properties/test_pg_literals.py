"""PostgreSQL statements of one normal form make the same accesses; many that differ in literals only have one form."""

from __future__ import annotations

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from spangate.sql.googlesql import UnreadableStatement
from spangate.sql.pg_ddl import parse_pg_ddl
from spangate.sql.pg_literals import pg_normal_form
from spangate.sql.pg_statement import pg_accesses

SCHEMA = parse_pg_ddl("""
    CREATE TABLE t (id bigint PRIMARY KEY, name text, price numeric, doc jsonb);
    CREATE TABLE u (id bigint PRIMARY KEY, name text);
    CREATE SEQUENCE a BIT_REVERSED_POSITIVE;
    CREATE SEQUENCE b BIT_REVERSED_POSITIVE;
""")
# Where literals can stand: {i} an integer, {f} another number, {s} a string.
TEMPLATES = [
    "SELECT name FROM t WHERE id = {i} AND name <> {s} OR price > {f}",
    "SELECT name, {i} FROM t ORDER BY {i} LIMIT {i} OFFSET {i}",
    "SELECT name, id FROM t ORDER BY name, {i}, -{i}",
    "SELECT id, name FROM t GROUP BY {i}, {i}",
    "SELECT * FROM t ORDER BY {i}",
    "SELECT id FROM t WHERE name LIKE {s} AND id IN ({i}, {i}) AND name IN ({s})",
    "SELECT id FROM t WHERE id IN (SELECT id FROM u ORDER BY name, {i} LIMIT {i})",
    "SELECT id FROM t WHERE id IN (SELECT * FROM (SELECT name, id FROM u ORDER BY {i}, {i}) x)",
    "SELECT nextval({s}), {i}",
    "SELECT nextval({s}::regclass) FROM t WHERE name = {s}",
    "INSERT INTO u (id, name) VALUES ({i}, {s}), (nextval({s}), {s})",
    "INSERT INTO u VALUES ({i}, {s}) ON CONFLICT (id) DO UPDATE SET name = {s} WHERE u.id > {i} RETURNING *",
    "UPDATE t SET price = {f}, name = {s} WHERE id = {i} RETURNING name",
    "DELETE FROM t WHERE id BETWEEN {i} AND {i}",
    "SELECT CASE id WHEN {i} THEN {s} ELSE name END, doc ->> {s}, doc -> {i} FROM t",
    "SELECT substr(name, {i}, {i}), coalesce(name, {s}) FROM t WHERE {i} = {i}",
    "SELECT 1 FROM t WHERE name = {s} -- {i}\n AND id = /* {s} */ {i}",
    "VALUES ({i}, {s}), ({i}, {s}) ORDER BY {i}",
]  # fmt: skip
STRINGS = ["'a'", "'b'", "'it''s'", "E'\\'; x'", "$$a$$", "''", "'--'", "'id'"]


@settings(max_examples=300, deadline=None)
@given(
    template=st.sampled_from(TEMPLATES),
    first=st.data(),
)
def test_statements_of_one_normal_form_make_the_same_accesses(template: str, first: st.DataObject) -> None:
    def filled() -> str:
        parts = template.split("{")
        text = parts[0]
        for part in parts[1:]:
            kinds = {
                "i": st.integers(0, 9).map(str),
                "f": st.sampled_from(["1.5", "2.5e3"]),
                "s": st.sampled_from(STRINGS),
            }
            text += first.draw(kinds[part[0]]) + part[2:]
        return text

    def accesses(sql: str) -> object:
        try:
            return pg_accesses(SCHEMA, sql)
        except UnreadableStatement:
            return None

    one, other = filled(), filled()
    note(f"{one}\n{other}")
    form = pg_normal_form(one)
    if form is None or form != pg_normal_form(other):
        return
    found = accesses(one), accesses(other)
    # A literal can be wrong by itself; then nothing is shared.
    assert None in found or found[0] == found[1]


@pytest.mark.parametrize(
    ("sql", "form"),
    [
        ("SELECT a FROM t WHERE b = 1 AND c = 'x'", "SELECT a FROM t WHERE b = \0i AND c = \0s"),
        ("SELECT a FROM t ORDER BY 1, 2 LIMIT 3", "SELECT a FROM t ORDER BY 1, 2 LIMIT \0i"),
        ("SELECT nextval('a'), f(1)", None),
        ("INSERT INTO t VALUES (1, 'a', f('b')), (2.5, NULL)", "INSERT INTO t VALUES (\0i, \0s, f('b')), (\0f, NULL)"),
        ("SELECT a FROM t WHERE a IN (1, 2)", "SELECT a FROM t WHERE a IN (\0i, \0i)"),
        ("SELECT a FROM t WHERE a IN (SELECT b FROM u ORDER BY c, 2)", None),
        ("SELECT a FROM t", None),
        ("SELECT 'a", None),
        ("SELECT a FROM t WHERE a = 1" + " " * 40_000, None),
    ],
)
def test_what_is_replaced(sql: str, form: str | None) -> None:
    assert pg_normal_form(sql) == form


def test_a_thousand_statements_that_differ_in_literals_are_analysed_once() -> None:
    forms = {pg_normal_form(f"SELECT name FROM t WHERE id = {n} AND name = 'n{n}' LIMIT {n}") for n in range(1000)}
    assert len(forms) == 1
