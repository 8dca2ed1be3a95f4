"""What statements of the PostgreSQL dialect access, rule by rule."""

from __future__ import annotations

import threading
import time

import pytest

from spangate.adapters.analysers import AnalyserPool
from spangate.settings import LIMITS
from spangate.sql.engine import Engine
from spangate.sql.googlesql import UnreadableStatement
from spangate.sql.pg_ddl import parse_pg_ddl
from spangate.sql.pg_expression import PARAMETERS_MAX
from spangate.sql.pg_from import JOINS_MAX
from spangate.sql.pg_scope import DEPTH_MAX
from spangate.sql.pg_statement import TOKENS_MAX, pg_accesses

SCHEMA = parse_pg_ddl("""
    CREATE TABLE t (a bigint PRIMARY KEY, b bigint, c bigint, d text);
    CREATE TABLE u (a bigint PRIMARY KEY, e bigint, f bigint);
    CREATE TABLE g (a bigint PRIMARY KEY, n bigint GENERATED ALWAYS AS (a + 1) STORED,
      h spanner.tokenlist GENERATED ALWAYS AS (spanner.tokenize_number(a)) STORED HIDDEN);
    CREATE TABLE "Mixed" ("Id" bigint PRIMARY KEY, "Group" text);
    CREATE SCHEMA sales;
    CREATE TABLE sales.t (k bigint PRIMARY KEY, v bigint);
    CREATE VIEW own SQL SECURITY INVOKER AS SELECT t.a, t.b AS z FROM t WHERE t.c = 1;
    CREATE VIEW lent SQL SECURITY DEFINER AS SELECT t.a FROM t;
    CREATE VIEW upon SQL SECURITY INVOKER AS SELECT o.z, l.a FROM own o, lent l;
    CREATE VIEW sales.v SQL SECURITY DEFINER AS SELECT x.k FROM sales.t x;
    CREATE SEQUENCE numbers BIT_REVERSED_POSITIVE;
    CREATE SEQUENCE sales.numbers BIT_REVERSED_POSITIVE;
    CREATE CHANGE STREAM changes FOR ALL;
    CREATE FUNCTION lower(x text) RETURNS text;
""")


def found(sql: str) -> list[str]:
    """The accesses, with `!` where a whole table is read: `read t(a)`, `read t(a)!`."""
    return [
        f"{one.operation}{' ' if one.table else ''}{one.table}"
        + (f"({', '.join(one.columns)})" if one.columns else "")
        + ("!" if one.every else "")
        for one in pg_accesses(SCHEMA, sql)
    ]


READABLE = {
    # Columns are read wherever they are named.
    "SELECT 1": [],
    "SELECT COUNT(*) FROM t": ["read t"],
    "SELECT 1 FROM t, u": ["read t", "read u"],
    "SELECT a FROM t WHERE b = 1 ORDER BY c": ["read t(a, b, c)"],
    "SELECT MAX(a) FILTER (WHERE b > 1) FROM t GROUP BY c HAVING MIN(d) > ''": ["read t(a, b, c, d)"],
    "SELECT SUM(a) OVER w FROM t WINDOW w AS (PARTITION BY b ORDER BY c)": ["read t(a, b, c)"],
    "SELECT DISTINCT ON (b) a FROM t": ["read t(a, b)"],
    "SELECT a FROM t LIMIT (SELECT MAX(e) FROM u)": ["read t(a)", "read u(e)"],
    "SELECT 1 FROM t GROUP BY ROLLUP (a, b)": ["read t(a, b)"],
    "SELECT a FROM t GROUP BY GROUPING SETS ((a), (a, b), ())": ["read t(a, b)"],
    "SELECT CASE b WHEN 1 THEN c ELSE a END, COALESCE(d, $1) FROM t": ["read t(a, b, c, d)"],
    "SELECT a FROM t WHERE b BETWEEN 1 AND c AND d LIKE 'x' AND (a, b) IN ((1, 2))": ["read t(a, b, c, d)"],
    "SELECT t.a FROM t WHERE t.a = ANY($1::bigint[]) FOR UPDATE": ["read t(a)"],
    "SELECT a FROM t FOR UPDATE OF t": ["read t(a)"],
    "/*@ force_index=x */ SELECT a /* b */ FROM t -- c": ["read t(a)"],
    "TABLE u": ["read u(a, e, f)!"],
    "VALUES (1), ((SELECT a FROM t))": ["read t(a)"],
    # Stars, whole rows, and what else depends on all columns.
    "SELECT * FROM t": ["read t(a, b, c, d)!"],
    "SELECT u.* FROM t, u": ["read t", "read u(a, e, f)!"],
    "SELECT t FROM t": ["read t(a, b, c, d)!"],
    "SELECT COUNT(x) FROM u AS x": ["read u(a, e, f)!"],
    "SELECT row_to_json(x.*) FROM u AS x": ["read u(a, e, f)!"],
    "SELECT * FROM g": ["read g(a, n)!"],
    "SELECT h FROM g": ["read g(h)"],
    "SELECT 1 FROM t NATURAL JOIN u": ["read t(a)!", "read u(a)!"],
    "SELECT p FROM t AS x(p)": ["read t(a)!"],
    "SELECT x.q FROM (t JOIN u ON t.a = u.a) AS x(p, q)": ["read t(a, b)!", "read u(a)!"],
    "SELECT x.* FROM (t JOIN u USING (a)) AS x": ["read t(a, b, c, d)!", "read u(a, e, f)!"],
    "SELECT j FROM (SELECT a FROM t) j": ["read t(a)"],
    # Joins and scopes.
    "SELECT a, e FROM t JOIN u USING (a)": ["read t(a)", "read u(a, e)"],
    "SELECT t.b FROM t LEFT JOIN u ON t.c = u.e": ["read t(b, c)", "read u(e)"],
    "SELECT x.a FROM t x JOIN (t y JOIN u z ON y.b = z.e) ON x.c = y.d": ["read t(a, b, c, d)", "read u(e)"],
    "SELECT w.b FROM t, LATERAL (SELECT t.b) w": ["read t(b)"],
    "SELECT (SELECT t.b FROM u WHERE u.a = t.a) FROM t": ["read t(a, b)", "read u(a)"],
    "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE e = t.b)": ["read t(a, b)", "read u(e)"],
    # A name that is looked up in `u` first reads all that `u` may have by then.
    "SELECT (SELECT b FROM u) FROM t": ["read t(b)", "read u!"],
    "SELECT a + 1 AS x FROM t GROUP BY x": ["read t(a)!"],
    "SELECT a + 1 AS x FROM t GROUP BY 1 ORDER BY x": ["read t(a)"],
    "SELECT a AS b FROM t ORDER BY b": ["read t(a)"],
    "SELECT a AS b FROM t GROUP BY b, a": ["read t(a, b)"],
    "SELECT public.t.a FROM t": ["read t(a)"],
    "SELECT k, t.v FROM sales.t": ["read sales.t(k, v)"],
    'SELECT "Id" FROM "Mixed" WHERE "Group" = $1': ["read Mixed(Group, Id)"],
    'SELECT A, "b" FROM T': ["read t(a, b)"],
    "SELECT x FROM unnest(ARRAY[1, 2]) AS x": [],
    "SELECT o, y FROM unnest($1) WITH ORDINALITY AS x(y, o)": [],
    "SELECT value FROM t, jsonb_array_elements(t.d::jsonb)": ["read t(d)"],
    # Common table expressions.
    "WITH q AS (SELECT a FROM t) SELECT 1": ["read t(a)"],
    "WITH t AS (SELECT e AS a FROM u) SELECT a FROM t": ["read u(e)"],
    "WITH t AS (SELECT a FROM t) SELECT a FROM t": ["read t(a)"],
    "WITH t AS (SELECT 1 AS x) SELECT b FROM public.t": ["read t(b)"],
    "WITH q(x) AS (SELECT a, b FROM t), r AS (SELECT x, b FROM q) SELECT x FROM r": ["read t(a, b)"],
    "WITH t AS (SELECT 1 AS a) SELECT (WITH u AS (SELECT a FROM t) SELECT a FROM u)": [],
    # Set operations.
    "SELECT a FROM t UNION ALL SELECT e FROM u ORDER BY a": ["read t(a)", "read u(e)"],
    "(SELECT a FROM t ORDER BY b LIMIT 1) EXCEPT SELECT f FROM u": ["read t(a, b)", "read u(f)"],
    # Schemas of the system.
    "select option_value from information_schema.database_options where option_name='database_dialect'": [],
    "SELECT table_name FROM information_schema.tables": ["information_schema"],
    "SELECT relname FROM pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace": ["information_schema"],
    "SELECT 't'::regclass, format_type(1, 2)": ["information_schema"],
    "SELECT x.a, y.table_name FROM t x, information_schema.tables y": ["information_schema", "read t(a)"],
    "SELECT a, table_name FROM t, information_schema.tables": ["information_schema", "read t(a)!"],
    "SELECT (SELECT b FROM information_schema.tables) FROM t": ["information_schema", "read t(b)"],
    "SELECT text FROM spanner_sys.query_stats_top_minute": ["spanner_sys"],
    # Views, sequences, change streams.
    "SELECT z FROM own": ["read own", "read t(a, b, c)"],
    "SELECT a FROM lent": ["read lent"],
    "SELECT z FROM upon": ["read lent", "read own", "read t(a, b, c)", "read upon"],
    "SELECT k FROM sales.v": ["read sales.v"],
    "SELECT nextval('numbers')": ["update numbers"],
    "INSERT INTO t (a) VALUES (nextval('sales.numbers'::regclass))": ["insert t(a)", "update sales.numbers"],
    "SELECT spanner.get_internal_sequence_state('numbers')": ["read numbers"],
    "SELECT * FROM spanner.read_json_changes($1, NULL, NULL, 1000, NULL)": ["read changes"],
    # Data manipulation.
    "INSERT INTO t (a, b) VALUES (1, DEFAULT)": ["insert t(a, b)"],
    "INSERT INTO g VALUES (1)": ["insert g(a)!"],
    "INSERT INTO t DEFAULT VALUES": ["insert t"],
    "INSERT INTO t (a) SELECT e FROM u WHERE f = 1 RETURNING b": ["insert t(a)", "read t(b)", "read u(e, f)"],
    "INSERT INTO u (a) VALUES (1) RETURNING *": ["insert u(a)", "read u(a, e, f)!"],
    "INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING": ["insert t(a)"],
    "INSERT INTO t (a) VALUES (1) ON CONFLICT (b) DO NOTHING": ["insert t(a)", "read t(b)"],
    "INSERT INTO t AS x (a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET b = x.c + excluded.d WHERE x.d = ''": [
        "insert t(a, b)",
        "read t(a, c, d)",
        "update t(b)",
    ],
    "INSERT INTO t (a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET a = excluded.a, b = excluded.b": [
        "insert t(a, b)",
        "read t(a)",
        "update t(b)",
    ],
    "INSERT INTO t (a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET a = excluded.b": [
        "insert t(a, b)",
        "read t(a)",
        "update t(a)",
    ],
    "UPDATE t SET b = 1": ["update t(b)"],
    "UPDATE t SET b = DEFAULT, c = c + 1 WHERE a = 1 RETURNING d": ["read t(a, c, d)", "update t(b, c)"],
    "UPDATE t AS x SET (b, c) = (SELECT e, f FROM u WHERE u.a = x.a)": [
        "read t(a)",
        "read u(a, e, f)",
        "update t(b, c)",
    ],
    "UPDATE t SET b = u.e FROM u WHERE u.a = t.a": ["read t(a)", "read u(a, e)", "update t(b)"],
    "DELETE FROM t": ["delete t"],
    "DELETE FROM t USING u WHERE t.a = u.a RETURNING t.b": ["delete t", "read t(a, b)", "read u(a)"],
    "WITH q AS (SELECT e FROM u) DELETE FROM t WHERE a IN (SELECT e FROM q)": ["delete t", "read t(a)", "read u(e)"],
}


@pytest.mark.parametrize("sql", READABLE)
def test_a_statement_has_these_accesses(sql: str) -> None:
    assert found(sql) == READABLE[sql]


LONG = "x" * 64
UNREADABLE = {
    "": "expected one statement, found none",
    "SELECT 1; SELECT 2": "expected one statement, found 2",
    "SELECT FROM WHERE": "syntax error",
    "SELECT 'x": r"unterminated quoted string .* \[at 1:8\]",
    "SELECT 1\0; DELETE FROM t": "the character NUL",
    "SELECT '\ud800'": "not valid Unicode",
    f"SELECT {LONG} FROM t": f"the name `{LONG}` is longer than 63 bytes",
    f'SELECT "{LONG}" FROM t': "longer than 63 bytes",
    'SELECT U&"\\0061" FROM t': "Unicode escapes",
    "SELECT é FROM t": "`é` is not ASCII",
    "SELECT\n  x FROM t": r"no column `x` \[at 2:3\]",
    "SELECT 'é', x FROM t": r"no column `x` \[at 1:13\]",
    "SELECT x.a FROM t": "no table or alias `x`",
    "SELECT t.a FROM t AS x": "no table or alias `t`",
    "SELECT t.x FROM t": r"no column `t\.x`",
    "SELECT a FROM t, u": "`a` is ambiguous",
    "SELECT q.x FROM (SELECT a AS x, b AS x FROM t) q": r"`q\.x` is ambiguous",
    "SELECT 1 FROM t, u AS t": "more than one relation",
    "SELECT a FROM nothing": "no table `nothing`",
    'SELECT a FROM "T"': "no table `T`",
    "SELECT id FROM Mixed": "no table `mixed`",
    "SELECT a FROM sales.u": r"no table `sales\.u`",
    "SELECT a FROM x.public.t": "`catalogname` of a table",
    "SELECT z.x.y.a FROM t": "too many parts",
    "SELECT *": r"`\*` without FROM",
    "SELECT c FROM (SELECT count(*) FROM t) q": "no column `c`",
    "SELECT * FROM t, (SELECT t.b) q": "no table or alias `t`",
    "SELECT 1 FROM t JOIN u USING (b)": "`b` is not one column on each side",
    "SELECT 1 FROM t JOIN u USING (a) AS j": "`join_using_alias`",
    "SELECT 1 FROM t NATURAL JOIN information_schema.tables": "NATURAL JOIN",
    "SELECT 1 FROM t AS x(a, b, c, d, e)": "fewer columns",
    "SELECT (t).a FROM t": "taking a field out of a row",
    "SELECT a FROM t UNION SELECT e FROM u ORDER BY e": "only for the result's own columns",
    "SELECT * FROM t TABLESAMPLE BERNOULLI (10)": "`RangeTableSample`",
    "SELECT * FROM ROWS FROM (unnest($1), unnest($2)) AS x": "`is_rowsfrom`",
    "SELECT * FROM json_to_record($1) AS x(a int)": "`coldeflist`",
    "SELECT * FROM abs(1)": "`abs` is not supported in FROM",
    "SELECT * FROM JSON_TABLE('{}', '$' COLUMNS (a int))": "`JsonTable`",
    "WITH RECURSIVE q AS (SELECT 1) SELECT 1": "WITH RECURSIVE",
    "WITH q AS (DELETE FROM t RETURNING a) SELECT a FROM q": "`DeleteStmt`",
    "WITH q AS (SELECT 1), q AS (SELECT 2) SELECT 1": "twice",
    "WITH q(a, b) AS (SELECT 1) SELECT 1": "fewer columns",
    "WITH t AS (SELECT 1 AS a) DELETE FROM t": "a common table expression",
    "SELECT a INTO x FROM t": "`intoClause`",
    "SELECT pg_sleep(1)": "the function `pg_sleep`",
    "SELECT query_to_xml('SELECT * FROM t', true, true, '')": "`query_to_xml`",
    "SELECT pg_catalog.lo_get(1)": "`lo_get`",
    "SELECT spanner.ml_predict_row($1, $2)": "`spanner.ml_predict_row`",
    "SELECT public.abs(1)": r"`public\.abs`",
    "SELECT lower('X')": "`lower`",
    "SELECT current_setting('x')": "`current_setting`",
    "SELECT currval('numbers')": "`currval`",
    "SELECT nextval(d) FROM t": "written as a text",
    "SELECT nextval('nothing')": "no sequence `nothing`",
    "SELECT nextval('own')": "no sequence `own`",
    "SELECT * FROM spanner.read_json_nothing($1)": "`spanner.read_json_nothing`",
    "SELECT a::t FROM t": "the type `t`",
    "SELECT a::xml FROM t": "the type `xml`",
    "SELECT 1 OPERATOR(public.+) 2": r"the operator `public\.\+`",
    "INSERT INTO own (a) VALUES (1)": "no table `own`",
    "INSERT INTO t (x) VALUES (1)": "no column `x`",
    "INSERT INTO t (b[1]) VALUES (1)": "part of a column",
    "INSERT INTO t (a) VALUES (1) ON CONFLICT ON CONSTRAINT x DO NOTHING": "`conname`",
    "INSERT INTO t (a) VALUES (1) ON CONFLICT (abs(a)) DO NOTHING": "`expr`",
    "INSERT INTO t (a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET b = c": "`c` is ambiguous",
    "INSERT INTO t (a) VALUES (1) RETURNING old.a": "no table or alias `old`",
    "INSERT INTO t (a) VALUES (1) RETURNING WITH (OLD AS o) o.a": "`options` of RETURNING",
    "UPDATE t SET x = 1": "no column `x`",
    "UPDATE t SET t.b = 1": "part of a column",
    "UPDATE t SET b = 1 FROM t": "more than one relation",
    "UPDATE t SET b = 1 WHERE CURRENT OF x": "`CurrentOfExpr`",
    "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE": "`Merge` is not supported",
    "CREATE TABLE x (a int)": "is not supported",
    "GRANT SELECT ON t TO x": "is not supported",
    "EXPLAIN SELECT 1": "`Explain`",
    "BEGIN": "`Transaction`",
    "SET search_path TO sales": "`VariableSet`",
    "COPY t TO STDOUT": "`Copy`",
    "CALL x()": "`Call`",
    "DO 'x'": "`Do`",
    "PREPARE p AS SELECT 1": "`Prepare`",
    "TRUNCATE t": "`Truncate`",
    "LOCK t": "`Lock`",
}


@pytest.mark.parametrize("sql", UNREADABLE)
def test_a_statement_is_unreadable_and_says_why(sql: str) -> None:
    with pytest.raises(UnreadableStatement, match=UNREADABLE[sql]):
        pg_accesses(SCHEMA, sql)


BOUNDS = {
    "parentheses": ("SELECT " + "(" * 4_000 + "a" + ")" * 4_000 + " FROM t", ["read t(a)"]),
    "a sum": ("SELECT a" + " + 1" * 5_000 + " FROM t", ["read t(a)"]),
    "texts": ("SELECT d" + " || d" * 5_000 + " FROM t", ["read t(d)"]),
    "a condition": ("SELECT a FROM t WHERE " + "b = 1 OR " * 5_000 + "c = 2", ["read t(a, b, c)"]),
    "a union": ("SELECT a FROM t" + " UNION SELECT e FROM u" * 3_000, ["read t(a)", "read u(e)"]),
    "calls": ("SELECT " + "abs(" * 2_000 + "a" + ")" * 2_000 + " FROM t", ["read t(a)"]),
    "casts": ("SELECT a" + "::bigint" * 5_000 + " FROM t", ["read t(a)"]),
    "a list": ("SELECT a FROM t WHERE b IN (" + "1," * 20_000 + "2)", ["read t(a, b)"]),
    "queries": ("SELECT " + "(SELECT " * (DEPTH_MAX - 1) + "1" + ")" * (DEPTH_MAX - 1), []),
    "joins": (
        "SELECT 1 FROM t x0" + "".join(f" JOIN u x{n} ON true" for n in range(1, JOINS_MAX)),
        ["read t", "read u"],
    ),
    "parameters": (f"SELECT {', '.join(f'${n}' for n in range(1, PARAMETERS_MAX + 1))}", []),
}
BEYOND = {
    "length": "SELECT " + "1" * LIMITS.statement_characters_max,
    "parentheses": "SELECT " + "(" * 100_000 + "1" + ")" * 100_000,
    "a sum": "SELECT 1" + "+1" * 90_000,
    "casts": "SELECT 1" + "::int" * 90_000,
    "tests": "SELECT a" + " IS NULL" * 90_000 + " FROM t",
    "calls": "SELECT " + "abs(" * 20_000 + "1" + ")" * 20_000,
    "queries": "SELECT " + "(SELECT " * DEPTH_MAX + "1" + ")" * DEPTH_MAX,
    "subqueries": "SELECT * FROM " + "(SELECT * FROM " * 1_000 + "t" + ") x" * 1_000,
    "joins": "SELECT 1 FROM t x0" + "".join(f" JOIN u x{n} ON true" for n in range(1, JOINS_MAX + 2)),
    "joins in joins": "SELECT 1 FROM " + "t JOIN (" * 1_000 + "u" + ") ON true" * 1_000,
    "relations": "SELECT 1 FROM " + ", ".join(f"t x{n}" for n in range(3 * JOINS_MAX)),
    "parameters": f"SELECT {', '.join(f'${n}' for n in range(1, PARAMETERS_MAX + 2))}",
}


@pytest.mark.parametrize("what", BOUNDS)
def test_large_statements_are_read(what: str) -> None:
    sql, accesses = BOUNDS[what]
    assert found(sql) == accesses


@pytest.mark.parametrize("what", BEYOND)
def test_statements_beyond_the_bounds_are_refused(what: str) -> None:
    with pytest.raises(UnreadableStatement):
        pg_accesses(SCHEMA, BEYOND[what])


def test_deep_statements_break_no_thread_however_small_its_stack() -> None:
    refused: list[str] = []

    def run() -> None:
        for what in ("a sum", "casts", "tests", "calls"):
            try:
                pg_accesses(SCHEMA, BEYOND[what])
            except UnreadableStatement as error:
                refused.append(error.message)

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert refused == ["the statement is nested too deeply"] * 4


def test_a_view_that_builds_on_itself_is_unreadable() -> None:
    schema = parse_pg_ddl("""
        CREATE VIEW v SQL SECURITY INVOKER AS SELECT 1 AS x;
        CREATE VIEW w SQL SECURITY INVOKER AS SELECT x FROM v;
        CREATE OR REPLACE VIEW v SQL SECURITY DEFINER AS SELECT x FROM w;
    """)
    with pytest.raises(UnreadableStatement, match="inside one another"):
        pg_accesses(schema, "SELECT x FROM v")


def test_the_pool_reads_each_statement_in_the_dialect_of_its_schema() -> None:
    class NoEngine:
        def call(self, method: str, request: bytes) -> bytes:
            raise AssertionError

    def engine() -> Engine:
        return NoEngine()

    pool = AnalyserPool(engine)
    pool.warm(SCHEMA)
    assert [str(one) for one in pool.accesses(SCHEMA, "SELECT a FROM t LIMIT $1", {})] == ["read t(a)"]
    with pytest.raises(UnreadableStatement):
        pool.accesses(SCHEMA, "SELECT `a` FROM t", {})


@pytest.mark.parametrize(
    "sql",
    [
        "/*" * 500_000,
        "/**/" * 250_000,
        "+" * 1_000_000,
        "-+" * 500_000,
        "SELECT 1 " + "<" * 60 + "+" * 900_000,
        "SELECT " + ", ".join(f'"é{number}"' for number in range(90_000)),
        "SELECT " + ", ".join(["*"] * 100_000) + " FROM " + ", ".join(f"t x{number}" for number in range(90)),
        "SELECT " + ", ".join(f"a AS z{number}" for number in range(20_000)) + " FROM t ORDER BY z1",
        "WITH " + ", ".join(f"q{number} AS (SELECT 1)" for number in range(20_000)) + " SELECT 1",
        "WITH q0 AS (SELECT 1 AS a), "
        + ", ".join(f"q{number} AS (SELECT *, * FROM q{number - 1})" for number in range(1, 26))
        + " SELECT * FROM q25",
        "TABLE t" + " UNION TABLE t" * 30_000,
        "SELECT 1 WHERE 1 IN (" + "1," * 499_000 + "1)",
    ],
    ids=lambda sql: sql[:20],
)
def test_what_would_take_minutes_is_refused_in_seconds(sql: str) -> None:
    schema = parse_pg_ddl("CREATE TABLE t (a bigint PRIMARY KEY, b bigint)")
    began = time.process_time()
    with pytest.raises(UnreadableStatement):
        pg_accesses(schema, sql)
    # Most take a tenth of a second; the bound is for slow machines.
    assert time.process_time() - began < 5


def test_a_statement_has_a_bound_of_tokens_and_says_so() -> None:
    # `SELECT 1 IN ( 1 )` and, for each value more, a comma and the value.
    pairs = (TOKENS_MAX - 6) // 2
    assert found("SELECT 1 IN (1" + ",1" * pairs + ")") == []
    with pytest.raises(UnreadableStatement, match=f"^the statement has more than {TOKENS_MAX} words, values"):
        pg_accesses(SCHEMA, "SELECT 1 IN (1" + ",1" * (pairs + 1) + ")")
    with pytest.raises(UnreadableStatement, match="too large for one that is nested so deeply"):
        pg_accesses(SCHEMA, "TABLE t" + " UNION TABLE t" * 15_000)


def test_long_texts_are_no_reason_to_refuse() -> None:
    assert found("SELECT a FROM t WHERE d = '" + "a + " * 240_000 + "'") == ["read t(a, d)"]


def test_rows_of_signs_in_comments_and_texts_are_read() -> None:
    schema = parse_pg_ddl("CREATE TABLE t (a bigint PRIMARY KEY, b bigint)")
    line = "-" * 2_000
    sql = f"/*{'*' * 2_000}*/ SELECT a, '{line}' FROM t {line}\n WHERE b = 'é'"
    assert [str(access) for access in pg_accesses(schema, sql)] == ["read t(a, b)"]
