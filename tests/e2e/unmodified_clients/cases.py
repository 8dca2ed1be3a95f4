"""Ordinary uses of the Spanner client library, one function each; prints what each found as JSON. Knows no Spangate."""

from __future__ import annotations

import base64
import datetime
import json
import sys
from decimal import Decimal
from typing import Any

from google.api_core.exceptions import Aborted, GoogleAPIError
from google.cloud import spanner
from google.cloud.spanner_v1 import COMMIT_TIMESTAMP, JsonObject, KeyRange, KeySet, TransactionOptions, param_types

COLUMNS = ("Id", "B", "F", "N", "S", "Y", "D", "T", "J", "A", "L")
MOMENT = datetime.datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)
VALUES: tuple[Any, ...] = (
    True,
    1.5,
    Decimal("12.34"),
    "täxt",
    base64.b64encode(b"\x00\xff"),
    datetime.date(2030, 1, 2),
    MOMENT,
    JsonObject({"a": [1, None]}),
    [1, None, 3],
    ["x", ""],
)


def rows(found) -> list[list[str]]:
    return [[str(value) for value in row] for row in found]


def mutations(db) -> Any:
    """Each kind of mutation, outside of a transaction of one's own."""
    with db.batch() as batch:
        batch.insert("Things", COLUMNS, [(1, *VALUES), (2, *VALUES), (3, *VALUES)])
    with db.batch() as batch:
        batch.update("Things", ("Id", "S"), [(1, "updated")])
        batch.insert_or_update("Things", ("Id", "S", "Stamped"), [(2, "changed", COMMIT_TIMESTAMP), (4, "new", None)])
        batch.replace("Things", ("Id", "S"), [(3, "replaced")])
    with db.batch() as batch:
        batch.delete("Things", KeySet(keys=[[4]], ranges=[KeyRange(start_closed=[100], end_open=[200])]))
    with db.snapshot() as snapshot:
        found = rows(snapshot.read("Things", ("Id", "B", "S", "Stamped"), KeySet(all_=True)))
    stamp = f"{batch.committed:%Y-%m-%dT%H:%M}"
    return {"rows": [row[:3] for row in found], "stamped": found[1][3] != "None", "stamp": bool(stamp)}


def types(db) -> Any:
    """Every usual type there and back, by read and as a parameter."""
    with db.batch() as batch:
        batch.insert_or_update("Things", COLUMNS, [(7, *VALUES)])
    kinds = [
        param_types.BOOL,
        param_types.FLOAT64,
        param_types.NUMERIC,
        param_types.STRING,
        param_types.BYTES,
        param_types.DATE,
        param_types.TIMESTAMP,
        param_types.JSON,
        param_types.Array(param_types.INT64),
        param_types.Array(param_types.STRING),
    ]
    names = [f"p{i}" for i in range(len(VALUES))]
    with db.snapshot() as snapshot:
        ((*read,),) = snapshot.read("Things", COLUMNS[1:], KeySet(keys=[[7]]))
    with db.snapshot() as snapshot:
        ((*echoed,),) = snapshot.execute_sql(
            "SELECT " + ", ".join(f"@{name}" for name in names),
            params=dict(zip(names, VALUES, strict=True)),
            param_types=dict(zip(names, kinds, strict=True)),
        )
    return {"read": [str(value) for value in read], "echoed": [str(value) for value in echoed]}


def structs(db) -> Any:
    """Struct and array-of-struct parameters, arrays in WHERE, nulls, untyped parameters."""
    kind = param_types.Struct(
        [param_types.StructField("Id", param_types.INT64), param_types.StructField("S", param_types.STRING)]
    )
    found = []
    with db.snapshot(multi_use=True) as snapshot:
        found += rows(snapshot.execute_sql("SELECT @s.Id, @s.S", params={"s": (7, "seven")}, param_types={"s": kind}))
        found += rows(
            snapshot.execute_sql(
                "SELECT t.Id FROM Things AS t WHERE STRUCT<Id INT64, S STRING>(t.Id, t.S) IN UNNEST(@s)",
                params={"s": [(7, "täxt"), (8, "no")]},
                param_types={"s": param_types.Array(kind)},
            )
        )
        found += rows(
            snapshot.execute_sql(
                "SELECT Id FROM Things WHERE Id IN UNNEST(@ids)",
                params={"ids": [7, 99]},
                param_types={"ids": param_types.Array(param_types.INT64)},
            )
        )
        found += rows(snapshot.execute_sql("SELECT Id FROM Things WHERE S = @s", params={"s": "täxt"}))
    return found


def snapshots(db) -> Any:
    """Single use and multi use; strong, exact and bounded staleness; table and index reads."""
    with db.batch() as batch:
        batch.insert_or_update("Things", COLUMNS, [(7, *VALUES)])
    found = []
    with db.snapshot() as snapshot:
        found += rows(snapshot.execute_sql("SELECT COUNT(*) FROM Things WHERE Id = 7"))
    with db.snapshot(multi_use=True) as snapshot:
        found += rows(snapshot.read("Things", ("Id",), KeySet(keys=[[7]])))
        found += rows(snapshot.read("Things", ("Id", "B"), KeySet(keys=[["täxt"]]), index="ThingsByS"))
        found += rows(snapshot.execute_sql("SELECT S FROM Things WHERE Id = 7"))
    with db.snapshot(read_timestamp=batch.committed) as snapshot:
        found += rows(snapshot.read("Things", ("S",), KeySet(keys=[[7]])))
    with db.snapshot(exact_staleness=datetime.timedelta(0)) as snapshot:
        found += rows(snapshot.read("Things", ("S",), KeySet(keys=[[7]]), limit=1))
    with db.snapshot(max_staleness=datetime.timedelta(seconds=0)) as snapshot:
        found += rows(snapshot.read("Things", ("Id",), KeySet(keys=[[7]])))
    return found


def transactions(db) -> Any:
    """DML, THEN RETURN, batch DML, reads and mutations in one transaction; commit timestamps; rollback."""
    number = {"id": param_types.INT64}

    def work(transaction):
        count = transaction.execute_update(
            "INSERT INTO Things (Id, S, Stamped) "
            "VALUES (20, 'a', PENDING_COMMIT_TIMESTAMP()), (21, 'b', PENDING_COMMIT_TIMESTAMP())"
        )
        returned = rows(
            transaction.execute_sql(
                "UPDATE Things SET S = 'c' WHERE Id = @id THEN RETURN Id, S", params={"id": 20}, param_types=number
            )
        )
        status, counts = transaction.batch_update(
            [
                "INSERT INTO Things (Id, S) VALUES (22, 'd')",
                ("UPDATE Things SET S = 'e' WHERE Id = @id", {"id": 22}, number),
                ("DELETE FROM Things WHERE Id = @id", {"id": 21}, number),
            ]
        )
        seen = rows(transaction.read("Things", ("Id",), KeySet(keys=[[20], [21], [22]])))
        transaction.insert_or_update("Things", ("Id", "S"), [(23, "f")])
        return transaction, [count, returned, status.code, list(counts), seen]

    transaction, found = db.run_in_transaction(work)
    with db.snapshot(multi_use=True) as snapshot:
        after = rows(snapshot.execute_sql("SELECT Id, S FROM Things WHERE Id BETWEEN 20 AND 23 ORDER BY Id"))
        ((at,),) = snapshot.execute_sql("SELECT Stamped FROM Things WHERE Id = 20")

    class OnPurposeError(Exception):
        pass

    def changes_its_mind(transaction):
        transaction.execute_update("DELETE FROM Things WHERE true")
        raise OnPurposeError

    try:
        db.run_in_transaction(changes_its_mind)
    except OnPurposeError:
        found.append("rolled back")
    with db.snapshot() as snapshot:
        ((count,),) = snapshot.execute_sql("SELECT COUNT(*) FROM Things WHERE Id BETWEEN 20 AND 23")
    return {"inside": found, "after": after, "stamp": at == transaction.committed, "left": count}


def aborted(db) -> Any:
    """A transaction that another one pushes out is run again by the client's own logic, and then counts once."""
    with db.batch() as batch:
        batch.insert_or_update("Things", ("Id", "F"), [(30, 0.0)])
    attempts = []
    other = db.session(database_role=None)
    other.create()
    api = db.spanner_api

    def push_out() -> None:
        """Until one wins: the emulator lets the newcomer win one time in five."""
        for _ in range(200):
            try:
                begun = api.begin_transaction(
                    session=other.name, options=TransactionOptions(read_write=TransactionOptions.ReadWrite())
                )
                api.execute_sql(
                    request={
                        "session": other.name,
                        "transaction": {"id": begun.id},
                        "sql": "UPDATE Things SET F = F + 100 WHERE Id = 30",
                        "seqno": 1,
                    }
                )
            except Aborted:
                continue
            api.rollback(session=other.name, transaction_id=begun.id)
            return
        raise RuntimeError("nobody was aborted")

    def work(transaction):
        attempts.append(1)
        ((value,),) = transaction.execute_sql("SELECT F FROM Things WHERE Id = 30")
        if len(attempts) == 1:
            push_out()
        transaction.execute_update(
            "UPDATE Things SET F = @f WHERE Id = 30", params={"f": value + 1}, param_types={"f": param_types.FLOAT64}
        )

    db.run_in_transaction(work)
    other.delete()
    with db.snapshot() as snapshot:
        ((value,),) = snapshot.execute_sql("SELECT F FROM Things WHERE Id = 30")
    return {"attempts": len(attempts), "value": value}


def partitions(db) -> Any:
    """A query and a read in partitions, each fetched by itself."""
    with db.batch() as batch:
        batch.insert_or_update("Things", ("Id", "S"), [(40, "p"), (41, "q")])
    snapshot = db.batch_snapshot()
    queries = list(snapshot.generate_query_batches("SELECT Id, S FROM Things WHERE Id BETWEEN 40 AND 41"))
    reads = list(snapshot.generate_read_batches("Things", ("Id",), KeySet(keys=[[40], [41]])))
    found = [row for one in queries for row in rows(snapshot.process_query_batch(one))]
    found += [row for one in reads for row in rows(snapshot.process_read_batch(one))]
    snapshot.close()
    return sorted(found)


CASES = {case.__name__: case for case in (mutations, types, structs, snapshots, transactions, aborted, partitions)}


def main() -> int:
    db = spanner.Client().instance("main").database("lab")
    failed = 0
    for name in sys.argv[1:]:
        try:
            print(json.dumps({"case": name, "found": CASES[name](db)}), flush=True)
        except GoogleAPIError as error:
            print(json.dumps({"case": name, "error": str(error)}), flush=True)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
