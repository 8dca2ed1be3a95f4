"""Promise: a schema file means to Spangate what it means to Spanner, and so does a statement.

The official emulator is asked about both. It is an old version: where it does not know something that Spanner has, or
knows better than a parser without expressions can, the test says so.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest
from google.api_core import exceptions as google_errors
from google.cloud.spanner_v1 import ExecuteSqlRequest, ResultSet, TransactionOptions, TransactionSelector
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports.grpc import SpannerGrpcTransport
from google.protobuf.json_format import MessageToDict

from spangate.adapters.spanner import create_database
from spangate.adapters.zetasql_engine import WasmEngine
from spangate.errors import SpangateError
from spangate.model.database import DatabasePath
from spangate.model.schema import Schema
from spangate.sql.ddl import DdlError, parse_ddl
from spangate.sql.googlesql import Analyzer, UnreadableStatement
from spangate.sql.system_tables import information_schema_tables

pytestmark = pytest.mark.e2e

SCHEMAS = {
    "types and clauses": """
        -- Comments # of every /* kind */
        CREATE TABLE Everything (
          Id STRING(36) NOT NULL DEFAULT (GENERATE_UUID()), # the key
          B BOOL, I int64 NOT NULL, F FLOAT64, F4 FLOAT32, N NUMERIC, D date, T TIMESTAMP, J JSON,
          S STRING(MAX), S16 STRING(0x10), Y BYTES(MAX), Y5 BYTES( 5 ),
          AI ARRAY<INT64>, ASt ARRAY<STRING(MAX)>, AY ARRAY< BYTES(7) > NOT NULL,
          Vec ARRAY<FLOAT32>(vector_length=>3), /* inside */
          G INT64 AS (I + 1) STORED, G2 STRING(MAX) AS (CONCAT(S, ');--')) STORED,
          `Order` INT64 DEFAULT (1 + (2 * 3)),
          Created TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
          CONSTRAINT Positive CHECK (I > 0), CHECK (S != "a'b"),
        ) PRIMARY KEY (Id ASC), ROW DELETION POLICY (OLDER_THAN(Created, INTERVAL 30 DAY));
    """,
    "keys and interleaving": """
        CREATE TABLE Parents (A INT64, B STRING(10)) PRIMARY KEY (B DESC, A);
        CREATE TABLE Children (B STRING(10), A INT64, C INT64 NOT NULL) PRIMARY KEY (B DESC, A, C),
          INTERLEAVE IN PARENT Parents ON DELETE CASCADE;
        CREATE TABLE Singleton (X INT64) PRIMARY KEY ();
        CREATE TABLE Inline (X INT64 NOT NULL PRIMARY KEY, Y INT64);
        CREATE TABLE Refers (
          X INT64, Y INT64,
          CONSTRAINT Fk FOREIGN KEY (X) REFERENCES Inline (X),
          FOREIGN KEY (Y) REFERENCES Refers (X),
        ) PRIMARY KEY (X);
    """,
    "indexes": """
        CREATE TABLE T (Id INT64, A STRING(5), B INT64, C BOOL, D DATE) PRIMARY KEY (Id);
        CREATE INDEX ByA ON T (A DESC, B);
        CREATE UNIQUE INDEX ByB ON T (B) STORING (C, D);
        CREATE NULL_FILTERED INDEX ByC ON T (C);
        CREATE UNIQUE NULL_FILTERED INDEX ByD ON T (D, C DESC) STORING (A);
        CREATE INDEX IF NOT EXISTS ByA ON T (A);
    """,
    "changes": """
        CREATE TABLE T (Id INT64, A STRING(5), B INT64, C BOOL) PRIMARY KEY (Id);
        CREATE TABLE IF NOT EXISTS T (Other INT64) PRIMARY KEY (Other);
        ALTER TABLE T ADD COLUMN D DATE;
        ALTER TABLE T ADD COLUMN IF NOT EXISTS d INT64;
        ALTER TABLE T DROP COLUMN B;
        ALTER TABLE T ALTER COLUMN A STRING(MAX) NOT NULL;
        ALTER TABLE T ALTER COLUMN C SET DEFAULT (TRUE);
        ALTER TABLE T ADD CONSTRAINT Cc CHECK (Id > 0);
        ALTER TABLE T DROP CONSTRAINT Cc;
        CREATE INDEX ByA ON T (A);
        ALTER INDEX ByA ADD STORED COLUMN D;
        CREATE INDEX Gone ON T (C);
        DROP INDEX Gone;
        CREATE TABLE Gone (Id INT64) PRIMARY KEY (Id);
        DROP TABLE Gone;
        DROP TABLE IF EXISTS Gone;
    """,
    "things that are no tables": """
        CREATE TABLE T (Id INT64, A STRING(5)) PRIMARY KEY (Id);
        CREATE VIEW V SQL SECURITY INVOKER AS SELECT t.Id FROM T AS t;
        CREATE OR REPLACE VIEW V SQL SECURITY INVOKER AS SELECT t.A FROM T AS t;
        CREATE CHANGE STREAM S FOR T;
        CREATE SEQUENCE N OPTIONS (sequence_kind = 'bit_reversed_positive');
    """,
    "named schemas": """
        CREATE SCHEMA sales;
        CREATE TABLE sales.Items (Id INT64, Price FLOAT64) PRIMARY KEY (Id);
        CREATE INDEX sales.ByPrice ON sales.Items (Price);
        CREATE TABLE Items (Id INT64, Name STRING(MAX)) PRIMARY KEY (Id);
    """,
}

# Each is tried alone, after BASE; both accept it or both refuse it. Not here, because this emulator differs from what
# Spanner documents: INTERLEAVE IN without PARENT and SQL SECURITY DEFINER (unknown to it), names with spaces
# (accepted), names in another case than they were made with (refused in DDL).
BASE = (
    "CREATE TABLE T (Id INT64, A STRING(5), B INT64) PRIMARY KEY (Id)",
    "CREATE INDEX ByA ON T (A) STORING (B)",
    "CREATE TABLE C (Id INT64, N INT64) PRIMARY KEY (Id, N), INTERLEAVE IN PARENT T",
    "CREATE VIEW V SQL SECURITY INVOKER AS SELECT T.Id FROM T",
    "CREATE VIEW W SQL SECURITY INVOKER AS SELECT V.Id, T.B AS M FROM V JOIN T ON T.Id = V.Id",
    "CREATE SEQUENCE Numbers OPTIONS (sequence_kind = 'bit_reversed_positive')",
    "CREATE CHANGE STREAM Changes FOR ALL",
)
STATEMENTS = [
    "CREATE TABLE X (Id INT64) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64,) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64) PRIMARY KEY (Id,)",
    "CREATE TABLE X (Id INT64)",
    "CREATE TABLE X (Id INT64 PRIMARY KEY) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64 PRIMARY KEY, N INT64 PRIMARY KEY)",
    "CREATE TABLE X () PRIMARY KEY ()",
    "CREATE TABLE X (Id INT64) PRIMARY KEY (Nothing)",
    "CREATE TABLE X (Id INT64) PRIMARY KEY (Id, ID)",
    "CREATE TABLE X (Id INT64, ID INT64) PRIMARY KEY (Id)",
    "CREATE TABLE t (Id INT64) PRIMARY KEY (Id)",
    "CREATE TABLE ByA (Id INT64) PRIMARY KEY (Id)",
    "CREATE TABLE v (Id INT64) PRIMARY KEY (Id)",
    "CREATE TABLE `X` (`Id` INT64) PRIMARY KEY (`Id`)",
    "CREATE TABLE X.Y (Id INT64) PRIMARY KEY (Id)",
    "CREATE TABLE X (Select INT64) PRIMARY KEY (Select)",
    "CREATE TABLE X (`Select` INT64) PRIMARY KEY (`Select`)",
    "CREATE TABLE X (Check INT64, Foreign INT64, Primary INT64, Key INT64) PRIMARY KEY (Key)",
    "CREATE TABLE X (Id STRING) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id STRING(0)) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64(5)) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64, A ARRAY<ARRAY<INT64>>) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64, A STRUCT<a INT64>) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64, A ARRAY) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64 NOT NULL NULL) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64 DEFAULT 1) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64 DEFAULT ()) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64) PRIMARY KEY (Id) INTERLEAVE IN PARENT T",
    "CREATE TABLE X (Id INT64), PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64, N INT64) PRIMARY KEY (Id, N),",
    "CREATE TABLE X (Id INT64 PRIMARY KEY, D TIMESTAMP), ROW DELETION POLICY (OLDER_THAN(D, INTERVAL 1 DAY))",
    "CREATE TABLE X (Id INT64, PRIMARY KEY (Id))",
    "CREATE TABLE X (Id INT64, N INT64) PRIMARY KEY (Id, N), INTERLEAVE IN PARENT T",
    "CREATE TABLE X (Id INT64, N INT64) PRIMARY KEY (Id, N), INTERLEAVE IN PARENT Nothing",
    "CREATE TABLE X (Id INT64, N INT64) PRIMARY KEY (Id, N), INTERLEAVE IN PARENT V",
    "CREATE TABLE X (Id INT64, FOREIGN KEY (Id) REFERENCES T (Id)) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64, FOREIGN KEY (Id) REFERENCES T (Id, B)) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64, FOREIGN KEY (No) REFERENCES T (Id)) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64, FOREIGN KEY (Id) REFERENCES T (No)) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64, FOREIGN KEY (Id) REFERENCES No (Id)) PRIMARY KEY (Id)",
    "CREATE TABLE X (Id INT64) PRIMARY KEY (Id) nonsense",
    "CREATE TABLE X (Id INT64 /* unclosed) PRIMARY KEY (Id)",
    "CREATE TABLE X (S STRING(MAX) DEFAULT ('unclosed)) PRIMARY KEY (S)",
    "CREATE TABLE X (Id INT64) PRIMARY KEY (Id), ROW DELETION POLICY (OLDER_THAN(No, INTERVAL 1 DAY))",
    "CREATE INDEX ByB ON T (B)",
    "CREATE INDEX bya ON T (B)",
    "CREATE INDEX ByB ON T (No)",
    "CREATE INDEX ByB ON No (B)",
    "CREATE INDEX ByB ON V (Id)",
    "CREATE INDEX ByB ON T (B, b)",
    "CREATE INDEX ByB ON T (B) STORING (B)",
    "CREATE INDEX ByB ON T (B) STORING (A, a)",
    "CREATE INDEX ByB ON T (B) STORING (No)",
    "CREATE INDEX ByB ON T (B), INTERLEAVE IN No",
    "ALTER TABLE T ADD COLUMN D DATE",
    "ALTER TABLE T ADD COLUMN a DATE",
    "ALTER TABLE No ADD COLUMN a DATE",
    "ALTER TABLE T DROP COLUMN A",
    "ALTER TABLE T DROP COLUMN B",
    "ALTER TABLE T DROP COLUMN Id",
    "ALTER TABLE T DROP COLUMN No",
    "ALTER TABLE T ALTER COLUMN A STRING(MAX)",
    "ALTER TABLE T ALTER COLUMN No STRING(MAX)",
    "ALTER TABLE T RENAME COLUMN A TO Z",
    "ALTER TABLE C SET ON DELETE CASCADE",
    "ALTER INDEX ByA DROP STORED COLUMN B",
    "ALTER INDEX ByA DROP STORED COLUMN A",
    "ALTER INDEX No DROP STORED COLUMN B",
    "DROP TABLE T",
    "DROP TABLE C",
    "DROP TABLE No",
    "DROP TABLE V",
    "DROP INDEX ByA",
    "DROP INDEX No",
    "DROP VIEW W",
    "DROP VIEW C",
    "DROP VIEW Numbers",
    "DROP SEQUENCE Numbers",
    "DROP CHANGE STREAM Changes",
    "DROP CHANGE STREAM W",
    "CREATE VIEW X AS SELECT T.Id FROM T",
    "CREATE VIEW X SQL SECURITY NOBODY AS SELECT T.Id FROM T",
    "CREATE OR REPLACE VIEW W SQL SECURITY INVOKER AS SELECT T.A FROM T",
    "CREATE VIEW W SQL SECURITY INVOKER AS SELECT T.A FROM T",
    "CREATE SEQUENCE V OPTIONS (sequence_kind = 'bit_reversed_positive')",
    "CREATE CHANGE STREAM T FOR ALL",
    "SELECT 1",
    "INSERT INTO T (Id) VALUES (1)",
    "CREATE TABEL X (Id INT64) PRIMARY KEY (Id)",
    "ALTER TABLE T",
    "CREATE",
    "CREATE TABLE X (Id INT64) PRIMARY KEY (Id);",
]

# What both understand must be understood alike; what only one understands is said here.
QUERIES = [
    "SELECT 1",
    "SELECT * FROM T",
    "SELECT t.* EXCEPT (A) FROM T AS t",
    "SELECT a, A FROM `t`",
    "SELECT A FROM T@{FORCE_INDEX=ByA} WHERE A = 'x'",
    "@{USE_ADDITIONAL_PARALLELISM=TRUE} SELECT A FROM T",
    "SELECT T.A FROM T JOIN C USING (Id) ORDER BY N LIMIT 1",
    "SELECT COUNT(*) FROM (SELECT DISTINCT B FROM T UNION ALL SELECT N FROM C)",
    "WITH T AS (SELECT 1 AS X) SELECT X FROM T",
    "SELECT X FROM (SELECT 1 AS X), UNNEST([1, 2])",
    "SELECT ARRAY(SELECT AS STRUCT * FROM C WHERE C.Id = T.Id) FROM T",
    "SELECT TO_JSON(t).A FROM T t",
    "SELECT No FROM T",
    "SELECT * FROM No",
    "SELECT A FROM T; SELECT B FROM T",
    "SELECT A FROM T;",
    "SELECT A FROM T NATURAL JOIN C",
    "SELECT A + 1 FROM T",
    "SELECT 'unclosed FROM T",
    "SELECT NOTHING(A) FROM T",
    "SELECT ? FROM T",
    "SELECT @@x",
    "CREATE TABLE Z (Id INT64) PRIMARY KEY (Id)",
    "EXPLAIN SELECT 1",
    "MERGE INTO T USING C ON FALSE WHEN NOT MATCHED THEN INSERT (Id) VALUES (1)",
    "TRUNCATE TABLE T",
    "",
    "INSERT INTO T (Id, A) VALUES (1, 'x')",
    "INSERT T (Id, A) SELECT Id + 1000, 'x' FROM C",
    "INSERT INTO T VALUES (1, 'x', 2)",
    "INSERT OR IGNORE INTO T (Id) VALUES (1)",
    "INSERT OR UPDATE INTO T (Id, A) VALUES (1, 'x')",
    "INSERT INTO T (Id, No) VALUES (1, 'x')",
    "INSERT INTO T (Id) VALUES (2) THEN RETURN A",
    "INSERT INTO T (Id) VALUES (3) THEN RETURN WITH ACTION AS x Id",
    "UPDATE T SET A = 'x' WHERE TRUE",
    "UPDATE T SET A = 'x'",
    "UPDATE T SET A = (SELECT MAX(A) FROM T) WHERE B IN (SELECT N FROM C) THEN RETURN B",
    "UPDATE T SET No = 'x' WHERE TRUE",
    "UPDATE V SET Id = 1 WHERE TRUE",
    "DELETE FROM C WHERE TRUE",
    "DELETE C WHERE N = 1 THEN RETURN *",
    "DELETE FROM C",
    # Views, sequences, change streams, and what the system shows.
    "SELECT Id FROM V",
    "SELECT * FROM v JOIN W USING (Id)",
    "SELECT A FROM V",
    "SELECT N FROM W",
    "SELECT Id, M FROM W",
    "SELECT COUNT(*) FROM W",
    "DELETE FROM W WHERE TRUE",
    "INSERT INTO W (Id) VALUES (1)",
    "INSERT INTO T (Id) SELECT M FROM W",
    "SELECT GET_NEXT_SEQUENCE_VALUE(SEQUENCE Numbers)",
    "SELECT GET_INTERNAL_SEQUENCE_STATE(SEQUENCE Numbers)",
    "SELECT GET_NEXT_SEQUENCE_VALUE(SEQUENCE Nothing)",
    "SELECT GET_NEXT_SEQUENCE_VALUE(SEQUENCE Changes)",
    "SELECT GET_NEXT_SEQUENCE_VALUE(Numbers)",
    "INSERT INTO T (Id) VALUES (GET_NEXT_SEQUENCE_VALUE(SEQUENCE Numbers))",
    "SELECT * FROM Numbers",
    "SELECT * FROM Changes",
    "SELECT * FROM READ_Nothing(NULL, NULL, NULL, 1000)",
    "select option_value from information_schema.database_options where option_name='database_dialect'",
    "SELECT * FROM INFORMATION_SCHEMA.TABLES",
    "SELECT TABLE_NAME, COLUMN_NAME FROM INFORMATION_SCHEMA.TABLES JOIN INFORMATION_SCHEMA.COLUMNS USING (TABLE_NAME)",
    "SELECT NOTHING FROM INFORMATION_SCHEMA.TABLES",
    "SELECT * FROM INFORMATION_SCHEMA.NOTHING",
    "SELECT * FROM TABLES",
]

TABLES = """
    SELECT TABLE_SCHEMA, TABLE_NAME, PARENT_TABLE_NAME FROM INFORMATION_SCHEMA.TABLES
    WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ('INFORMATION_SCHEMA', 'SPANNER_SYS')
"""
COLUMNS = """
    SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, UPPER(SPANNER_TYPE), IS_NULLABLE = 'NO', IS_GENERATED = 'ALWAYS'
    FROM INFORMATION_SCHEMA.COLUMNS JOIN INFORMATION_SCHEMA.TABLES USING (TABLE_SCHEMA, TABLE_NAME)
    WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ('INFORMATION_SCHEMA', 'SPANNER_SYS')
    ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION
"""
INDEX_COLUMNS = """
    SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.INDEX_NAME, c.COLUMN_NAME, c.ORDINAL_POSITION
    FROM INFORMATION_SCHEMA.INDEX_COLUMNS c JOIN INFORMATION_SCHEMA.INDEXES i
      USING (TABLE_SCHEMA, TABLE_NAME, INDEX_NAME)
    WHERE NOT i.SPANNER_IS_MANAGED AND c.TABLE_SCHEMA NOT IN ('INFORMATION_SCHEMA', 'SPANNER_SYS')
"""

SYSTEM_COLUMNS = """
    SELECT TABLE_NAME, COLUMN_NAME, SPANNER_TYPE FROM INFORMATION_SCHEMA.COLUMNS
    WHERE TABLE_SCHEMA = 'INFORMATION_SCHEMA'
"""


@pytest.fixture(scope="module")
def address(emulator_address: str) -> str:
    return emulator_address


class Database:
    """A database in the emulator."""

    def __init__(self, address: str, statements: Sequence[str]) -> None:
        path = DatabasePath("spangate-test", f"test-{secrets.token_hex(6)}", "db")
        create_database(address, path, statements)
        self._channel = grpc.insecure_channel(address)
        self._client = SpannerClient(transport=SpannerGrpcTransport(channel=self._channel))
        self._session = self._client.create_session(database=str(path)).name

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        answer = self._client.execute_sql(ExecuteSqlRequest(session=self._session, sql=sql))
        return [tuple(MessageToDict(row)) for row in ResultSet.pb(answer).rows]

    def refusal(self, sql: str) -> str | None:
        """What the emulator has against `sql`, or None; whatever it does is rolled back."""
        options = TransactionOptions(read_write=TransactionOptions.ReadWrite())
        begun = self._client.begin_transaction(session=self._session, options=options).id
        request = ExecuteSqlRequest(session=self._session, sql=sql, transaction=TransactionSelector(id=begun), seqno=1)
        try:
            self._client.execute_sql(request)
        except google_errors.GoogleAPICallError as error:
            return str(error)
        finally:
            self._client.rollback(session=self._session, transaction_id=begun)
        return None

    def close(self) -> None:
        self._channel.close()


@pytest.fixture(scope="module")
def small(address: str) -> Iterator[Database]:
    database = Database(address, BASE)
    yield database
    database.close()


def full_name(schema: str, name: str) -> str:
    return f"{schema}.{name}" if schema else name


def told_by_us(schema: Schema) -> dict[str, list[tuple[Any, ...]]]:
    """Tables, columns and index columns in the words of INFORMATION_SCHEMA."""
    key = [
        (table.name, "PRIMARY_KEY", place, name)
        for table in schema.tables
        for place, name in enumerate(table.primary_key, start=1)
    ]
    indexed = [
        (index.table, index.name.rpartition(".")[2], place, name)
        for index in schema.indexes
        for place, name in enumerate(index.key, start=1)
    ]
    stored = [(one.table, one.name.rpartition(".")[2], 0, name) for one in schema.indexes for name in one.storing]
    return {
        "tables": sorted((table.name, table.parent or "") for table in schema.tables),
        "columns": sorted(
            # This emulator does not tell a vector's length.
            (
                table.name,
                place,
                column.name,
                column.type.upper().partition("(VECTOR")[0],
                column.not_null,
                column.generated,
            )
            for table in schema.tables
            for place, column in enumerate(table.columns)
        ),
        "indexes": sorted(key + indexed + stored),
    }


def told_by_spanner(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    tables = database.rows(TABLES)
    columns = database.rows(COLUMNS)
    places: dict[str, int] = {}
    numbered = []
    for schema, table, *facts in columns:
        name = full_name(schema, table)
        numbered.append((name, places.setdefault(name, 0), *facts))
        places[name] += 1
    return {
        "tables": sorted((full_name(schema, name), parent or "") for schema, name, parent in tables),
        "columns": sorted(numbered),
        "indexes": sorted(
            (full_name(schema, table), index, int(place or 0), column)
            for schema, table, index, column, place in database.rows(INDEX_COLUMNS)
        ),
    }


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_file_makes_what_we_think_it_makes(address: str, name: str) -> None:
    schema = parse_ddl(SCHEMAS[name])
    database = Database(address, schema.statements)
    ours, theirs = told_by_us(schema), told_by_spanner(database)
    for what in ours:
        assert ours[what] == theirs[what]
    database.close()


@pytest.mark.parametrize("statement", STATEMENTS)
def test_both_accept_a_statement_or_both_refuse_it(address: str, statement: str) -> None:
    try:
        ours = parse_ddl(";".join([*BASE, statement]))
    except DdlError as error:
        refused_by_us = str(error)
    else:
        refused_by_us = ""
    path = DatabasePath("spangate-test", f"test-{secrets.token_hex(6)}", "db")
    try:
        create_database(address, path, [*BASE, ours.statements[-1] if not refused_by_us else statement])
    except SpangateError as error:
        refused_by_spanner = str(error)
    else:
        refused_by_spanner = ""
    assert bool(refused_by_us) == bool(refused_by_spanner), refused_by_us or refused_by_spanner


def test_the_system_tables_have_the_columns_that_spanner_says_they_have(small: Database) -> None:
    theirs: dict[str, dict[str, str]] = {}
    for table, column, type_ in small.rows(SYSTEM_COLUMNS):
        theirs.setdefault(table, {})[column] = type_.partition("(")[0]
    ours = {one.name.partition(".")[2]: {c.name: c.type for c in one.columns} for one in information_schema_tables()}
    assert len(theirs) > 20
    for table, columns in theirs.items():
        assert columns.items() <= ours[table].items()


CHANGE_RECORD = """
    SELECT 1 FROM READ_Changes(
      start_timestamp => CURRENT_TIMESTAMP(), end_timestamp => NULL, partition_token => NULL,
      heartbeat_milliseconds => 10000)
"""


def test_a_change_stream_is_read_by_the_same_words(analyzer: Analyzer, small: Database) -> None:
    assert [str(one) for one in analyzer.accesses(CHANGE_RECORD, {})] == ["read Changes"]
    # Spanner understands the query, and wants it in a call of another kind.
    assert "must be strong reads executed via single use transactions" in (small.refusal(CHANGE_RECORD) or "")


@pytest.fixture(scope="module")
def analyzer(zetasql_engine: WasmEngine) -> Analyzer:
    return Analyzer(zetasql_engine, parse_ddl(";".join(BASE)))


@pytest.mark.parametrize("sql", QUERIES)
def test_both_read_a_query_or_both_refuse_it(small: Database, analyzer: Analyzer, sql: str) -> None:
    try:
        analyzer.accesses(sql, {})
    except UnreadableStatement as error:
        refused_by_us = error.message
    else:
        refused_by_us = ""
    refused_by_spanner = small.refusal(sql) or ""
    assert bool(refused_by_us) == bool(refused_by_spanner), refused_by_us or refused_by_spanner
