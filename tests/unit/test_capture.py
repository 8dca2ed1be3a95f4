"""Subqueries that use names from around them: which of their tables a stale schema could be wrong about.

The judge is a second analysis in a schema that has moved on: what a statement reads there of the columns that were
added, it has read completely (`Access.every`) before.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spangate.adapters.zetasql_engine import WasmEngine
from spangate.sql.capture import names_alone
from spangate.sql.ddl import parse_ddl
from spangate.sql.googlesql import Analyzer, UnreadableStatement

DDL = """
CREATE TABLE T (Id INT64, A STRING(MAX), B INT64) PRIMARY KEY (Id);
CREATE TABLE C (Id INT64, N INT64) PRIMARY KEY (Id);
CREATE TABLE D (Id INT64, M INT64) PRIMARY KEY (Id);
"""
SCHEMA = parse_ddl(DDL)
TABLES = ("T", "C", "D")
ADDED = ("S", "A", "x")
# The live database has moved on: one table has such a column, or two have.
LATER = [
    "".join(f"ALTER TABLE {table} ADD COLUMN {name} {type_};" for table in tables)
    for name in ADDED
    for type_ in ("STRING(MAX)", "JSON")
    for tables in ("C", "D", "CD")
]

# A statement, and the tables that it reads completely.
STATEMENTS = [
    ("SELECT (SELECT MAX(A) FROM C) FROM T", "C"),
    ("SELECT (SELECT MAX(S) FROM C) FROM (SELECT A AS S FROM T)", "C"),
    ("SELECT (SELECT MAX(S) FROM C) FROM (SELECT A S FROM T)", "C"),
    ("SELECT (SELECT COUNT(*) FROM C WHERE N = S) FROM (SELECT 1 AS S)", "C"),
    ("SELECT Id FROM T WHERE EXISTS (SELECT 1 FROM C WHERE C.Id = B)", "C"),
    ("SELECT Id FROM T WHERE B IN (SELECT N FROM C WHERE A IS NULL)", "C"),
    ("SELECT ARRAY(SELECT A FROM C) FROM T", "C"),
    ("SELECT (SELECT MAX(A) FROM C, D) FROM T", "C D"),
    ("SELECT (SELECT MAX((SELECT MAX(A) FROM D)) FROM C) FROM T", "C D"),
    ("SELECT (SELECT MAX((SELECT MAX(N) FROM D)) FROM C) FROM T", "D"),
    ("SELECT (FROM C |> WHERE N = 1 |> AGGREGATE MAX(A)) FROM T", "C"),
    ("SELECT (FROM C |> EXTEND A AS y |> AGGREGATE MAX(y)) FROM T", "C"),
    ("SELECT (SELECT MAX(S.x) FROM C) FROM (SELECT STRUCT(1 AS x) AS S)", "C"),
    ("SELECT (SELECT MAX(STRING(S.x)) FROM C) FROM (SELECT JSON '{}' AS S)", "C"),
    ("SELECT (SELECT ANY_VALUE(`A`) FROM C) FROM T", "C"),
    ("SELECT (SELECT MAX(LENGTH(A)) FROM C) FROM T -- A", "C"),
    ("UPDATE T SET B = (SELECT MAX(A IS NULL) FROM C) IS NULL WHERE TRUE", None),
    ("UPDATE T SET B = 1 WHERE (SELECT COUNT(*) FROM C WHERE A = '') = 1", "C"),
    ("DELETE FROM T WHERE EXISTS (SELECT 1 FROM C WHERE N = B)", "C"),
    ("INSERT INTO D (Id, M) SELECT Id, (SELECT MAX(B) FROM C) FROM T", "C"),
    ("WITH w AS (SELECT (SELECT MAX(B) FROM C) AS m FROM T) SELECT m FROM w", "C"),
    # A word that could be a keyword gives no alias.
    ("WITH EXTEND AS (SELECT 1 AS q) SELECT (FROM C |> EXTEND S AS y |> AGGREGATE MAX(y)) FROM T AS S", None),
    ("WITH e AS (SELECT 1 q) SELECT (SELECT MAX(A) FROM C), A.q FROM T, e AS A", None),
    # What names its tables is certain: nothing of this has to be read completely.
    ("SELECT t.Id, (SELECT COUNT(*) FROM C c WHERE c.Id = t.Id) FROM T t", ""),
    ("SELECT t.Id FROM T AS t WHERE EXISTS (SELECT 1 FROM C AS c WHERE c.Id = t.Id AND c.N > 1)", ""),
    ("SELECT A, (SELECT COUNT(*) FROM C c WHERE c.Id = t.Id) AS n FROM T t WHERE B > 1 ORDER BY n", ""),
    ("SELECT A FROM T WHERE B IN (SELECT N FROM C)", ""),
    ("SELECT A FROM T WHERE EXISTS (SELECT 1 FROM C WHERE C.Id = T.Id)", ""),
    ("SELECT T.A, x.n FROM T JOIN (SELECT N AS n FROM C) x ON x.n = T.Id", ""),
    ("SELECT t.A FROM T t WHERE (SELECT MAX(c.N) FROM C c JOIN D d ON d.Id = c.Id WHERE d.M = t.B) = 1", ""),
    ("SELECT t.Id FROM T t WHERE EXISTS (SELECT 1 FROM T u WHERE u.B = t.B AND u.Id != t.Id)", ""),
    ("UPDATE T t SET B = (SELECT MAX(c.N) FROM C c WHERE c.Id = t.Id) WHERE t.Id = 1", ""),
    ("SELECT A FROM (SELECT B AS A FROM T) ORDER BY A", ""),
]  # fmt: skip
READABLE = [(sql, tables) for sql, tables in STATEMENTS if tables is not None]


@pytest.fixture(scope="module")
def analyzer(zetasql_engine: WasmEngine) -> Analyzer:
    return Analyzer(zetasql_engine, SCHEMA)


@pytest.fixture(scope="module")
def later(zetasql_engine: WasmEngine) -> list[Analyzer]:
    return [Analyzer(zetasql_engine, parse_ddl(DDL + more)) for more in LATER]


def complete(analyzer: Analyzer, sql: str) -> set[str]:
    return {access.table for access in analyzer.accesses(sql, {}) if access.every}


@pytest.mark.parametrize(("sql", "tables"), READABLE, ids=[sql for sql, _ in READABLE])
def test_a_statement_reads_completely(analyzer: Analyzer, sql: str, tables: str) -> None:
    assert complete(analyzer, sql) == set(tables.split())


def never_wider(analyzer: Analyzer, later: list[Analyzer], sql: str) -> None:
    try:
        now = analyzer.accesses(sql, {})
    except UnreadableStatement:
        return
    every = {access.table for access in now if access.every}
    known = {access.table: set() for access in now} | {"": set()}
    for access in now:
        known[access.table] |= set(access.columns)
    for one in later:
        try:
            found = one.accesses(sql, {})
        except UnreadableStatement:
            continue  # Spanner refuses it too
        for access in found:
            assert access.table in every or set(access.columns) <= known[access.table], sql


@pytest.mark.parametrize("sql", [sql for sql, _ in STATEMENTS])
def test_what_is_read_later_was_read_completely_before(analyzer: Analyzer, later: list[Analyzer], sql: str) -> None:
    never_wider(analyzer, later, sql)


EXPRESSIONS = ["A", "S", "x", "B", "N", "t.A", "c.N", "S.x", "t.B", "1", "LENGTH(A)", "TO_JSON_STRING(S)"]
OUTER = ["T t", "(SELECT A AS S, B FROM T) t", "(SELECT STRUCT(A AS x) AS S, 1 AS B FROM T) t", "T x", "T AS S, D"]
INNER = ["C c", "C", "C c, D", "C AS S", "(SELECT N FROM C) c", "D JOIN C c USING (Id)"]


@pytest.mark.thorough
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    asked=st.sampled_from(EXPRESSIONS),
    filtered=st.sampled_from(EXPRESSIONS),
    outer=st.sampled_from(OUTER),
    inner=st.sampled_from(INNER),
    shape=st.sampled_from(
        [
            "SELECT (SELECT MAX(TO_JSON_STRING({0})) FROM {3} WHERE {1} IS NULL) FROM {2}",
            "SELECT 1 FROM {2} WHERE EXISTS (SELECT {0} FROM {3} WHERE TO_JSON_STRING({1}) = '')",
            "SELECT ARRAY(SELECT {0} FROM {3} ORDER BY {1} IS NULL) FROM {2}",
            "SELECT 1 FROM {2} WHERE '' IN (SELECT TO_JSON_STRING({0}) FROM {3} GROUP BY 1 HAVING MAX({1} IS NULL))",
            "SELECT (FROM {3} |> WHERE {1} IS NULL |> AGGREGATE MAX(TO_JSON_STRING({0}))) FROM {2}",
        ]
    ),
)
def test_a_stale_schema_never_widens_access(
    analyzer: Analyzer, later: list[Analyzer], asked: str, filtered: str, outer: str, inner: str, shape: str
) -> None:
    # An alias of a table that a JSON column hides: see docs/decisions/0017.
    if outer in ("T x", "T AS S, D") and ("S.x" in (asked, filtered)):
        return
    never_wider(analyzer, later[::3], shape.format(asked, filtered, outer, inner))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a, b.c FROM t x WHERE x.d = e", {"a", "e"}),
        ("SELECT a AS y, y.z, y FROM t", {"a", "y"}),
        ("SELECT f(a), `g h` FROM t AS b", {"a", "g h", "b"}),
        ("SELECT a FROM t WHERE b = @c AND @d", {"a", "b"}),
        ("SELECT EXTRACT(DAY FROM t) FROM t", {"day", "t"}),
        ("SELECT a IS DISTINCT FROM b FROM t JOIN t u", {"a", "b", "t", "u"}),
        ("UPDATE t SET a = (SELECT b FROM c)", {"update", "a", "b", "c"}),
        ("SELECT 'a' /* b */ -- c", set()),
        ("SELECT a FROM t WHERE \x01", {"select", "a", "from", "t", "where"}),
        ("SELECT `a\\x62`", None),
    ],
)
def test_names_alone(sql: str, expected: set[str] | None) -> None:
    assert names_alone(sql, ["t"], before_dots=False) == expected


def test_names_before_dots_are_asked_for() -> None:
    assert names_alone("SELECT b.c FROM t AS b", ["t"], before_dots=True) == {"b"}


def test_too_many_names_to_look_at_are_all_taken_for_dangerous(analyzer: Analyzer) -> None:
    aliases = ", ".join(f"1 AS v{number}" for number in range(120))
    assert complete(analyzer, f"SELECT (SELECT MAX(c.Id + t.Id) FROM C c), {aliases} FROM T t") == {"C"}
