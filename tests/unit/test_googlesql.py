"""What statements do, by example: every clause that can read or write, and everything that has to be refused."""

# ruff: noqa: E501 - one example, one line
from __future__ import annotations

from collections.abc import Mapping

import pytest
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.proto import options_pb2

from spangate.adapters.zetasql_engine import WasmEngine
from spangate.model.access import Access
from spangate.model.schema import Schema
from spangate.model.sqltype import SqlType
from spangate.sql import ddl
from spangate.sql.catalog import language_options
from spangate.sql.ddl import parse_ddl
from spangate.sql.engine import EngineCrashed
from spangate.sql.googlesql import Analyzer, UnreadableStatement

SCHEMA = parse_ddl("""
CREATE TABLE Customers (
  CustomerId INT64 NOT NULL,
  Name STRING(MAX),
  Region STRING(20),
  Secret STRING(MAX),
  Tags ARRAY<STRING(MAX)>,
  Doc JSON,
  Words TOKENLIST AS (TOKENIZE_FULLTEXT(Name)) HIDDEN,
  Length INT64 AS (LENGTH(Name)) STORED,
) PRIMARY KEY (CustomerId);
CREATE TABLE Orders (
  CustomerId INT64 NOT NULL,
  OrderId INT64 NOT NULL,
  Total NUMERIC,
  Status STRING(MAX) DEFAULT ('new'),
  Created TIMESTAMP OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (CustomerId, OrderId), INTERLEAVE IN PARENT Customers ON DELETE CASCADE;
CREATE TABLE Types (
  Id STRING(36) DEFAULT (GENERATE_UUID()),
  F32 FLOAT32, F64 FLOAT64, U UUID, D DATE, B BYTES(16), Ok BOOL, I INTERVAL,
  Vector ARRAY<FLOAT32>(vector_length=>3),
  Message shop.Message,
) PRIMARY KEY (Id);
CREATE SCHEMA sales;
CREATE TABLE sales.Items (Id INT64, Price FLOAT64) PRIMARY KEY (Id);
CREATE INDEX OrdersByStatus ON Orders (Status);
CREATE VIEW Regions SQL SECURITY DEFINER AS SELECT c.Region FROM Customers c;
CREATE CHANGE STREAM Changes FOR ALL;
CREATE SEQUENCE Numbers OPTIONS (sequence_kind = 'bit_reversed_positive');
CREATE FUNCTION SIGN(x INT64) RETURNS INT64 AS (x);
""")
ALL = "*, CustomerId, Doc, Length, Name, Region, Secret, Tags"
ALL_ORDERS = "*, Created, CustomerId, OrderId, Status, Total"

QUERIES = [
    # The select list.
    ("SELECT 1", ""),
    ("SELECT Name FROM Customers", "read Customers(Name)"),
    ("SELECT name, NAME, `Name` FROM customers", "read Customers(Name)"),
    ("SELECT * FROM Customers", f"read Customers({ALL})"),
    ("SELECT Words FROM Customers", "read Customers(Words)"),
    ("SELECT c.* EXCEPT (Secret, Doc) FROM Customers c", "read Customers(*, CustomerId, Length, Name, Region, Tags)"),
    ("SELECT * REPLACE ('x' AS Secret) FROM Customers", "read Customers(*, CustomerId, Doc, Length, Name, Region, Tags)"),
    ("SELECT 1 FROM Customers", "read Customers"),
    ("SELECT COUNT(*) FROM Customers", "read Customers"),
    ("SELECT COUNT(Secret) FROM Customers", "read Customers(Secret)"),
    ("SELECT IF(TRUE, Name, Secret) FROM Customers", "read Customers(Name, Secret)"),
    ("SELECT CASE WHEN TRUE THEN 'a' ELSE Secret END FROM Customers", "read Customers(Secret)"),
    ("SELECT [Name, Secret][OFFSET(0)] FROM Customers", "read Customers(Name, Secret)"),
    ("SELECT STRUCT(Name AS a, Secret AS b).a FROM Customers", "read Customers(Name, Secret)"),
    ("SELECT Doc.a.b FROM Customers", "read Customers(Doc)"),
    ("SELECT JSON_VALUE(Doc, '$.a') FROM Customers", "read Customers(Doc)"),
    ("SELECT ANY_VALUE(Name HAVING MAX Secret) FROM Customers", "read Customers(Name, Secret)"),
    ("SELECT ARRAY_AGG(Name ORDER BY Secret LIMIT 1) FROM Customers", "read Customers(Name, Secret)"),
    ("SELECT ARRAY_TRANSFORM(Tags, t -> CONCAT(t, Secret)) FROM Customers", "read Customers(Secret, Tags)"),
    # A row as a value is all its columns.
    ("SELECT t FROM Customers t", f"read Customers({ALL})"),
    ("SELECT AS STRUCT * FROM Customers", f"read Customers({ALL})"),
    ("SELECT AS STRUCT Name FROM Customers", "read Customers(Name)"),
    ("SELECT AS VALUE Name FROM Customers", "read Customers(Name)"),
    ("SELECT TO_JSON(t) FROM Customers t", f"read Customers({ALL})"),
    ("SELECT FORMAT('%t', t) FROM Customers t", f"read Customers({ALL})"),
    ("SELECT t IS NULL FROM Customers t", f"read Customers({ALL})"),
    ("SELECT COUNT(t) FROM Customers t", f"read Customers({ALL})"),
    ("SELECT ARRAY_AGG(t) FROM Customers t", f"read Customers({ALL})"),
    # Everything that is not in the select list.
    ("SELECT Name FROM Customers WHERE Secret = 'x'", "read Customers(Name, Secret)"),
    ("SELECT Name FROM Customers WHERE FALSE AND Secret = 'x'", "read Customers(Name, Secret)"),
    ("SELECT Name FROM Customers ORDER BY Secret", "read Customers(Name, Secret)"),
    ("SELECT Name AS Secret FROM Customers ORDER BY Secret", "read Customers(Name)"),
    ("SELECT Name FROM Customers GROUP BY Name, Secret", "read Customers(Name, Secret)"),
    ("SELECT Region FROM Customers GROUP BY ALL", "read Customers(Region)"),
    ("SELECT Name FROM Customers GROUP BY Name HAVING MAX(Secret) > 'a'", "read Customers(Name, Secret)"),
    ("SELECT COUNT(*) FROM Customers HAVING MAX(Secret) > 'a'", "read Customers(Secret)"),
    ("SELECT Name FROM Customers LIMIT @n OFFSET 1", "read Customers(Name)"),
    ("SELECT Name FROM Customers TABLESAMPLE RESERVOIR (10 ROWS)", "read Customers(Name)"),
    ("SELECT Name FROM Customers FOR UPDATE", "read Customers(Name)"),
    ("SELECT ROW_NUMBER() OVER (PARTITION BY Region ORDER BY Secret) FROM Customers", "read Customers(Region, Secret)"),
    ("SELECT SUM(Total) OVER w FROM Orders WINDOW w AS (ORDER BY Created)", "read Orders(Created, Total)"),
    # Hints change how, not what.
    ("SELECT Name FROM Customers@{FORCE_INDEX=OrdersByStatus}", "read Customers(Name)"),
    ("@{OPTIMIZER_VERSION=7} SELECT Name FROM Customers", "read Customers(Name)"),
    (
        "SELECT Name FROM Customers JOIN@{JOIN_METHOD=HASH_JOIN} Orders USING (CustomerId)",
        "read Customers(CustomerId, Name); read Orders(CustomerId)",
    ),
    # Joins.
    ("SELECT Name FROM Customers JOIN Orders USING (CustomerId)", "read Customers(CustomerId, Name); read Orders(CustomerId)"),
    ("SELECT 1 FROM Customers LEFT JOIN Orders ON Secret = Status", "read Customers(Secret); read Orders(Status)"),
    ("SELECT 1 FROM Customers CROSS JOIN Orders", "read Customers; read Orders"),
    ("SELECT 1 FROM Customers c, Orders o WHERE c.Secret = o.Status", "read Customers(Secret); read Orders(Status)"),
    ("SELECT * FROM Customers JOIN Orders USING (CustomerId)", f"read Customers({ALL}); read Orders({ALL_ORDERS})"),
    ("SELECT a.Name FROM Customers a JOIN Customers b ON a.Name = b.Secret", "read Customers(Name, Secret)"),
    ("SELECT tag FROM Customers, UNNEST(Tags) AS tag", "read Customers(Tags)"),
    ("SELECT tag FROM Customers c, c.Tags AS tag WITH OFFSET o ORDER BY o", "read Customers(Tags)"),
    # Subqueries. A column that is named counts as read, also where its value does not matter.
    ("SELECT EXISTS (SELECT Secret FROM Customers)", "read Customers(Secret)"),
    ("SELECT EXISTS (SELECT 1 FROM Customers)", "read Customers"),
    ("SELECT Name FROM Customers WHERE Region IN (SELECT Status FROM Orders)", "read Customers(Name, Region); read Orders(Status)"),
    ("SELECT Name FROM Customers WHERE Name IN UNNEST(@names)", "read Customers(Name)"),
    (
        "SELECT (SELECT COUNT(*) FROM Orders o WHERE o.CustomerId = c.CustomerId) FROM Customers c",
        "read Customers(CustomerId); read Orders(CustomerId)",
    ),
    ("SELECT ARRAY(SELECT Secret FROM Customers)", "read Customers(Secret)"),
    ("SELECT ARRAY(SELECT AS STRUCT * FROM Customers)", f"read Customers({ALL})"),
    ("SELECT ARRAY(SELECT t FROM UNNEST(c.Tags) t WHERE t = c.Secret) FROM Customers c", "read Customers(Secret, Tags)"),
    ("SELECT Name FROM Customers ORDER BY (SELECT MAX(Status) FROM Orders)", "read Customers(Name); read Orders(Status)"),
    ("SELECT Name FROM (SELECT Name, Secret FROM Customers)", "read Customers(Name, Secret)"),
    ("SELECT Name FROM (SELECT * FROM Customers)", f"read Customers({ALL})"),
    ("SELECT COUNT(*) FROM (SELECT DISTINCT Secret FROM Customers)", "read Customers(Secret)"),
    ("SELECT Name FROM Customers, (SELECT Secret FROM Customers LIMIT 1)", "read Customers(Name, Secret)"),
    # Common table expressions, aliases and the names they hide.
    ("WITH x AS (SELECT Name, Secret FROM Customers) SELECT Name FROM x", "read Customers(Name, Secret)"),
    ("WITH x AS (SELECT Secret FROM Customers) SELECT 1", "read Customers(Secret)"),
    ("WITH Customers AS (SELECT 1 AS Name) SELECT Name FROM Customers", ""),
    ("SELECT (WITH Orders AS (SELECT 1 AS x) SELECT x FROM Orders), Status FROM Orders", "read Orders(Status)"),
    ("SELECT Orders.Name FROM Customers AS Orders", "read Customers(Name)"),
    # Set operations.
    ("(SELECT Name FROM Customers) UNION ALL (SELECT Secret FROM Customers)", "read Customers(Name, Secret)"),
    ("SELECT COUNT(*) FROM (SELECT Name FROM Customers EXCEPT DISTINCT SELECT Status FROM Orders)", "read Customers(Name); read Orders(Status)"),
    ("SELECT 1 FROM (SELECT Name FROM Customers INTERSECT DISTINCT SELECT Secret FROM Customers)", "read Customers(Name, Secret)"),
    # Pipes.
    ("FROM Customers |> WHERE Secret = 'x' |> SELECT Name |> AGGREGATE COUNT(*)", "read Customers(Name, Secret)"),
    ("FROM Customers |> AGGREGATE COUNT(*)", "read Customers"),
    ("FROM Customers |> DROP Secret", "read Customers(*, CustomerId, Doc, Length, Name, Region, Tags)"),
    ("FROM Customers |> SET Name = Secret |> SELECT Name", "read Customers(Secret)"),
    ("FROM Customers |> JOIN Orders USING (CustomerId) |> SELECT Status", "read Customers(CustomerId); read Orders(CustomerId, Status)"),
    # Named schemas, types, Spanner's own functions.
    ("SELECT Price FROM sales.Items", "read sales.Items(Price)"),
    ("SELECT `Items`.Price FROM `SALES`.`items`", "read sales.Items(Price)"),
    ("SELECT F32 + F64, U, D, B, Ok, I, Vector[OFFSET(0)], Message FROM Types", "read Types(B, D, F32, F64, I, Message, Ok, U, Vector)"),
    ("SELECT BIT_REVERSE(OrderId, TRUE), PENDING_COMMIT_TIMESTAMP() FROM Orders", "read Orders(OrderId)"),
    ("SELECT CustomerId FROM Customers WHERE SEARCH(Words, 'x') ORDER BY SCORE(Words, 'x', enhance_query => TRUE)", "read Customers(CustomerId, Words)"),
    ("SELECT COSINE_DISTANCE(Vector, @v) FROM Types", "read Types(Vector)"),
    ("SELECT Name -- Secret\nFROM /* Orders */ Customers # Region\n;", "read Customers(Name)"),
]  # fmt: skip

CHANGES = [
    ("INSERT INTO Orders (CustomerId, OrderId) VALUES (1, 2)", "insert Orders(CustomerId, OrderId)"),
    ("INSERT Orders (CustomerId, OrderId, Status) VALUES (1, 2, DEFAULT)", "insert Orders(CustomerId, OrderId, Status)"),
    ("INSERT INTO Orders (CustomerId, OrderId, Status) VALUES (1, 2, (SELECT MAX(Secret) FROM Customers))", "insert Orders(CustomerId, OrderId, Status); read Customers(Secret)"),
    ("INSERT INTO Orders (CustomerId, OrderId, Status) SELECT CustomerId, 1, Name FROM Customers WHERE Secret = 'x'", "insert Orders(CustomerId, OrderId, Status); read Customers(CustomerId, Name, Secret)"),
    ("INSERT INTO sales.Items (Id) VALUES (1)", "insert sales.Items(Id)"),
    ("INSERT INTO Types (Message) VALUES (@m)", "insert Types(Message)"),
    ("INSERT OR IGNORE INTO Orders (CustomerId, OrderId) VALUES (1, 2)", "insert Orders(CustomerId, OrderId)"),
    ("INSERT OR UPDATE INTO Orders (CustomerId, OrderId, Status) VALUES (1, 2, 'x')", "insert Orders(CustomerId, OrderId, Status); update Orders(Status)"),
    ("INSERT OR UPDATE INTO Orders (CustomerId, OrderId) VALUES (1, 2)", "insert Orders(CustomerId, OrderId); update Orders"),
    ("INSERT INTO Orders (CustomerId, OrderId) VALUES (1, 2) THEN RETURN Total", "insert Orders(CustomerId, OrderId); read Orders(Total)"),
    ("INSERT INTO Orders (CustomerId, OrderId) VALUES (1, 2) THEN RETURN WITH ACTION AS what OrderId", "insert Orders(CustomerId, OrderId); read Orders(OrderId)"),
    ("INSERT INTO Orders (CustomerId, OrderId) VALUES (1, 2) THEN RETURN *", f"insert Orders(CustomerId, OrderId); read Orders({ALL_ORDERS})"),
    ("INSERT INTO Orders (CustomerId, OrderId) VALUES (1, 2) THEN RETURN (SELECT MAX(Secret) FROM Customers)", "insert Orders(CustomerId, OrderId); read Customers(Secret)"),
    ("INSERT INTO Orders (CustomerId, OrderId) VALUES (1, 2) ON CONFLICT DO NOTHING", "insert Orders(CustomerId, OrderId)"),
    ("INSERT INTO Orders (CustomerId, OrderId) VALUES (1, 2) ON CONFLICT (CustomerId, OrderId) DO NOTHING", "insert Orders(CustomerId, OrderId); read Orders(CustomerId, OrderId)"),
    ("INSERT INTO Orders (CustomerId, OrderId, Status) VALUES (1, 2, 'x') ON CONFLICT (CustomerId, OrderId) DO UPDATE SET Status = excluded.Status", "insert Orders(CustomerId, OrderId, Status); read Orders(CustomerId, OrderId); update Orders(Status)"),
    ("INSERT INTO Orders (CustomerId, OrderId) VALUES (1, 2) ON CONFLICT (CustomerId, OrderId) DO UPDATE SET Total = Orders.Total + 1, Status = (SELECT MAX(Secret) FROM Customers) WHERE Orders.Created IS NULL", "insert Orders(CustomerId, OrderId); read Customers(Secret); read Orders(Created, CustomerId, OrderId, Total); update Orders(Status, Total)"),
    ("UPDATE Orders SET Status = 'x' WHERE TRUE", "update Orders(Status)"),
    ("UPDATE Orders SET Status = 'x' WHERE OrderId = 1", "read Orders(OrderId); update Orders(Status)"),
    ("UPDATE Orders SET Status = DEFAULT, Created = PENDING_COMMIT_TIMESTAMP() WHERE TRUE", "update Orders(Created, Status)"),
    ("UPDATE Orders SET Total = Total + 1 WHERE TRUE", "read Orders(Total); update Orders(Total)"),
    ("UPDATE Orders SET Status = (SELECT MAX(Secret) FROM Customers) WHERE TRUE THEN RETURN OrderId", "read Customers(Secret); read Orders(OrderId); update Orders(Status)"),
    ("UPDATE Orders SET Status = 'x' WHERE TRUE THEN RETURN Status", "read Orders(Status); update Orders(Status)"),
    ("UPDATE Orders o SET o.Status = 'x' WHERE o.Created IN (SELECT Created FROM Orders)", "read Orders(Created); update Orders(Status)"),
    ("UPDATE Customers c SET Name = (SELECT MAX(o.Status) FROM Orders o WHERE o.CustomerId = c.CustomerId) WHERE c.Region = 'x'", "read Customers(CustomerId, Region); read Orders(CustomerId, Status); update Customers(Name)"),
    ("UPDATE sales.Items SET Price = 1 WHERE TRUE", "update sales.Items(Price)"),
    ("DELETE FROM Orders WHERE TRUE", "delete Orders"),
    ("DELETE Orders WHERE Status = 'x'", "delete Orders; read Orders(Status)"),
    ("DELETE FROM Orders WHERE TRUE THEN RETURN Total", "delete Orders; read Orders(Total)"),
    ("DELETE FROM Orders o WHERE EXISTS (SELECT 1 FROM Customers c WHERE c.CustomerId = o.CustomerId)", "delete Orders; read Customers(CustomerId); read Orders(CustomerId)"),
    ("@{PDML_MAX_PARALLELISM=1} DELETE FROM Orders WHERE TRUE", "delete Orders"),
]  # fmt: skip

UNREADABLE = [
    # Names that are not tables, and tables that are not ours.
    ("SELECT * FROM Nothing", "Table not found: Nothing"),
    ("SELECT Nothing FROM Customers", "Unrecognized name: Nothing [at 1:8]"),
    ("SELECT * FROM OrdersByStatus", "Table not found"),
    ("SELECT * FROM Changes", "Table not found"),
    ("SELECT Price FROM `sales.Items`", "Table not found"),
    ("SELECT Price FROM Items", "Table not found"),
    # Table functions, models, graphs, sequences.
    ("SELECT * FROM ML.PREDICT(MODEL m, (SELECT 1))", "Table-valued function not found"),
    ("FROM Customers |> CALL f()", "Table-valued function not found"),
    ("GRAPH g MATCH (n) RETURN n", "Property graph not found: g"),
    ("SELECT * FROM GRAPH_TABLE(g MATCH (n) RETURN n.x)", "Property graph not found: g"),
    # Functions that nobody vouches for.
    ("SELECT NOTHING()", "Function not found: NOTHING"),
    ("SELECT SIGN(CustomerId) FROM Customers", "the function `sign` is not supported"),
    ("SELECT SAFE.SIGN(CustomerId) FROM Customers", "the function `sign` is not supported"),
    ("SELECT @@version", "@@version"),
    # Statements of other kinds, and several at once.
    ("SELECT 1; SELECT 2", "Syntax error"),
    ("CREATE TABLE x (a INT64) PRIMARY KEY (a)", "not supported"),
    ("DROP TABLE Orders", "not supported"),
    ("GRANT SELECT ON TABLE Orders TO ROLE r", ""),
    ("EXPLAIN SELECT 1", "not supported"),
    ("CALL cancel_query('1')", "not supported"),
    ("MERGE INTO Orders USING Customers ON FALSE WHEN NOT MATCHED THEN INSERT (OrderId) VALUES (1)", "not supported"),
    ("TRUNCATE TABLE Orders", "not supported"),
    ("BEGIN TRANSACTION", "not supported"),
    ("EXECUTE IMMEDIATE 'SELECT 1'", "not supported"),
    ("EXPORT DATA OPTIONS (x = 1) AS SELECT 1", "not supported"),
    ("ASSERT TRUE", "not supported"),
    ("FROM Customers |> INSERT INTO Orders", "not supported"),
    # DML that Spanner does not have, or that touches more than whole columns.
    ("INSERT INTO Orders VALUES (1, 2, 3, 'x', NULL)", "must specify a column list"),
    ("INSERT OR REPLACE INTO Orders (CustomerId, OrderId) VALUES (1, 2)", "`INSERT OR REPLACE` is not supported"),
    ("INSERT INTO Orders (CustomerId, OrderId) VALUES (1, 2) ON CONFLICT ON UNIQUE CONSTRAINT x DO NOTHING", "name the columns"),
    ("INSERT INTO Customers (CustomerId, Length) VALUES (1, 2)", "non-writable column"),
    ("UPDATE Customers SET Length = 1 WHERE TRUE", "non-writable column"),
    ("UPDATE Customers SET Name = 'a', name = 'b' WHERE TRUE", "more than once"),
    ("UPDATE Customers SET (DELETE Tags WHERE TRUE) WHERE TRUE", "not supported"),
    ("UPDATE Customers SET Tags[OFFSET(0)] = 'x' WHERE TRUE", "not support"),
    ("UPDATE Orders SET Status = 'x' FROM Customers WHERE TRUE", "not supported"),
    ("DELETE FROM Regions WHERE TRUE", "`Regions` is not a table"),
    # Syntax and types.
    ("", "Syntax error"),
    (";", "Syntax error"),
    ("SELECT", "Syntax error"),
    ("SELECT 'abc", "Unclosed string literal"),
    ("SELECT /* Name FROM Customers", "Unclosed comment"),
    ("SELECT ?", "Positional parameters are not supported"),
    ("SELECT Name + 1 FROM Customers", "No matching signature"),
    ("SELECT Name FROM Customers NATURAL JOIN Orders", "Natural join not supported"),
    ("SELECT Name FROM Customers FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP()", "not supported"),
    ("WITH RECURSIVE x AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM x) SELECT a FROM x", "not supported"),
    ("SELECT * FROM Customers PIVOT (COUNT(*) FOR Region IN ('a'))", "not supported"),
    ("SELECT Message.x FROM Types", "Cannot access field x"),
    ("SELECT 1 \x00", ""),
    ("SELECT '\ud800'", "the statement is not valid Unicode"),
]  # fmt: skip


@pytest.fixture(scope="module")
def analyzer(zetasql_engine: WasmEngine) -> Analyzer:
    return Analyzer(zetasql_engine, SCHEMA)


def told(analyzer: Analyzer, sql: str, param_types: Mapping[str, SqlType] | None = None) -> str:
    """The accesses as one line; `*` stands before the columns of one that reads whatever columns there are."""
    return "; ".join(map(line, analyzer.accesses(sql, param_types or {})))


def line(access: Access) -> str:
    inside = [*(["*"] if access.every else []), *access.columns]
    return f"{access.operation} {access.table}".rstrip() + (f"({', '.join(inside)})" if inside else "")


@pytest.mark.parametrize(("sql", "expected"), QUERIES, ids=[sql for sql, _ in QUERIES])
def test_a_query_reads_exactly(analyzer: Analyzer, sql: str, expected: str) -> None:
    assert told(analyzer, sql) == expected


@pytest.mark.parametrize(("sql", "expected"), CHANGES, ids=[sql for sql, _ in CHANGES])
def test_a_change_does_exactly(analyzer: Analyzer, sql: str, expected: str) -> None:
    assert told(analyzer, sql) == expected


@pytest.mark.parametrize(("sql", "reason"), UNREADABLE, ids=[repr(sql) for sql, _ in UNREADABLE])
def test_a_statement_is_unreadable(analyzer: Analyzer, sql: str, reason: str) -> None:
    with pytest.raises(UnreadableStatement) as caught:
        analyzer.accesses(sql, {})
    assert reason in caught.value.message


SCALARS = ("BOOL", "BYTES", "DATE", "ENUM", "FLOAT32", "FLOAT64", "INT64", "INTERVAL", "JSON", "NUMERIC", "PROTO", "STRING", "TIMESTAMP", "UUID")  # fmt: skip


@pytest.mark.parametrize("code", SCALARS)
def test_parameters_of_every_type_are_known(analyzer: Analyzer, code: str) -> None:
    scalar = SqlType(code)
    array = SqlType("ARRAY", element=scalar)
    struct = SqlType("STRUCT", fields=(("a", scalar), ("", array)))
    types = {"p": scalar, "list": array, "row": struct, "rows": SqlType("ARRAY", element=struct)}
    sql = "SELECT @p IS NULL, ARRAY_LENGTH(@list), @row.a, (SELECT COUNT(r.a) FROM UNNEST(@rows) AS r) FROM Customers"
    assert told(analyzer, sql, types) == "read Customers"


@pytest.mark.parametrize(
    "type_",
    [
        SqlType("TYPE_CODE_UNSPECIFIED"),
        SqlType(""),
        SqlType("ARRAY"),
        SqlType("ARRAY", element=SqlType("ARRAY", element=SqlType("INT64"))),
        SqlType("ARRAY", element=SqlType("TOKENS")),
        SqlType("STRUCT", fields=(("a", SqlType("MESSAGE")),)),
    ],
)
def test_parameters_of_types_that_cannot_be_carried_over_are_refused(analyzer: Analyzer, type_: SqlType) -> None:
    with pytest.raises(UnreadableStatement, match="is not supported for parameters"):
        analyzer.accesses("SELECT 1", {"p": type_})


@pytest.mark.parametrize("code", ["PROTO", "ENUM"])
def test_messages_and_enumerations_are_taken_as_a_whole_and_nobody_looks_inside(
    zetasql_engine: WasmEngine, code: str
) -> None:
    analyzer = Analyzer(zetasql_engine, parse_ddl("CREATE TABLE T (Id INT64, M `shop.M`, X INT64) PRIMARY KEY (Id)"))
    types = {"p": SqlType(code), "list": SqlType("ARRAY", element=SqlType(code))}
    assert told(analyzer, "SELECT @p, Id FROM T WHERE M = @p OR M IN UNNEST(@list)", types) == "read T(Id, M)"
    assert told(analyzer, "INSERT INTO T (Id, M) VALUES (1, @p)", types) == "insert T(Id, M)"
    assert told(analyzer, "UPDATE T SET M = @p WHERE true", types) == "update T(M)"
    # If the message had a field X, it would hide the column: that counts as read.
    assert told(analyzer, "SELECT (SELECT X FROM UNNEST([@p])) FROM T", types) == "read T(X)"
    for inside in ("@p.x", "@p.(shop.extension)", "CAST(@p AS INT64)", "(SELECT AS STRUCT m.* FROM UNNEST([@p]) AS m)"):
        with pytest.raises(UnreadableStatement):
            analyzer.accesses(f"SELECT {inside} FROM T", types)
    with pytest.raises(UnreadableStatement):
        analyzer.accesses("UPDATE T SET M.x = @p WHERE true", types)


def test_a_type_without_end_is_refused(analyzer: Analyzer) -> None:
    type_ = SqlType("INT64")
    for _ in range(500):
        type_ = SqlType("STRUCT", fields=(("a", type_),))
    with pytest.raises(UnreadableStatement, match="nested"):
        analyzer.accesses("SELECT 1", {"p": type_})


def test_the_type_of_a_parameter_decides_what_can_be_read(analyzer: Analyzer) -> None:
    sql = "SELECT Name FROM Customers WHERE CustomerId = @id"
    assert told(analyzer, sql) == told(analyzer, sql, {"ID": SqlType("INT64")}) == "read Customers(CustomerId, Name)"
    with pytest.raises(UnreadableStatement, match="No matching signature"):
        analyzer.accesses(sql, {"id": SqlType("DATE")})


def test_a_message_is_one_short_line_that_names_the_place(analyzer: Analyzer) -> None:
    with pytest.raises(UnreadableStatement) as caught:
        analyzer.accesses("SELECT\n  Nme\nFROM Customers", {})
    assert caught.value.message == "Unrecognized name: Nme [at 2:3]"
    with pytest.raises(UnreadableStatement) as caught:
        analyzer.accesses(f"SELECT `{'x' * 5000}\\n` FROM Customers", {})
    assert len(caught.value.message) <= 300
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT " + "ABS(" * 75 + "CustomerId" + ")" * 75 + " FROM Customers", "read Customers(CustomerId)"),
        ("SELECT 1 FROM Customers" + "".join(f" JOIN Orders o{n} ON TRUE" for n in range(20)), "read Customers; read Orders"),
        ("SELECT 1 FROM " + "(SELECT Price FROM " * 60 + "sales.Items" + ")" * 60, "read sales.Items(Price)"),
        (" UNION ALL ".join(["SELECT Name FROM Customers"] * 200), "read Customers(Name)"),
    ],
    ids=["75 nested calls", "20 joins", "60 nested subqueries", "200 unions"],
)  # fmt: skip
def test_statements_up_to_spanners_own_limits_are_read(analyzer: Analyzer, sql: str, expected: str) -> None:
    assert told(analyzer, sql) == expected


def test_a_statement_over_the_limit_is_refused_before_anybody_looks(analyzer: Analyzer) -> None:
    with pytest.raises(UnreadableStatement, match="longer than 1000000 characters"):
        analyzer.accesses("SELECT 1 --" + "x" * 1_000_000, {})


def test_a_crash_is_told_apart_so_that_the_engine_can_be_replaced() -> None:
    engine = WasmEngine()
    with pytest.raises(EngineCrashed):
        Analyzer(engine, SCHEMA).accesses("SELECT " + "(SELECT " * 3000 + "1" + ")" * 3000, {})
    engine.close()
    engine = WasmEngine()
    assert told(Analyzer(engine, SCHEMA), "SELECT Name FROM Customers") == "read Customers(Name)"
    engine.close()


def test_schemas_do_not_see_one_another_on_the_same_engine(zetasql_engine: WasmEngine, analyzer: Analyzer) -> None:
    other = Analyzer(zetasql_engine, parse_ddl("CREATE TABLE Others (Id INT64) PRIMARY KEY (Id)"))
    assert told(other, "SELECT Id FROM Others") == "read Others(Id)"
    with pytest.raises(UnreadableStatement):
        other.accesses("SELECT 1 FROM Customers", {})
    with pytest.raises(UnreadableStatement):
        analyzer.accesses("SELECT 1 FROM Others", {})
    other.close()
    with pytest.raises(UnreadableStatement):
        other.accesses("SELECT Id FROM Others", {})
    assert told(analyzer, "SELECT Name FROM Customers") == "read Customers(Name)"


def test_a_table_whose_columns_bear_its_name_is_read_as_spanner_reads_it(zetasql_engine: WasmEngine) -> None:
    """The name stands for the row, which has no hidden columns; the emulator does the same."""
    analyzer = Analyzer(
        zetasql_engine,
        parse_ddl("""
            CREATE TABLE Shown (Id INT64, Shown INT64) PRIMARY KEY (Id);
            CREATE TABLE Hid (Id INT64, Hid INT64 HIDDEN) PRIMARY KEY (Id);
        """),
    )
    assert told(analyzer, "SELECT Shown FROM Shown") == "read Shown(*, Id, Shown)"
    assert told(analyzer, "SELECT Hid FROM Hid") == "read Hid(*, Id)"
    assert told(analyzer, "SELECT Hid.Hid FROM Hid") == "read Hid(Hid)"
    analyzer.close()


def test_namespaces_of_functions_are_those_that_schemas_may_not_have(zetasql_engine: WasmEngine) -> None:
    options = options_pb2.ZetaSQLBuiltinFunctionOptionsProto(language_options=language_options())
    answer = zetasql_engine.call("ZetaSqlLocalService_GetBuiltinFunctions", options.SerializeToString())
    functions = service.GetBuiltinFunctionsResponse.FromString(answer).function
    assert {one.name_path[0] for one in functions if len(one.name_path) > 1} == ddl._FUNCTION_NAMESPACES


def test_a_schema_and_a_table_may_have_one_name(zetasql_engine: WasmEngine) -> None:
    text = "CREATE SCHEMA x; CREATE TABLE x (a INT64) PRIMARY KEY (a); CREATE TABLE X.x (b INT64) PRIMARY KEY (b)"
    analyzer = Analyzer(zetasql_engine, parse_ddl(text))
    assert told(analyzer, "SELECT a FROM x") == "read x(a)"
    assert told(analyzer, "SELECT b FROM x.X") == "read X.x(b)"
    analyzer.close()


def test_a_schema_without_tables_can_be_asked(zetasql_engine: WasmEngine) -> None:
    analyzer = Analyzer(zetasql_engine, Schema(tables=()))
    assert analyzer.accesses("SELECT 1", {}) == ()
    analyzer.close()
