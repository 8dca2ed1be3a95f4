"""Accesses do not depend on the values of literals, so statements of one normal form can share what was found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from spangate.adapters.zetasql_engine import WasmEngine
from spangate.sql.ddl import parse_ddl
from spangate.sql.googlesql import Analyzer, UnreadableStatement
from spangate.sql.literals import quick_form

SCHEMA = parse_ddl("""
CREATE TABLE T (Id INT64, Name STRING(MAX), Price NUMERIC, Made TIMESTAMP, Doc JSON, Raw BYTES(MAX), F FLOAT64,
  Tags ARRAY<STRING(MAX)>) PRIMARY KEY (Id);
CREATE TABLE U (Id INT64, Name STRING(MAX)) PRIMARY KEY (Id);
CREATE VIEW V SQL SECURITY INVOKER AS SELECT t.Id FROM T t WHERE t.Name = 'x';
CREATE SEQUENCE N OPTIONS (sequence_kind = 'bit_reversed_positive');
CREATE CHANGE STREAM S FOR ALL;
""")
# Where literals can stand: {i} an integer, {f} a number, {s} a string, {b} bytes, {d} a date, {j} JSON.
TEMPLATES = [
    "SELECT Name FROM T WHERE Id = {i} AND Name != {s} OR Price > {f}",
    "SELECT Name, {i}, {s} FROM T ORDER BY {i} LIMIT {i} OFFSET {i}",
    "SELECT Name, Id FROM T GROUP BY {i}, {i}",
    "SELECT Name, COUNT(*) FROM T GROUP BY Name HAVING MAX(Id) > {i} ORDER BY {i}",
    "SELECT Id FROM T WHERE Name LIKE {s} AND Name IN ({s}, {s}) AND Raw = {b}",
    "SELECT JSON_VALUE(Doc, {s}), JSON_QUERY(Doc, '$.a'), Doc[{s}], Doc[{i}] FROM T",
    "SELECT Tags[OFFSET({i})], Tags[SAFE_ORDINAL({i})], SUBSTR(Name, {i}, {i}) FROM T",
    "SELECT CAST({s} AS DATE), CAST(Id AS STRING FORMAT {s}), DATE {d}, TIMESTAMP {d} FROM T",
    "SELECT Id FROM T WHERE Made > TIMESTAMP_SUB(Made, INTERVAL {i} DAY) AND Made < {d}",
    "SELECT IF({i} = {i}, Name, {s}), COALESCE(NULL, {i}, Id), CASE {i} WHEN {i} THEN Price END FROM T",
    "SELECT * FROM T WHERE {i} = {i}",
    "SELECT * FROM U UNION ALL SELECT {i}, {s}",
    "SELECT Id, Name FROM U UNION ALL SELECT {i}, {s} UNION ALL SELECT Id, {s} FROM T",
    "SELECT t.Id FROM T t JOIN U ON U.Id = {i} AND t.Name = {s} {s}",
    "SELECT Id FROM T@{{FORCE_INDEX={s}}} TABLESAMPLE RESERVOIR ({i} ROWS)",
    "@{{OPTIMIZER_VERSION={i}}} SELECT Id FROM V WHERE Id = {i}",
    "SELECT FORMAT({s}, t), REGEXP_CONTAINS(Name, {s}) FROM T t",
    "SELECT APPROX_QUANTILES(Id, {i}), STRING_AGG(Name, {s} LIMIT {i}) FROM T",
    "SELECT ARRAY(SELECT AS STRUCT {i} AS a, Name FROM U LIMIT {i}) FROM T",
    "SELECT SECURE_CONTEXT({s}), GET_NEXT_SEQUENCE_VALUE(SEQUENCE N) + {i}",
    "SELECT 1 FROM READ_S({d}, NULL, {s}, {i})",
    "FROM T |> ORDER BY {i} |> LIMIT {i} |> SELECT Name",
    "FROM T |> ORDER BY Name, ({i}) DESC NULLS LAST, Id + {i} |> AGGREGATE COUNT(*) GROUP BY Name",
    "SELECT 1 FROM T GROUP BY Id, {i} ORDER BY MAX(Price), {i}",
    "FROM T |> WHERE Id = {i} |> LIMIT {i} |> SELECT Name, {s} AS x |> WHERE x = {s}",
    "INSERT INTO U (Id, Name) VALUES ({i}, {s}), ({i}, DEFAULT)",
    "INSERT OR UPDATE INTO U (Id, Name) SELECT Id, {s} FROM T WHERE F < {f} THEN RETURN Name, {i}",
    "UPDATE T SET Price = {f}, Doc = {j}, Name = {s} WHERE Id = -{i}",
    "DELETE FROM T WHERE Id BETWEEN {i} AND {i} THEN RETURN *",
    "SELECT Id /* {i} */ FROM T -- {s}\n WHERE Id = {i}",
]  # fmt: skip


def quoted(text: str) -> str:
    return "'" + "".join(f"\\u{ord(letter):04x}" if letter in "'\\\n\r" else letter for letter in text) + "'"


TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00", max_codepoint=0xFFFF), max_size=6),
    st.sampled_from(["$.a", "FROM U", "'; DELETE FROM T", "%t", "--", "/*", "`", "Id", "T", "2026-01-01"]),
).map(quoted)
KINDS: dict[str, Any] = {
    "i": st.one_of(st.integers(0, 2**63 - 1).map(str), st.integers(0, 9).map(str), st.integers(0, 255).map(hex)),
    "f": st.sampled_from(["1.5", "0.0", "1e10", ".5", "3.", "1E-3"]),
    "s": st.one_of(TEXTS, TEXTS.map(lambda text: f"r{text}" if "\\" not in text else text), st.just('"""a\nb"""')),
    "b": st.sampled_from(["b'a'", "b''", "rb'\\x00'", 'B"x"']),
    "d": st.dates().map(lambda date: f"'{date:%Y-%m-%d}'"),
    "j": st.sampled_from(["JSON '{}'", "JSON '[1, 2]'", "JSON 'null'"]),
}


def filled(draw: Any, template: str) -> str:
    """The template with a literal in each place."""
    parts = template.replace("{{", "\x01").replace("}}", "\x02").split("{")
    text = parts[0] + "".join(draw(KINDS[part[0]]) + part[2:] for part in parts[1:])
    return text.replace("\x01", "{").replace("\x02", "}")


@pytest.fixture(scope="module")
def analyzer(zetasql_engine: WasmEngine) -> Analyzer:
    return Analyzer(zetasql_engine, SCHEMA)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), template=st.sampled_from(TEMPLATES))
def test_statements_of_one_normal_form_make_the_same_accesses(analyzer: Analyzer, data: Any, template: str) -> None:
    one, other = filled(data.draw, template), filled(data.draw, template)
    note(one)
    note(other)
    form = analyzer.normal_form(one)
    if form is None or form != analyzer.normal_form(other):
        return
    try:
        found = analyzer.accesses(one, {}), analyzer.accesses(other, {})
    except UnreadableStatement:
        # Not every value fits everywhere; who sends it gets Spanner's error, or ours.
        return
    assert found[0] == found[1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), template=st.sampled_from([one for one in TEMPLATES[:-1] if " BY " not in one]))
def test_literals_of_one_kind_make_one_normal_form(analyzer: Analyzer, data: Any, template: str) -> None:
    assert analyzer.normal_form(filled(data.draw, template)) == analyzer.normal_form(filled(data.draw, template))


# Little of everything that can hold text or be next to it.
PIECES = [
    "'",
    '"',
    "`",
    "\\",
    "--",
    "#",
    "/*",
    "*/",
    "\n",
    "1",
    "25",
    "0x1F",
    ".",
    "1.5",
    "e",
    "r",
    "b",
    "a",
    "Id",
    "-",
    " ",
    ",",
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), template=st.sampled_from(TEMPLATES))
def test_a_form_that_the_parser_gave_once_is_that_of_all_with_this_quick_form(
    analyzer: Analyzer, data: Any, template: str
) -> None:
    one = filled(data.draw, template)
    other = "".join(data.draw(st.lists(st.sampled_from(PIECES), max_size=8)))
    other = data.draw(st.sampled_from([filled(data.draw, template), one.replace("'a'", other), one + other]))
    note(one)
    note(other)
    form = analyzer.normal_form(one)
    if form is not None and quick_form(other) == form:
        assert analyzer.normal_form(other) == form


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), pieces=st.lists(st.sampled_from([*PIECES, "{i}", "{f}", "{s}"]), min_size=1, max_size=7))
def test_what_two_texts_of_one_quick_form_are_decides_the_parser_for_both(
    analyzer: Analyzer, data: Any, pieces: list[str]
) -> None:
    one, other = (filled(data.draw, f"SELECT {''.join(pieces)} FROM T") for _ in range(2))
    note(one)
    note(other)
    form = analyzer.normal_form(one)
    if form is not None and form == quick_form(other):
        # None: a text that the parser refuses does nothing.
        assert analyzer.normal_form(other) in (form, None)


@pytest.mark.parametrize(
    ("sql", "form"),
    [
        ("SELECT 1, 'a--#', 1.5, -2 FROM T1 LIMIT 3", "SELECT 0i0, 0s0, 0f0, -0i0 FROM T1 LIMIT 0i0"),
        ("SELECT a FROM b", "SELECT a FROM b"),
        ("SELECT 'a.b' Secret 'c'", "SELECT 0s0 Secret 0s0"),
        ("SELECT 'it''s'", None),
        ("SELECT " + "'" * 3 + "a" + "'" * 3, None),
        ("SELECT ''", None),
        ("SELECT 'a\\' , Secret, 'b'", None),
        ("SELECT 'a\n'", None),
        ("SELECT r'a'", None),
        ('SELECT "\'" + Secret + "\'"', None),
        ("SELECT 1 -- 'a'", None),
        ("SELECT 1 # 'a'", None),
        ("SELECT 1 /* 'a' */", None),
        ("SELECT `'` Secret `'`", None),
        ("SELECT 0x1F, 1e5, .5, a.5, @p2", "SELECT 0x1F, 1e5, .5, a.5, @p2"),
        ("SELECT '\ud800'", None),
        ("SELECT \x00i\x00", None),
    ],
)
def test_only_what_is_plainly_a_literal_is_in_a_quick_form(sql: str, form: str | None) -> None:
    found = quick_form(sql)
    assert (found and found.replace("\x00", "0")) == form


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_other_statements_have_other_normal_forms(analyzer: Analyzer, data: Any) -> None:
    first, second = data.draw(st.lists(st.sampled_from(TEMPLATES), min_size=2, max_size=2, unique=True))
    assert analyzer.normal_form(filled(data.draw, first)) != analyzer.normal_form(filled(data.draw, second))


@pytest.mark.parametrize(
    ("sql", "form"),
    [
        ("SELECT 1, 'a', b'x', 1.5, -0x1F FROM T", "SELECT 0i0, 0s0, 0b0, 0f0, -0i0 FROM T"),
        ("SELECT DATE '2026-01-01', 'a' 'b', r'\\d', TRUE, NULL", "SELECT DATE 0s0, 0s0, 0s0, TRUE, NULL"),
        ("SELECT `1`, t1, @p2 /* 3 */ -- 'x'", "SELECT `1`, t1, @p2 /* 3 */ -- 'x'"),
        ("SELECT a FROM b", "SELECT a FROM b"),
        ("FROM T |> ORDER BY 3, (2) DESC, f('x', [4])", "FROM T |> ORDER BY 3, (2) DESC, f(0s0, [0i0])"),
        ("SELECT a, 1 FROM T GROUP BY 1, a + 3", "SELECT a, 0i0 FROM T GROUP BY 1, a + 0i0"),
    ],
)
def test_only_literals_are_replaced(analyzer: Analyzer, sql: str, form: str) -> None:
    found = analyzer.normal_form(sql)
    assert found is not None
    assert found.replace("\x00", "0") == form


@pytest.mark.parametrize(
    "sql",
    ["SELECT 'a", "SELECT 1 1 1", "1", "SELECT '\x00'", "SELECT 1; SELECT 2", "SELECT '\ud800'", "SELECT \x00i\x00"],
)
def test_what_the_parser_refuses_has_no_normal_form(analyzer: Analyzer, sql: str) -> None:
    assert analyzer.normal_form(sql) is None


def test_strings_with_letters_of_several_bytes_do_not_shift_what_follows(analyzer: Analyzer) -> None:
    found = analyzer.normal_form("SELECT 'äöü€😀', Id FROM T WHERE Name = '😀' AND Id = 5")
    assert found == "SELECT \x00s\x00, Id FROM T WHERE Name = \x00s\x00 AND Id = \x00i\x00"
