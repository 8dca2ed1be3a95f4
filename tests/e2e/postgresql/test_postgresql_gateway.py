"""Promise: `spangate up` serves PostgreSQL-dialect databases and decides about statements, reads and mutations."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from e2e.harness import Up, edit, eventually

pytestmark = pytest.mark.e2e

INTENT = """\
spangate: v1
trust_domain: shop.example
databases:
  shop: {instance: main, database: shop, schema: schema.sql, dialect: postgresql}
  told: {instance: main, database: told, schema: live, dialect: postgresql}
identities:
  clerk:    {workload: shop/clerk}
  auditor:  {workload: shop/auditor}
access:
  clerk:
    shop:
      read: ["orders(id, total)", big]
      insert: [orders]
      update: ["orders(total)", numbers]
    told:
      ddl: true
      schema: true
  auditor:
    shop:
      read: ["*"]
      deny: {read: ["orders(secret)"]}
"""
# What can be granted once there is a table.
MORE = """\
    told: {read: [people]}
"""
SCHEMA = """
    -- A /* nested /* comment */ */ and what it hides
    CREATE TABLE Orders (id bigint PRIMARY KEY, total bigint, secret text);
    CREATE INDEX by_total ON orders (total);
    CREATE VIEW big SQL SECURITY DEFINER AS SELECT o.id FROM orders o WHERE o.total > 10;
    CREATE SEQUENCE numbers BIT_REVERSED_POSITIVE;
"""
PROGRAM = """
import sys
from google.api_core import exceptions
from google.cloud import spanner

database = spanner.Client(project="spangate-local").instance("main").database(sys.argv[1])

def ddl(*statements):
    database.update_ddl(list(statements)).result(60)
    print("changed")

def sql(text, params=None, types=None):
    with database.snapshot() as snapshot:
        print(sorted(map(tuple, snapshot.execute_sql(text, params, types))))

def change(text):
    print(database.run_in_transaction(lambda transaction: transaction.execute_update(text)))

def read(columns, index=""):
    with database.snapshot() as snapshot:
        print(sorted(map(tuple, snapshot.read("orders", columns, spanner.KeySet(all_=True), index=index))))

def insert(table, columns, *values):
    with database.batch() as batch:
        batch.insert(table, columns, [values])
    print("inserted")

try:
    exec(sys.argv[2])
except exceptions.PermissionDenied as error:
    print("denied:", error.message)
"""


@pytest.fixture(scope="module")
def up(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("postgresql")
    (folder / "spangate.yaml").write_text(INTENT)
    (folder / "schema.sql").write_text(SCHEMA)
    (folder / "program.py").write_text(PROGRAM)
    found = Up(folder).wait_until_up()
    yield found
    found.end()


def does(up: Up, identity: str, what: str, database: str = "shop") -> str:
    done = up.run(identity, sys.executable, "program.py", database, what)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_statements_reads_and_mutations_are_decided_by_the_schema(up: Up) -> None:
    assert does(up, "clerk", "change('INSERT INTO orders (id, total, secret) VALUES (1, 20, \\'x\\')')") == "1"
    assert does(up, "clerk", "insert('orders', ('id', 'total'), 2, 5)") == "inserted"
    assert does(up, "clerk", "sql('SELECT o.ID, total FROM Orders AS o ORDER BY 1')") == "[(1, 20), (2, 5)]"
    parameter = "sql('SELECT id FROM orders WHERE total = $1', {'p1': 5}, {'p1': spanner.param_types.INT64})"
    assert does(up, "clerk", parameter) == "[(2,)]"
    assert does(up, "clerk", "sql('SELECT id FROM big')") == "[(1,)]"
    assert does(up, "clerk", "read(['id'], 'by_total')") == "[(1,), (2,)]"
    assert does(up, "clerk", "change('UPDATE orders SET total = total + 1 WHERE id = 2')") == "1"
    from_sequence = "change('INSERT INTO orders (id) VALUES (nextval(\\'numbers\\'))')"
    assert does(up, "clerk", from_sequence) == "1"
    assert does(up, "auditor", from_sequence).startswith("denied: ")


@pytest.mark.parametrize(
    "what",
    [
        "sql('SELECT secret FROM orders')",
        "sql('SELECT id FROM orders WHERE secret IS NULL')",
        "sql('SELECT * FROM orders')",
        "sql('SELECT (SELECT secret FROM orders LIMIT 1)')",
        "sql('WITH q AS (SELECT secret FROM orders) SELECT 1')",
        "sql('SELECT table_name FROM information_schema.tables')",
        "change('DELETE FROM orders WHERE true')",
        "change('UPDATE orders SET secret = id::text WHERE true')",
        "change('INSERT INTO orders (id) VALUES (9) RETURNING secret')",
        "read(['secret'])",
    ],
)
def test_what_is_not_granted_is_denied(up: Up, what: str) -> None:
    assert does(up, "clerk", what).startswith("denied: ")


def test_exceptions_hold_for_stars_too(up: Up) -> None:
    assert does(up, "auditor", "sql('SELECT COUNT(id) FROM orders WHERE id < 0')") == "[(0,)]"
    assert does(up, "auditor", "sql('SELECT * FROM orders')").startswith("denied: ")


def test_the_question_clients_ask_at_start_is_allowed(up: Up) -> None:
    question = "select option_value from information_schema.database_options where option_name=\\'database_dialect\\'"
    assert "POSTGRESQL" in does(up, "clerk", f"sql('{question}')").upper()


def test_a_live_schema_follows_changes_made_through_the_gateway(up: Up) -> None:
    made = "ddl('CREATE TABLE people (id bigint PRIMARY KEY, name text)')"
    assert does(up, "clerk", made, "told") == "changed"
    intent = up.folder / "spangate.yaml"
    edit(intent, ("      schema: true\n", "      schema: true\n      insert: [people]\n"))
    intent.write_text(intent.read_text() + MORE)
    eventually(lambda: does(up, "auditor", "sql('SELECT name FROM people')", "told") == "[]", "the table is known", 20)
    assert does(up, "clerk", "insert('people', ('id', 'name'), 1, 'Ada')", "told") == "inserted"
    assert does(up, "auditor", "sql('SELECT * FROM people')", "told") == "[(1, 'Ada')]"
    assert does(up, "auditor", "change('DELETE FROM people WHERE true')", "told").startswith("denied: ")
