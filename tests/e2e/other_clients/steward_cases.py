"""Less ordinary uses of Google's client for Python, and of SQLAlchemy; prints what each found. Knows no Spangate."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
import time
from typing import Any

from google.api_core.exceptions import GoogleAPICallError
from google.cloud import spanner
from google.cloud.spanner_v1 import types
from google.cloud.spanner_v1.keyset import KeySet
from sqlalchemy import create_engine, inspect

PROJECT = os.environ["GOOGLE_CLOUD_PROJECT"]
URL = f"spanner+spanner:///projects/{PROJECT}/instances/main/databases/post"
DDL_SECONDS = 60


def rows(database: Any) -> None:
    with database.batch() as batch:
        batch.insert_or_update("Parcels", ("ParcelId", "Sender"), [(number, "s") for number in (301, 302, 303)])


def many_at_once(database: Any) -> Any:
    """Partitioned DML; then what it changed."""
    rows(database)
    changed = database.execute_partitioned_dml(
        "UPDATE Parcels SET Sender = @new WHERE ParcelId BETWEEN 301 AND 303",
        params={"new": "t"},
        param_types={"new": spanner.param_types.STRING},
    )
    with database.snapshot() as snapshot:
        found = snapshot.execute_sql("SELECT DISTINCT Sender FROM Parcels WHERE ParcelId BETWEEN 301 AND 303")
        return {"changed": changed, "found": [list(row) for row in found]}


def partitions(database: Any) -> Any:
    """A query and a read in parts; each part is read by a process of its own."""
    rows(database)
    snapshot = database.batch_snapshot()
    sql = "SELECT ParcelId FROM Parcels WHERE ParcelId BETWEEN 301 AND 303"
    parts = [*snapshot.generate_query_batches(sql)]
    keys = KeySet(keys=[[301], [303]])
    parts += snapshot.generate_read_batches("Parcels", ("ParcelId",), keys)
    found = []
    for part in parts:
        given = base64.b64encode(pickle.dumps((snapshot.to_dict(), part))).decode()
        done = subprocess.run([sys.executable, __file__, "part", given], capture_output=True, text=True, check=True)
        found += json.loads(done.stdout)
    snapshot.close()
    return sorted(found)


def handed_over(database: Any) -> str:
    """A part of a query, for whoever comes by it."""
    snapshot = database.batch_snapshot()
    part = next(iter(snapshot.generate_query_batches("SELECT ParcelId FROM Parcels")))
    return base64.b64encode(pickle.dumps((snapshot.to_dict(), part))).decode()


def part(given: str) -> None:
    """In the other process."""
    database = spanner.Client(project=PROJECT).instance("main").database("post")
    snapshot_dict, batch = pickle.loads(base64.b64decode(given))
    snapshot = database.batch_snapshot().from_dict(database, snapshot_dict)
    try:
        print(json.dumps([row[0] for row in snapshot.process(batch)]))
    except GoogleAPICallError as error:
        print(json.dumps({"kind": type(error).__name__, "message": str(error)}))


def schema(database: Any) -> Any:
    """The schema is changed, read back, and changed again."""
    database.update_ddl(["CREATE TABLE Drafts (DraftId INT64) PRIMARY KEY (DraftId)"]).result(DDL_SECONDS)
    database.reload()
    made = [text.split("(")[0].strip() for text in database.ddl_statements if "Drafts" in text]
    database.update_ddl(["DROP TABLE Drafts"]).result(DDL_SECONDS)
    database.reload()
    return {"made": made, "left": [text for text in database.ddl_statements if "Drafts" in text]}


def roles(database: Any) -> Any:
    """Roles are not for clients to make, whoever they are."""
    return told(lambda: database.update_ddl(["CREATE ROLE auditor"]).result(DDL_SECONDS))


def reflected(database: Any) -> Any:
    """What SQLAlchemy finds out about the schema by INFORMATION_SCHEMA."""
    found = inspect(create_engine(URL))
    return {
        "tables": sorted(found.get_table_names()),
        "columns": [column["name"] for column in found.get_columns("Ledger")],
        "key": found.get_pk_constraint("Parcels")["constrained_columns"],
        "indexes": [[one["name"], one["column_names"], one["unique"]] for one in found.get_indexes("Parcels")],
        "foreign": found.get_foreign_keys("Ledger"),
    }


def slips(database: Any) -> Any:
    """A program's own mistakes have the classes that Spanner gives them."""

    def statement() -> Any:
        with database.snapshot() as snapshot:
            return list(snapshot.execute_sql("SELECT Nothing FROM Parcels"))

    def read() -> Any:
        with database.snapshot() as snapshot:
            return list(snapshot.read("Nowhere", ("Id",), KeySet(all_=True)))

    def write() -> None:
        with database.batch() as batch:
            batch.insert("Parcels", ("Nothing",), [(1,)])

    return [told(work)["kind"] for work in (statement, read, write)]


def empty_batch(database: Any) -> Any:
    """The client asks Spanner, and Spanner says what it thinks of it."""

    def work(transaction: Any) -> Any:
        transaction.begin()
        status, counts = transaction.batch_update([])
        return [status.code, counts]

    return told(lambda: database.run_in_transaction(work))


def groups(database: Any) -> Any:
    """BatchWrite: groups of mutations, each applied as a whole."""
    with database.mutation_groups() as found:
        for number in (311, 312):
            found.group().insert_or_update("Parcels", ("ParcelId", "Sender"), [(number, "g")])
        return told(lambda: sorted(index for answer in found.batch_write() for index in answer.indexes))


def own_sessions(database: Any) -> Any:
    """Every session that is listed is one that this identity made."""
    api = database.spanner_api
    made = {api.create_session(database=database.name).name for _ in range(2)}
    listed = {one.name for one in api.list_sessions(types.ListSessionsRequest(database=database.name, page_size=1000))}
    for name in made:
        api.delete_session(name=name)
    return made <= listed


def told(work: Any) -> Any:
    started = time.monotonic()
    try:
        return {"answered": work()}
    except GoogleAPICallError as error:
        return {"kind": type(error).__name__, "message": str(error), "seconds": time.monotonic() - started}


def denied(database: Any) -> Any:
    """What a program meets that may write, but not like this."""
    sql = "UPDATE Parcels SET Sender = 'x' WHERE true"
    return {
        "many_at_once": told(lambda: database.execute_partitioned_dml(sql)),
        "schema": told(lambda: database.update_ddl(["DROP TABLE Parcels"]).result(DDL_SECONDS)),
        "reading the schema": told(database.reload),
        "reflection": told(lambda: inspect(create_engine(URL)).get_table_names()),
    }


CASES = {
    case.__name__: case
    for case in (
        many_at_once,
        partitions,
        handed_over,
        schema,
        roles,
        reflected,
        slips,
        empty_batch,
        groups,
        own_sessions,
        denied,
    )
}


def main() -> int:
    database = spanner.Client(project=PROJECT).instance("main").database("post")
    failed = 0
    for name in sys.argv[1:]:
        try:
            print(json.dumps({"case": name, "found": CASES[name](database)}), flush=True)
        except GoogleAPICallError as error:
            print(json.dumps({"case": name, "error": str(error)}), flush=True)
            failed = 1
    return failed


if __name__ == "__main__":
    if sys.argv[1] == "part":
        part(sys.argv[2])
        code = 0
    else:
        code = main()
    sys.stdout.flush()
    # The client's own maintenance thread sleeps for ten minutes at a time.
    os._exit(code)
