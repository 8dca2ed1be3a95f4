"""Promise: `schema: live` follows the database's own schema, and a stale one never widens access."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import Up, edit, eventually, spangate

pytestmark = pytest.mark.e2e

INTENT = """\
spangate: v1
trust_domain: shop.example
databases:
  shop: {instance: main, database: shop, schema: live}
identities:
  migrator: {workload: shop/migrator}
  reader:   {workload: shop/reader}
  narrow:   {workload: shop/narrow}
access:
  migrator:
    shop:
      ddl: true
      schema: true
      insert: ["*"]
  reader:
    shop:
      read: ["*"]
"""
NARROW = """\
  narrow:
    shop:
      read: ["People(Id, Name)"]
"""

PROGRAM = """
import sys
from google.api_core import exceptions
from google.cloud import spanner

database = spanner.Client(project="spangate-local").instance("main").database("shop")

def ddl(*statements):
    database.update_ddl(list(statements)).result(60)
    print("changed")

def insert(table, columns, *values):
    with database.batch() as batch:
        batch.insert(table, columns, [values])
    print("inserted")

def sql(text):
    try:
        with database.snapshot() as snapshot:
            print(sorted(map(tuple, snapshot.execute_sql(text))))
    except exceptions.PermissionDenied as error:
        print("denied:", error.message)

def statements():
    database.reload()
    print(len(database.ddl_statements))

exec(sys.argv[1])
"""
PEOPLE = "CREATE TABLE People (Id INT64, Name STRING(MAX)) PRIMARY KEY (Id)"


@pytest.fixture(scope="module")
def up(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("live")
    (folder / "spangate.yaml").write_text(INTENT)
    (folder / "program.py").write_text(PROGRAM)
    found = Up(folder).wait_until_up()
    yield found
    found.end()


def does(up: Up, identity: str, what: str) -> str:
    done = up.run(identity, sys.executable, "program.py", what)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def soon(up: Up, identity: str, what: str, wanted: str) -> None:
    eventually(lambda: wanted in does(up, identity, what), f"{identity}: {what} -> {wanted}", 20)


def test_a_table_made_through_the_gateway_is_known_soon_and_its_new_columns_too(up: Up) -> None:
    assert does(up, "migrator", f"ddl('{PEOPLE}')") == "changed"
    soon(up, "reader", "sql('SELECT * FROM People')", "[]")
    assert does(up, "migrator", "insert('People', ('Id', 'Name'), 1, 'Ada')") == "inserted"
    assert does(up, "reader", "sql('SELECT Name FROM People')") == "[('Ada',)]"
    assert does(up, "migrator", "ddl('ALTER TABLE People ADD COLUMN Born INT64')") == "changed"
    soon(up, "reader", "sql('SELECT Born FROM People')", "[(None,)]")


def test_reading_the_schema_and_changing_it_are_grants_of_their_own(up: Up) -> None:
    assert does(up, "migrator", "statements()") == "1"
    for what in ("ddl('DROP TABLE People')", "statements()"):
        refused = up.run("reader", sys.executable, "program.py", what)
        assert refused.returncode != 0
        assert "in shop [missing-grant" in refused.stderr
    assert does(up, "migrator", "statements()") == "1"


def test_a_column_that_the_gate_does_not_know_yet_is_not_read_by_who_was_given_a_list(up: Up) -> None:
    edit(up.folder / "spangate.yaml", ('read: ["*"]\n', 'read: ["*"]\n' + NARROW))
    soon(up, "narrow", "sql('SELECT Id, Name FROM People')", "[(1, 'Ada')]")
    # Behind the gate's back, and asked at once: what is known of the schema is stale.
    with up.direct() as spanner:
        add_column(spanner.channel)
    assert "denied: " in does(up, "narrow", "sql('SELECT * FROM People')")
    assert "denied: " in does(up, "narrow", "sql('SELECT Secret FROM People')")
    time.sleep(6)
    assert "denied: " in does(up, "narrow", "sql('SELECT * FROM People')")
    assert does(up, "narrow", "sql('SELECT Id, Name FROM People')") == "[(1, 'Ada')]"


def test_commands_beside_it_know_the_live_schema(up: Up) -> None:
    assert spangate("check", cwd=up.folder).returncode == 0
    explained = spangate("explain", "--as", "reader", "--sql", "SELECT Name FROM People", cwd=up.folder)
    assert "reader may read People(Name) in shop" in explained.stdout


def test_without_a_spanner_the_commands_say_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "spangate.yaml").write_text(INTENT)
    refused = spangate("check", cwd=tmp_path, SPANNER_EMULATOR_HOST="")
    assert refused.returncode == 2
    assert "no Spanner runs that could tell it" in refused.stderr
    assert "start `spangate up`" in refused.stderr


def add_column(channel: object) -> None:
    from google.cloud.spanner_admin_database_v1 import UpdateDatabaseDdlRequest
    from google.longrunning.operations_pb2 import Operation

    call = channel.unary_unary(  # type: ignore[attr-defined]
        "/google.spanner.admin.database.v1.DatabaseAdmin/UpdateDatabaseDdl",
        request_serializer=UpdateDatabaseDdlRequest.serialize,
        response_deserializer=Operation.FromString,
    )
    call(
        UpdateDatabaseDdlRequest(
            database="projects/spangate-local/instances/main/databases/shop",
            statements=["ALTER TABLE People ADD COLUMN Secret STRING(MAX)"],
        )
    )
