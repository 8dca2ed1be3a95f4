"""Promise: in a PostgreSQL-dialect database, a schema and a statement mean to Spangate what they mean to Spanner.

The official emulator is asked. Its databases come in variants that each lack one column or one table: a statement must
be executable without whatever its accesses do not name, and must not be without what they do. The emulator is an old
version and knows less SQL than Spanner; what it does not know it cannot judge.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import grpc
import pytest
from google.api_core import exceptions as google_errors
from google.cloud import spanner_admin_database_v1 as database_v1
from google.cloud import spanner_admin_instance_v1 as instance_v1
from google.cloud.spanner_admin_database_v1.services.database_admin.transports.grpc import DatabaseAdminGrpcTransport
from google.cloud.spanner_admin_instance_v1.services.instance_admin.transports.grpc import InstanceAdminGrpcTransport
from google.cloud.spanner_v1 import ExecuteSqlRequest, ReadRequest, TransactionOptions, TransactionSelector
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports.grpc import SpannerGrpcTransport
from hypothesis import HealthCheck, Phase, given, note, settings

from fakes.pg_writer import TABLES, statements
from spangate.model.access import Access, Operation
from spangate.sql.ddl_tokens import DdlError
from spangate.sql.googlesql import UnreadableStatement
from spangate.sql.pg_ddl import parse_pg_ddl
from spangate.sql.pg_statement import pg_accesses

pytestmark = pytest.mark.e2e

SECONDS = 20.0
Lacks = tuple[str, str | None]


@dataclass(frozen=True)
class Server:
    """An instance of the emulator."""

    databases: database_v1.DatabaseAdminClient
    spanner: SpannerClient
    instance: str

    @contextmanager
    def database(self, statements: tuple[str, ...]) -> Iterator[str]:
        """A session in a database of this schema; google_errors if it is refused."""
        name = f"d{secrets.token_hex(4)}"
        request = database_v1.CreateDatabaseRequest(
            parent=self.instance,
            create_statement=f'CREATE DATABASE "{name}"',
            database_dialect=database_v1.DatabaseDialect.POSTGRESQL,
        )
        self.databases.create_database(request, retry=None, timeout=SECONDS).result(timeout=SECONDS)
        path = f"{self.instance}/databases/{name}"
        try:
            if statements:
                self.databases.update_database_ddl(
                    database_v1.UpdateDatabaseDdlRequest(database=path, statements=list(statements)),
                    retry=None,
                    timeout=SECONDS,
                ).result(timeout=SECONDS)
            yield self.spanner.create_session(database=path, retry=None, timeout=SECONDS).name
        finally:
            self.databases.drop_database(database=path, retry=None, timeout=SECONDS)

    def ddl(self, session: str) -> str:
        """What the database says its schema is."""
        path = session.partition("/sessions/")[0]
        return ";\n".join(self.databases.get_database_ddl(database=path, retry=None, timeout=SECONDS).statements)

    def refusal(self, session: str, sql: str) -> str:
        """What is wrong with a statement; empty if it runs. It leaves no trace."""
        options = TransactionOptions(read_write=TransactionOptions.ReadWrite())
        transaction = self.spanner.begin_transaction(session=session, options=options, retry=None, timeout=SECONDS)
        request = ExecuteSqlRequest(
            session=session, sql=sql, seqno=1, transaction=TransactionSelector(id=transaction.id)
        )
        try:
            self.spanner.execute_sql(request, retry=None, timeout=SECONDS)
        except google_errors.ServiceUnavailable:
            # The emulator is gone: that says nothing about the statement.
            raise
        except google_errors.GoogleAPICallError as error:
            return str(error.message) or "refused"
        finally:
            self.spanner.rollback(session=session, transaction_id=transaction.id, retry=None, timeout=SECONDS)
        return ""


@pytest.fixture(scope="module")
def server(emulator_address: str) -> Iterator[Server]:
    with grpc.insecure_channel(emulator_address) as channel:
        instances = instance_v1.InstanceAdminClient(transport=InstanceAdminGrpcTransport(channel=channel))
        name = f"pg-{secrets.token_hex(4)}"
        instances.create_instance(
            instance_v1.CreateInstanceRequest(
                parent="projects/p",
                instance_id=name,
                instance=instance_v1.Instance(
                    config="projects/p/instanceConfigs/emulator-config", display_name="PostgreSQL", node_count=1
                ),
            ),
            retry=None,
            timeout=SECONDS,
        ).result(timeout=SECONDS)
        instance = f"projects/p/instances/{name}"
        yield Server(
            database_v1.DatabaseAdminClient(transport=DatabaseAdminGrpcTransport(channel=channel)),
            SpannerClient(transport=SpannerGrpcTransport(channel=channel)),
            instance,
        )
        instances.delete_instance(name=instance, retry=None, timeout=SECONDS)


# Statements.


def schema_without(lacks: Lacks | None) -> tuple[str, ...]:
    """The tables of the writer but one table, or one column; a lost key is made up for by another."""
    found = ["CREATE SCHEMA sales", "CREATE TABLE sales.x (k bigint PRIMARY KEY)"]
    for table, columns in TABLES.items():
        if lacks == (table, None):
            continue
        rest = [name for name in columns if lacks != (table, name)]
        key = rest[0] if rest[0] == columns[0] else "other_key bigint NOT NULL DEFAULT 0"
        parts = [f"{name} bigint" for name in rest]
        if key != rest[0]:
            parts, key = [key, *parts], "other_key"
        found.append(f"CREATE TABLE {table} ({', '.join(parts)}, PRIMARY KEY ({key}))")
    return tuple(found)


VARIANTS: list[Lacks] = [(table, column) for table, columns in TABLES.items() for column in (None, *columns)]


@pytest.fixture(scope="module")
def sessions(server: Server) -> Iterator[dict[Lacks | None, str]]:
    """A session in a whole database and one in each variant, by what it lacks."""
    with ExitStack() as stack:
        yield {one: stack.enter_context(server.database(schema_without(one))) for one in (None, *VARIANTS)}


def is_named(lacks: Lacks, accesses: tuple[Access, ...]) -> bool:
    table, column = lacks
    return any(
        access.table == table and (column is None or access.every or column in access.columns) for access in accesses
    )


def check_variants(server: Server, sessions: dict[Lacks | None, str], sql: str, accesses: tuple[Access, ...]) -> None:
    """`sql`, which runs in the whole database, runs exactly where everything is there that `accesses` name."""
    for lacks in VARIANTS:
        if "USING (" in sql and lacks[1] == "a":
            # The emulator dies of a USING column that is not there.
            continue
        refusal = server.refusal(sessions[lacks], sql)
        if not is_named(lacks, accesses):
            assert not refusal, f"without {lacks}"
        elif not any(access.every and access.table == lacks[0] and lacks[1] for access in accesses):
            assert refusal, f"also without {lacks}"


class Tally:
    ran = 0
    unknown = 0


@settings(
    # Always the same ones: what the emulator dies of, it would die of in other tests too.
    derandomize=True,
    max_examples=80,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(case=statements(plain=True))
def check_random_statements(
    server: Server, sessions: dict[Lacks | None, str], case: tuple[str, tuple[Access, ...]]
) -> None:
    sql, _ = case
    note(sql)
    if refusal := server.refusal(sessions[None], sql):
        # The writer cannot know that rows clash, nor what the emulator lacks.
        note(refusal)
        Tally.unknown += 1
        return
    Tally.ran += 1
    check_variants(server, sessions, sql, pg_accesses(parse_pg_ddl(";".join(schema_without(None))), sql))


def test_random_statements_run_with_what_they_access_and_not_with_less(
    server: Server, sessions: dict[Lacks | None, str]
) -> None:
    Tally.ran = Tally.unknown = 0
    check_random_statements(server, sessions)
    assert Tally.ran > Tally.unknown, f"{Tally.unknown} of {Tally.ran + Tally.unknown} statements were not judged"


@pytest.mark.parametrize(
    ("sql", "accesses"),
    [
        ("SELECT x1.b FROM t AS x1 WHERE x1.c = 1", (Access(Operation.READ, "t", ("b",)),)),
        ("SELECT COUNT(*) FROM t", ()),
        ("SELECT x1.b FROM t AS x1", (Access(Operation.READ, "t", ("b", "c")),)),
    ],
)
def test_the_judge_notices_an_access_that_is_missing_and_one_that_is_too_much(
    server: Server, sessions: dict[Lacks | None, str], sql: str, accesses: tuple[Access, ...]
) -> None:
    with pytest.raises(AssertionError, match="without"):
        check_variants(server, sessions, sql, accesses)


# What the writer does not write; all of it runs in the emulator.
STATEMENTS = [
    "SELECT p, t.b FROM u AS x(p, q), t",
    "SELECT x.b FROM (t JOIN u ON t.a = u.a) AS x(a1, b)",
    "SELECT t.b FROM t, (SELECT e FROM u) q WHERE t.a = q.e",
    "SELECT (SELECT b FROM u LIMIT 1) FROM t",
    "SELECT 1 FROM t WHERE EXISTS (SELECT 1 FROM u WHERE e = t.b AND c = 1)",
    "SELECT a AS b FROM t ORDER BY b",
    "SELECT a AS z FROM t ORDER BY b",
    "SELECT a + 1 AS x, COUNT(*) FROM t GROUP BY x",
    "SELECT t.a AS e FROM t GROUP BY t.a HAVING COUNT(t.d) > 1",
    "SELECT COUNT(DISTINCT c) FROM t",
    "SELECT public.t.a FROM t",
    "TABLE t",
    'SELECT A, "b" FROM T',
    "WITH t AS (SELECT e AS a FROM u) SELECT a FROM t",
    "WITH q AS (SELECT c FROM t) SELECT 1",
    "INSERT INTO t VALUES (1, 2, 3, 4)",
    "INSERT INTO t (a, b) VALUES (1, DEFAULT) RETURNING c",
    "INSERT INTO t (a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET a = excluded.a, b = excluded.b",
    "INSERT INTO t (a, b) SELECT u.a, u.f FROM u WHERE u.e = 1",
    "UPDATE t SET b = (SELECT MAX(e) FROM u WHERE u.a = t.a) WHERE t.c IN (1, 2) RETURNING d",
    "DELETE FROM t WHERE a IN (SELECT e FROM u) RETURNING *",
]
# How PostgreSQL calls a column that has no AS decides what an outer query means.
NAMES = [
    ("coalesce", "coalesce(a, 1)"),
    ("count", "count(b)"),
    ("int8", "cast(1 AS bigint)"),
    ("case", "CASE WHEN a = 1 THEN 1 ELSE 0 END"),
    ("case", "CASE WHEN a = 1 THEN 1 ELSE 0::int8 END"),
    ("b", "CASE WHEN a = 1 THEN 1 ELSE b END"),
    ("a", "a::varchar"),
    ("abs", "cast(abs(a) AS varchar)"),
    ("?column?", "a + 1"),
    ("max", "(SELECT max(e) FROM u)"),
    ("e", "(SELECT u.e FROM u LIMIT 1)"),
    ("exists", "EXISTS (SELECT 1 FROM u)"),
    ("array", "ARRAY[a]"),
    ("array", "ARRAY(SELECT e FROM u)"),
    ("nullif", "nullif(a, 1)"),
    ("greatest", "greatest(a, 1)"),
    ("least", "least(a, 1)"),
    ("current_timestamp", "current_timestamp"),
    ("extract", "extract(year FROM now())"),
    ("btrim", "trim(both FROM 'x')"),
    ("?column?", "a = 1 AND b = 2"),
    ("?column?", "a IS NULL"),
]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_statements_run_with_what_they_access_and_not_with_less(
    server: Server, sessions: dict[Lacks | None, str], sql: str
) -> None:
    assert server.refusal(sessions[None], sql) == ""
    check_variants(server, sessions, sql, pg_accesses(parse_pg_ddl(";".join(schema_without(None))), sql))


@pytest.mark.parametrize(("name", "expression"), NAMES)
def test_columns_without_names_are_called_as_in_spanner(
    server: Server, sessions: dict[Lacks | None, str], name: str, expression: str
) -> None:
    """The outer query names the column; where it is called otherwise, both say that there is no such column."""
    schema = parse_pg_ddl(";".join(schema_without(None)))
    # A grouped query takes aggregates and columns that are not grouped alike.
    group = "" if "count" in expression else " GROUP BY a, b"
    for wanted in (name, "no_such_name"):
        sql = f'SELECT q."{wanted}" FROM (SELECT {expression} FROM t{group}) q'
        refused = bool(server.refusal(sessions[None], sql))
        assert refused == (wanted != name), server.refusal(sessions[None], sql)
        if refused:
            with pytest.raises(UnreadableStatement):
                pg_accesses(schema, sql)
        else:
            pg_accesses(schema, sql)


# Not here: names that mean two things, of which this emulator dies.
UNKNOWN = [
    "SELECT e FROM t",
    "SELECT x.a FROM t",
    "SELECT t.a FROM t AS x",
    'SELECT "A" FROM t',
    'SELECT a FROM "T"',
    "SELECT a FROM nothing",
    "SELECT nothing.a FROM t",
    "SELECT a FROM sales.t",
    "SELECT k FROM x",
    "SELECT b FROM t WHERE c = nothing",
    "SELECT q.b FROM (SELECT a FROM t) q",
    "SELECT t.b FROM (SELECT a FROM t) q",
    "SELECT * FROM t, (SELECT t.b) q",
    "SELECT a FROM t UNION ALL SELECT e FROM u ORDER BY e",
    "SELECT 1; SELECT 2",
    "INSERT INTO t (a, e) VALUES (1, 2)",
    "UPDATE t SET e = 1 WHERE true",
    "UPDATE t AS x SET b = t.c WHERE true",
    "DELETE FROM t WHERE e = 1",
    "WITH q AS (SELECT 1 AS a) SELECT b FROM q",
    "SELECT * FROM",
    "SELECT 'open",
    "",
]


@pytest.mark.parametrize("sql", UNKNOWN)
def test_what_spanner_does_not_understand_is_unreadable(
    server: Server, sessions: dict[Lacks | None, str], sql: str
) -> None:
    assert server.refusal(sessions[None], sql)
    with pytest.raises(UnreadableStatement):
        pg_accesses(parse_pg_ddl(";".join(schema_without(None))), sql)


# Schemas.

SCHEMA = """
    -- Comments /* of
    CREATE TABLE everything ( /* every /* nested */ kind */
      id varchar(36) DEFAULT spanner.generate_uuid() NOT NULL, -- the key
      b bool, i bigint NOT NULL, i2 int8, f double precision, f4 real, n numeric, d date, ts timestamptz, j jsonb,
      s text, s5 character varying(5), y bytea, ai bigint[], ast varchar(3)[], ct spanner.commit_timestamp,
      g bigint GENERATED ALWAYS AS (i + 1) STORED, "Order" bigint DEFAULT (1 + (2 * 3)), semi text DEFAULT ';--',
      CONSTRAINT positive CHECK (i > 0), CHECK (s <> 'a''b'), PRIMARY KEY (id)
    ) TTL INTERVAL '30 days' ON ts;
    CREATE TABLE parents (a bigint, b varchar(10), PRIMARY KEY (b, a));
    CREATE TABLE children (b varchar(10), a bigint, c bigint NOT NULL, v text, w text, PRIMARY KEY (b, a, c))
      INTERLEAVE IN PARENT parents ON DELETE CASCADE;
    CREATE TABLE refers (x bigint PRIMARY KEY, y bigint, z bigint REFERENCES refers (x),
      CONSTRAINT fk FOREIGN KEY (y) REFERENCES refers (x));
    CREATE INDEX by_v ON children (v DESC, c) INCLUDE (w) WHERE v IS NOT NULL;
    CREATE UNIQUE INDEX by_y ON refers (y);
    CREATE INDEX IF NOT EXISTS by_y ON refers (z);
    ALTER TABLE refers ADD COLUMN w text;
    ALTER TABLE refers ADD COLUMN IF NOT EXISTS w bigint;
    ALTER TABLE refers ALTER COLUMN w TYPE varchar(7);
    ALTER TABLE refers ALTER COLUMN y SET DEFAULT 1;
    ALTER TABLE refers ADD CONSTRAINT cc CHECK (x > 0);
    ALTER TABLE refers DROP CONSTRAINT cc;
    ALTER TABLE refers ADD COLUMN gone text;
    ALTER TABLE refers DROP COLUMN gone;
    ALTER INDEX by_y ADD INCLUDE COLUMN w;
    CREATE TABLE gone (x bigint PRIMARY KEY);
    DROP TABLE gone;
    DROP TABLE IF EXISTS gone;
    CREATE VIEW seen SQL SECURITY INVOKER AS SELECT r.x FROM refers r;
    CREATE OR REPLACE VIEW seen SQL SECURITY DEFINER AS SELECT r.y AS "Y" FROM refers r;
    CREATE SEQUENCE numbers BIT_REVERSED_POSITIVE;
    CREATE CHANGE STREAM changes FOR ALL;
    CREATE SCHEMA sales;
    CREATE TABLE sales.items (id bigint PRIMARY KEY, price double precision);
    CREATE INDEX by_price ON sales.items (price);
    CREATE TABLE items (id bigint PRIMARY KEY, name text);
"""
# Each is tried alone, after BASE; both accept it or both refuse it.
BASE = (
    "CREATE TABLE t (id bigint PRIMARY KEY, a varchar(5), b bigint)",
    "CREATE INDEX by_a ON t (a) INCLUDE (b)",
    "CREATE TABLE c (id bigint, n bigint, PRIMARY KEY (id, n)) INTERLEAVE IN PARENT t",
    "CREATE VIEW v SQL SECURITY INVOKER AS SELECT t.id FROM t",
)
DDL = [
    "CREATE TABLE x (id bigint PRIMARY KEY)",
    "CREATE TABLE x (id bigint)",
    "CREATE TABLE x (id bigint PRIMARY KEY, PRIMARY KEY (id))",
    "CREATE TABLE x (id bigint PRIMARY KEY, n bigint PRIMARY KEY)",
    "CREATE TABLE x (id bigint, PRIMARY KEY (nothing))",
    "CREATE TABLE x (id bigint, PRIMARY KEY (id, id))",
    "CREATE TABLE x (id bigint PRIMARY KEY, id text)",
    "CREATE TABLE x (id bigint PRIMARY KEY, ID text)",
    "CREATE TABLE T (id bigint PRIMARY KEY)",
    'CREATE TABLE "T" (id bigint PRIMARY KEY)',
    "CREATE TABLE by_a (id bigint PRIMARY KEY)",
    "CREATE TABLE v (id bigint PRIMARY KEY)",
    'CREATE TABLE "X" ("Id" bigint, PRIMARY KEY ("Id"))',
    'CREATE TABLE "X" ("Id" bigint, PRIMARY KEY (Id))',
    'CREATE TABLE "a.b" (id bigint PRIMARY KEY)',
    "CREATE TABLE pg_x (id bigint PRIMARY KEY)",
    "CREATE TABLE nothing.x (id bigint PRIMARY KEY)",
    "CREATE TABLE public.x (id bigint PRIMARY KEY)",
    "CREATE TABLE public.t (id bigint PRIMARY KEY)",
    "CREATE TABLE x (id money PRIMARY KEY)",
    "CREATE TABLE x (id integer PRIMARY KEY)",
    "CREATE TABLE x (id smallint PRIMARY KEY)",
    "CREATE TABLE x (id bigint PRIMARY KEY, n timestamp)",
    "CREATE TABLE x (id bigint PRIMARY KEY, n json)",
    "CREATE TABLE x (id bigint PRIMARY KEY, n char(3))",
    "CREATE TABLE x (id bigint PRIMARY KEY, n t)",
    "CREATE TABLE x (id bigint PRIMARY KEY, n bigint UNIQUE)",
    "CREATE TABLE x (id bigint PRIMARY KEY) nonsense",
    "CREATE TABLE x (id bigint PRIMARY KEY, d timestamptz) TTL INTERVAL '1 day' ON d",
    "CREATE TABLE x (id bigint PRIMARY KEY) TTL INTERVAL '1 day' ON nothing",
    "CREATE TABLE x (id bigint, n bigint, PRIMARY KEY (id, n)) INTERLEAVE IN PARENT nothing",
    "CREATE TABLE x (id bigint PRIMARY KEY REFERENCES t (id))",
    "CREATE TABLE x (id bigint PRIMARY KEY, FOREIGN KEY (nothing) REFERENCES t (id))",
    "CREATE TABLE x (id bigint PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (nothing))",
    "CREATE TABLE x (id bigint PRIMARY KEY, FOREIGN KEY (id) REFERENCES nothing (id))",
    "CREATE TEMP TABLE x (id bigint PRIMARY KEY)",
    "CREATE TABLE x AS SELECT 1",
    "CREATE INDEX i ON t (b)",
    "CREATE INDEX by_a ON t (b)",
    "CREATE INDEX i ON t (nothing)",
    "CREATE INDEX i ON nothing (a)",
    "CREATE INDEX i ON t (a) INCLUDE (nothing)",
    "CREATE INDEX i ON t (a) INCLUDE (a)",
    "CREATE INDEX i ON t ((a || 'x'))",
    "CREATE INDEX ON t (a)",
    "ALTER TABLE t ADD COLUMN a text",
    "ALTER TABLE t DROP COLUMN nothing",
    "ALTER TABLE t DROP COLUMN id",
    "ALTER TABLE t DROP COLUMN a",
    "ALTER TABLE nothing ADD COLUMN a text",
    "ALTER TABLE t ALTER COLUMN nothing SET NOT NULL",
    "ALTER INDEX by_a ADD INCLUDE COLUMN nothing",
    "ALTER INDEX by_a DROP INCLUDE COLUMN b",
    "DROP TABLE t",
    "DROP TABLE nothing",
    "DROP TABLE v",
    "DROP INDEX nothing",
    "DROP INDEX by_a",
    "DROP VIEW v",
    "DROP VIEW nothing",
    "CREATE VIEW w AS SELECT t.id FROM t",
    "CREATE VIEW w SQL SECURITY NOBODY AS SELECT t.id FROM t",
    "CREATE VIEW t SQL SECURITY INVOKER AS SELECT 1 AS x",
    "CREATE SCHEMA s",
    "CREATE SCHEMA pg_s",
    "TRUNCATE t",
    "SELECT 1",
]


READS = [
    ("sales.items", "", True),
    ("SALES.Items", "", True),
    ("sales.items", "sales.by_price", True),
    ("sales.items", "by_price", False),
    ("items", "", True),
    ("public.items", "", False),
    ('"items"', "", False),
]


def test_tables_and_indexes_are_called_in_the_api_as_in_the_schema(server: Server) -> None:
    schema = parse_pg_ddl(SCHEMA)
    with server.database(schema.statements) as session:
        for table, index, known in READS:
            request = ReadRequest(session=session, table=table, index=index, columns=["id"], key_set={"all_": True})
            try:
                server.spanner.read(request, retry=None, timeout=SECONDS)
                theirs = True
            except google_errors.NotFound:
                theirs = False
            ours = schema.table(table) is not None and (not index or schema.index(index) is not None)
            assert ours == theirs == known, (table, index)


def test_a_schema_is_read_as_spanner_reads_it(server: Server) -> None:
    """What the database says its schema is has the same tables, indexes and objects as the text it was made from."""
    wanted = parse_pg_ddl(SCHEMA)
    with server.database(wanted.statements) as session:
        found = parse_pg_ddl(server.ddl(session))

    def tables(schema: object) -> object:
        return sorted(
            (one.name, [(c.name, c.type, c.generated, c.not_null) for c in one.columns], one.primary_key, one.parent)
            for one in schema.tables  # type: ignore[attr-defined]
        )

    assert tables(found) == tables(wanted)
    assert sorted(map(repr, found.indexes)) == sorted(map(repr, wanted.indexes))
    # This emulator says INVOKER of every view.
    assert {(one.kind, one.name) for one in found.objects} == {(one.kind, one.name) for one in wanted.objects}


@pytest.mark.parametrize("statement", DDL)
def test_spangate_and_spanner_accept_and_refuse_the_same_statements(server: Server, statement: str) -> None:
    try:
        parse_pg_ddl(";".join((*BASE, statement)))
        ours = ""
    except DdlError as error:
        ours = str(error)
    try:
        with server.database((*BASE, statement)):
            theirs = ""
    except google_errors.GoogleAPICallError as error:
        theirs = str(error)
    assert bool(ours) == bool(theirs), ours or theirs
