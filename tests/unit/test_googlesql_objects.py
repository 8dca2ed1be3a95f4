"""Statements that name something else than tables: views, sequences, change streams, models, the system's tables."""

# ruff: noqa: E501 - one example, one line
from __future__ import annotations

import pytest

from spangate.adapters.zetasql_engine import WasmEngine
from spangate.model.access import Access
from spangate.sql.ddl import parse_ddl
from spangate.sql.googlesql import Analyzer, UnreadableStatement

SCHEMA = parse_ddl("""
CREATE TABLE T (Id INT64, Name STRING(MAX), Secret STRING(MAX), Words TOKENLIST AS (TOKENIZE_FULLTEXT(Name)) HIDDEN,
  Vector ARRAY<FLOAT32>(vector_length=>3)) PRIMARY KEY (Id);
CREATE TABLE U (Id INT64, N INT64) PRIMARY KEY (Id);
CREATE SCHEMA sales;
CREATE TABLE sales.Items (Id INT64, Price NUMERIC) PRIMARY KEY (Id);
-- On views that come later, on one another, with comments, named schemas and more.
CREATE VIEW OnLater SQL SECURITY INVOKER AS SELECT u.Id FROM U AS u;
CREATE VIEW Invoked SQL SECURITY INVOKER AS SELECT t.Id, /* no; */ t.Name AS Label FROM T AS t WHERE t.Secret = 'x';
CREATE VIEW Defined SQL SECURITY DEFINER AS SELECT t.Id, t.Secret FROM T t;
CREATE OR REPLACE VIEW OnLater SQL SECURITY INVOKER AS SELECT i.Label, COUNT(*) AS n FROM Invoked AS i GROUP BY i.Label;
CREATE VIEW `sales`.`OnBoth` SQL SECURITY INVOKER AS
  SELECT d.Secret, i.Price, o.n FROM Defined d, sales.Items i, OnLater o;
CREATE VIEW DefinedOnInvoked SQL SECURITY DEFINER AS SELECT i.Label FROM Invoked i;
CREATE VIEW Starred SQL SECURITY INVOKER AS SELECT * FROM U;
CREATE VIEW Secured SQL SECURITY DEFINER AS SELECT t.Id FROM T t WHERE t.Name = SECURE_CONTEXT('user');
CREATE VIEW Broken SQL SECURITY INVOKER AS SELECT x.Nothing FROM T x;
CREATE VIEW Written SQL SECURITY INVOKER AS DELETE FROM T WHERE TRUE;
CREATE VIEW Circle SQL SECURITY INVOKER AS SELECT c.a FROM Circle2 c;
CREATE VIEW Circle2 SQL SECURITY INVOKER AS SELECT c.a FROM Circle c;
CREATE VIEW Twice SQL SECURITY INVOKER AS SELECT t.Id, t.Id FROM T t;
CREATE VIEW Dropped SQL SECURITY DEFINER AS SELECT t.Secret FROM T t;
DROP VIEW Dropped;
CREATE SEQUENCE Numbers OPTIONS (sequence_kind = 'bit_reversed_positive');
CREATE SEQUENCE sales.Others OPTIONS (sequence_kind = 'bit_reversed_positive');
CREATE CHANGE STREAM Changes FOR ALL;
CREATE CHANGE STREAM sales.Changes FOR ALL;
CREATE CHANGE STREAM Gone FOR ALL;
DROP CHANGE STREAM Gone;
CREATE MODEL Guess INPUT (Name STRING(MAX) OPTIONS (x = 1), v ARRAY<FLOAT32>) OUTPUT (
  score FLOAT64, parts ARRAY<STRUCT<a INT64, b STRING(MAX)>> OPTIONS (required = FALSE)
) REMOTE OPTIONS (endpoint = '//x');
CREATE MODEL Blind REMOTE OPTIONS (endpoint = '//x');
""")
ITEMS = "read sales.Items(Price)"
INVOKED = "read Invoked; read T(Id, Name, Secret)"

STATEMENTS = [
    # A definer's view is all that is read; an invoker's view is read together with what its query reads.
    ("SELECT Secret FROM Defined", "read Defined"),
    ("SELECT * FROM defined", "read Defined"),
    ("SELECT COUNT(*) FROM Defined", "read Defined"),
    ("SELECT Label FROM Invoked", INVOKED),
    ("SELECT COUNT(*) FROM Invoked", INVOKED),
    ("SELECT * FROM Invoked", INVOKED),
    ("SELECT v.n FROM OnLater v", "read Invoked; read OnLater; read T(Id, Name, Secret)"),
    ("SELECT Price FROM sales.OnBoth", f"read Defined; read Invoked; read OnLater; read T(Id, Name, Secret); {ITEMS}; read sales.OnBoth"),
    ("SELECT Label FROM DefinedOnInvoked", "read DefinedOnInvoked"),
    ("SELECT Id FROM Starred", "read Starred; read U(*, Id, N)"),
    ("SELECT Id FROM Secured", "read Secured"),
    ("SELECT U.N FROM U JOIN Defined USING (Id)", "read Defined; read U(Id, N)"),
    ("WITH Defined AS (SELECT 1 AS x) SELECT x FROM Defined", ""),
    ("INSERT INTO U (Id) SELECT Id FROM Defined", "insert U(Id); read Defined"),
    ("UPDATE U SET N = 1 WHERE Id IN (SELECT Id FROM Defined)", "read Defined; read U(Id); update U(N)"),
    # Sequences.
    ("SELECT GET_NEXT_SEQUENCE_VALUE(SEQUENCE Numbers)", "update Numbers"),
    ("SELECT get_next_sequence_value(sequence numbers)", "update Numbers"),
    ("SELECT GET_INTERNAL_SEQUENCE_STATE(SEQUENCE Numbers)", "read Numbers"),
    ("SELECT GET_NEXT_SEQUENCE_VALUE(SEQUENCE Sales.others)", "update sales.Others"),
    ("INSERT INTO U (Id) VALUES (BIT_REVERSE(GET_NEXT_SEQUENCE_VALUE(SEQUENCE Numbers), TRUE))", "insert U(Id); update Numbers"),
    # Change streams.
    ("SELECT ChangeRecord FROM READ_Changes(start_timestamp => @s, end_timestamp => @e, partition_token => @t, heartbeat_milliseconds => 1000)", "read Changes"),
    ("SELECT * FROM read_changes(NULL, NULL, NULL, 1000, NULL)", "read Changes"),
    ("SELECT m.new_values FROM READ_Changes(NULL, NULL, NULL, 1) r, r.ChangeRecord c, c.data_change_record d, d.mods m", "read Changes"),
    ("SELECT * FROM sales.READ_Changes(NULL, NULL, NULL, 1000)", "read sales.Changes"),
    ("SELECT * FROM READ_Changes((SELECT TIMESTAMP(Name) FROM T), NULL, NULL, 1000)", "read Changes; read T(Name)"),
    # Models: with what they are fed.
    ("SELECT score FROM ML.PREDICT(MODEL Guess, (SELECT Name FROM T))", "execute Guess; read T(Name)"),
    ("SELECT Id, score, parts FROM ml.predict(MODEL guess, (SELECT Id, Name, Secret FROM T))", "execute Guess; read T(Id, Name, Secret)"),
    ("SELECT score FROM ML.PREDICT(MODEL Guess, TABLE U)", "execute Guess; read U(*, Id, N)"),
    ("SELECT score FROM ML.PREDICT(MODEL Guess, TABLE Invoked)", f"execute Guess; {INVOKED}"),
    ("SELECT score FROM ML.PREDICT(MODEL Guess, (SELECT Name FROM T), STRUCT(1 AS top_k))", "execute Guess; read T(Name)"),
    ("SELECT Id FROM ML.PREDICT(MODEL Blind, (SELECT Id, Name FROM T))", "execute Blind; read T(Id, Name)"),
    # What the system shows: one right for each, whatever is read.
    ("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES", "information_schema"),
    ("SELECT * FROM information_schema.`columns` AS c JOIN U ON c.ORDINAL_POSITION = U.Id", "information_schema; read U(*, Id, N)"),
    ("SELECT 1 FROM T WHERE EXISTS (SELECT 1 FROM INFORMATION_SCHEMA.ROLES)", "information_schema; read T"),
    ("SELECT TEXT, AVG_CPU_SECONDS FROM SPANNER_SYS.QUERY_STATS_TOP_MINUTE", "spanner_sys"),
    ("SELECT * FROM SPANNER_SYS.TXN_STATS_TOTAL_10MINUTE, SPANNER_SYS.LOCK_STATS_TOP_HOUR, INFORMATION_SCHEMA.VIEWS", "information_schema; spanner_sys"),
    ("SELECT COUNT(*) FROM INFORMATION_SCHEMA.SCHEMATA", "information_schema"),
    # What clients ask for at start is always allowed; anything beside it is not.
    ("select option_value from information_schema.database_options where option_name='database_dialect'", ""),
    ("SELECT s.OPTION_VALUE FROM INFORMATION_SCHEMA.DATABASE_OPTIONS AS s WHERE s.SCHEMA_NAME = '' AND s.OPTION_NAME = 'database_dialect'", ""),
    ("SELECT OPTION_TYPE FROM INFORMATION_SCHEMA.DATABASE_OPTIONS", "information_schema"),
    ("SELECT * FROM INFORMATION_SCHEMA.DATABASE_OPTIONS", "information_schema"),
    ("SELECT OPTION_VALUE FROM INFORMATION_SCHEMA.DATABASE_OPTIONS, T", "read T"),
    # Functions of Spanner's own.
    ("SELECT SECURE_CONTEXT('user') FROM U", "read U"),
    ("SELECT SEARCH(Words, 'x', dialect => 'rquery'), SCORE_NGRAMS(Words, 'y'), SNIPPET(Secret, 'x') FROM T", "read T(Secret, Words)"),
    ("SELECT SEARCH(TOKENIZE_FULLTEXT(Name, language_tag => 'en'), 'x') FROM T", "read T(Name)"),
    ("SELECT DEBUG_TOKENLIST(TOKENLIST_CONCAT([TOKEN(Name), TOKENIZE_NUMBER(Id, min => 1, max => 5), TOKENIZE_SUBSTRING([Secret])])) FROM T", "read T(Id, Name, Secret)"),
    ("SELECT APPROX_COSINE_DISTANCE(Vector, @v, options => JSON '{\"num_leaves_to_search\": 10}') FROM T", "read T(Vector)"),
]  # fmt: skip

UNREADABLE = [
    # Views that cannot be read, or are gone.
    ("SELECT 1 FROM Broken", "Table not found: Broken"),
    ("SELECT 1 FROM Written", "Table not found: Written"),
    ("SELECT 1 FROM Circle", "Table not found: Circle"),
    ("SELECT 1 FROM Twice", "Table not found: Twice"),
    ("SELECT 1 FROM Dropped", "Table not found: Dropped"),
    ("SELECT Name FROM Invoked", "Unrecognized name: Name"),
    # None of them can be written to.
    ("INSERT INTO Defined (Id) VALUES (1)", "non-writable"),
    ("UPDATE Invoked SET Label = 'x' WHERE TRUE", "not"),
    ("DELETE FROM Defined WHERE TRUE", "not a table"),
    ("DELETE FROM INFORMATION_SCHEMA.TABLES WHERE TRUE", "not a table"),
    ("INSERT INTO SPANNER_SYS.LOCK_STATS_TOTAL_HOUR (INTERVAL_END) VALUES (NULL)", "non-writable"),
    # They are not tables, and each works with its own functions only.
    ("SELECT * FROM Numbers", "Table not found"),
    ("SELECT * FROM Changes", "Table not found"),
    ("SELECT * FROM Guess", "Table not found"),
    ("SELECT GET_NEXT_SEQUENCE_VALUE(SEQUENCE Changes)", "Sequence not found"),
    ("SELECT GET_NEXT_SEQUENCE_VALUE(Numbers)", "Unrecognized name"),
    ("SELECT GET_NEXT_SEQUENCE_VALUE('Numbers')", "No matching signature"),
    ("SELECT BIT_REVERSE(SEQUENCE Numbers, TRUE)", "No matching signature"),
    ("SELECT * FROM READ_Gone(NULL, NULL, NULL, 1)", "not found"),
    ("SELECT * FROM READ_T(NULL, NULL, NULL, 1)", "not found"),
    ("SELECT * FROM READ_Changes(TABLE T)", ""),
    ("SELECT * FROM READ_Changes(MODEL Guess, NULL, NULL, 1)", ""),
    ("SELECT * FROM ML.PREDICT(MODEL Nothing, TABLE T)", "not found"),
    ("SELECT * FROM ML.PREDICT(MODEL T, TABLE T)", "not found"),
    ("SELECT * FROM ML.PREDICT(TABLE T)", ""),
    ("SELECT * FROM ML.PREDICT(MODEL Guess, MODEL Guess)", ""),
    ("SELECT * FROM INFORMATION_SCHEMA.NOTHING", "Table not found"),
    ("SELECT NOTHING FROM INFORMATION_SCHEMA.TABLES", "Unrecognized name"),
    ("SELECT * FROM TABLES", "Table not found"),
    ("CALL cancel_query('1')", "not supported"),
]  # fmt: skip


@pytest.fixture(scope="module")
def analyzer(zetasql_engine: WasmEngine) -> Analyzer:
    return Analyzer(zetasql_engine, SCHEMA)


def line(access: Access) -> str:
    inside = [*(["*"] if access.every else []), *access.columns]
    return f"{access.operation} {access.table}".rstrip() + (f"({', '.join(inside)})" if inside else "")


@pytest.mark.parametrize(("sql", "expected"), STATEMENTS, ids=[sql for sql, _ in STATEMENTS])
def test_a_statement_does_exactly(analyzer: Analyzer, sql: str, expected: str) -> None:
    assert "; ".join(map(line, analyzer.accesses(sql, {}))) == expected


@pytest.mark.parametrize(("sql", "reason"), UNREADABLE, ids=[sql for sql, _ in UNREADABLE])
def test_a_statement_is_unreadable(analyzer: Analyzer, sql: str, reason: str) -> None:
    with pytest.raises(UnreadableStatement) as caught:
        analyzer.accesses(sql, {})
    assert reason in caught.value.message


def test_a_function_of_the_schema_hides_a_table_function(zetasql_engine: WasmEngine) -> None:
    text = "CREATE CHANGE STREAM S FOR ALL; CREATE FUNCTION READ_S() RETURNS INT64 AS (1)"
    with pytest.raises(UnreadableStatement, match="the table function `READ_S` is not supported"):
        Analyzer(zetasql_engine, parse_ddl(text)).accesses("SELECT 1 FROM READ_S(NULL, NULL, NULL, 1)", {})


def test_sequences_of_one_name_in_several_schemas_cannot_be_told_apart(zetasql_engine: WasmEngine) -> None:
    text = "CREATE SCHEMA s; CREATE SEQUENCE s.N; CREATE SEQUENCE N"
    with pytest.raises(UnreadableStatement, match="`N` is the name of several sequences"):
        Analyzer(zetasql_engine, parse_ddl(text)).accesses("SELECT GET_NEXT_SEQUENCE_VALUE(SEQUENCE s.N)", {})
