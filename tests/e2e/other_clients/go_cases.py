"""Ordinary uses of Google's Go client, through its C library; prints what each found as JSON. Knows no Spangate."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from google.cloud.spanner_v1 import types
from google.cloud.spannerlib import Connection, Pool
from google.cloud.spannerlib.internal.errors import SpannerLibError
from google.protobuf import json_format, struct_pb2

DATABASE = f"projects/{os.environ['GOOGLE_CLOUD_PROJECT']}/instances/main/databases/post"
TYPES = {
    "Sender": ("STRING", "Zoë"),
    "Fragile": ("BOOL", True),
    "Weight": ("FLOAT64", 1.5),
    "Value": ("NUMERIC", "12.34"),
    "Label": ("BYTES", "AP8="),
    "Posted": ("DATE", "2030-01-02"),
    "Scanned": ("TIMESTAMP", "2030-01-02T03:04:05.678901Z"),
    "Details": ("JSON", '{"a":[1,null]}'),
    "Stops": ("ARRAY", ["1", None, "3"]),
}


def kind(code: str) -> types.Type:
    if code == "ARRAY":
        return types.Type(code="ARRAY", array_element_type=types.Type(code="INT64"))
    return types.Type(code=code)


def struct(values: dict[str, Any]) -> struct_pb2.Struct:
    found = struct_pb2.Struct()
    json_format.ParseDict(values, found)
    return found


def query(connection: Connection, sql: str, **params: tuple[str, Any]) -> Any:
    """Rows as lists of what stands on the wire; of DML without rows, how many it changed."""
    request = types.ExecuteSqlRequest(sql=sql)
    if params:
        request.params = struct({name: value for name, (_, value) in params.items()})
        request.param_types = {name: kind(code) for name, (code, _) in params.items()}
    rows = connection.execute(request)
    try:
        found = []
        while (row := rows.next()) is not None:
            found.append(json_format.MessageToDict(row))
        return found or rows.update_count()
    finally:
        rows.close()


def write(connection: Connection, operation: str, columns: tuple[str, ...], *values: list[Any]) -> bool:
    lists = [struct_pb2.ListValue() for _ in values]
    for found, row in zip(lists, values, strict=True):
        found.extend(row)
    mutation = types.Mutation({operation: {"table": "Parcels", "columns": columns, "values": lists}})
    answer = connection.write_mutations(types.BatchWriteRequest.MutationGroup(mutations=[mutation]))
    return answer is not None


def mutations(pool: Pool, connection: Connection) -> Any:
    applied = [
        write(connection, "insert_or_update", ("ParcelId", "Sender"), ["101", "a"], ["102", "b"]),
        write(connection, "update", ("ParcelId", "Sender"), ["101", "updated"]),
        write(connection, "replace", ("ParcelId", "Sender"), ["102", "replaced"]),
    ]
    return applied, query(connection, "SELECT ParcelId, Sender FROM Parcels WHERE ParcelId IN (101, 102) ORDER BY 1")


def parameters(pool: Pool, connection: Connection) -> Any:
    """Every type there and back."""
    names = ", ".join(f"@{name}" for name in TYPES)
    (echoed,) = query(connection, f"SELECT {names}", **TYPES)
    columns = ", ".join(TYPES)
    query(connection, "DELETE FROM Parcels WHERE ParcelId = 110")
    query(connection, f"INSERT INTO Parcels (ParcelId, {columns}) VALUES (110, {names})", **TYPES)
    (read,) = query(connection, f"SELECT {columns} FROM Parcels WHERE ParcelId = @id", id=("INT64", "110"))
    return {"echoed": dict(zip(TYPES, echoed, strict=True)), "same": read == echoed}


def transactions(pool: Pool, connection: Connection) -> Any:
    query(connection, "DELETE FROM Parcels WHERE ParcelId BETWEEN 120 AND 129")
    connection.begin_transaction()
    inserted = query(connection, "INSERT INTO Parcels (ParcelId, Sender) VALUES (120, 'a'), (121, 'b')")
    returned = query(connection, "UPDATE Parcels SET Sender = 'c' WHERE ParcelId = 120 THEN RETURN ParcelId, Sender")
    statements = ("INSERT INTO Parcels (ParcelId) VALUES (122)", "DELETE FROM Parcels WHERE ParcelId = 121")
    batch = connection.execute_batch(types.ExecuteBatchDmlRequest(statements=[{"sql": sql} for sql in statements]))
    write(connection, "insert", ("ParcelId",), ["123"])
    committed = connection.commit().commit_timestamp is not None
    connection.begin_transaction()
    query(connection, "DELETE FROM Parcels WHERE true")
    connection.rollback()
    connection.begin_transaction(types.TransactionOptions(read_only={"strong": True}))
    left = query(connection, "SELECT ParcelId FROM Parcels WHERE ParcelId BETWEEN 120 AND 129 ORDER BY 1")
    again = query(connection, "SELECT COUNT(*) FROM Parcels WHERE ParcelId BETWEEN 120 AND 129")
    connection.commit()
    counts = [result.stats.row_count_exact for result in batch.result_sets]
    return {"inserted": inserted, "returned": returned, "batch": counts, "committed": committed, "left": [left, again]}


def statements(pool: Pool, connection: Connection) -> Any:
    """What the driver takes as statements of its own: staleness, tags, transactions in SQL."""
    query(connection, "SET READ_ONLY_STALENESS = 'EXACT_STALENESS 0s'")
    stale = query(connection, "SELECT 1")
    query(connection, "SET READ_ONLY_STALENESS = 'STRONG'")
    query(connection, "SET STATEMENT_TAG = 'desk'")
    tagged = query(connection, "SELECT 2")
    query(connection, "BEGIN")
    query(connection, "SET TRANSACTION_TAG = 'desk'")
    query(connection, "UPDATE Parcels SET Sender = 'd' WHERE ParcelId = 110")
    query(connection, "COMMIT")
    return stale, tagged, query(connection, "SELECT Sender FROM Parcels WHERE ParcelId = 110")


def aborted(pool: Pool, connection: Connection) -> Any:
    """Two connections add to one number; the transaction that is aborted is run again by the client itself."""
    write(connection, "insert_or_update", ("ParcelId", "Weight"), ["130", 0.0])
    read = "SELECT Weight FROM Parcels WHERE ParcelId = 130"
    add = "UPDATE Parcels SET Weight = Weight + 1 WHERE ParcelId = 130"
    problems = []

    def other() -> None:
        try:
            second = pool.create_connection()
            second.begin_transaction()
            query(second, add)
            second.commit()
            second.close()
        except SpannerLibError as error:
            problems.append(str(error))

    connection.begin_transaction()
    query(connection, add)
    thread = threading.Thread(target=other)
    thread.start()
    # Long enough for the other's first statement to reach Spanner.
    time.sleep(0.3)
    connection.commit()
    thread.join(20)
    return {"problems": problems, "weight": query(connection, read)}


def many_at_once(pool: Pool, connection: Connection) -> Any:
    query(connection, "SET AUTOCOMMIT_DML_MODE = 'PARTITIONED_NON_ATOMIC'")
    changed = query(connection, "UPDATE Parcels SET Sender = 'many' WHERE ParcelId = 110")
    query(connection, "SET AUTOCOMMIT_DML_MODE = 'TRANSACTIONAL'")
    return [changed, query(connection, "SELECT Sender FROM Parcels WHERE ParcelId = 110")]


def schema(pool: Pool, connection: Connection) -> Any:
    query(connection, "CREATE TABLE Plans (Id INT64) PRIMARY KEY (Id)")
    made = query(connection, "SELECT COUNT(*) FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = 'Plans'")
    query(connection, "DROP TABLE Plans")
    return made


def denied(pool: Pool, connection: Connection) -> Any:
    """What a program meets that may not do it."""

    def told(work: Any) -> Any:
        started = time.monotonic()
        try:
            return {"answered": work()}
        except SpannerLibError as error:
            return {"code": error.error_code, "message": str(error), "seconds": time.monotonic() - started}

    def transaction() -> None:
        connection.begin_transaction()
        try:
            query(connection, "UPDATE Parcels SET Sender = NULL WHERE true")
            connection.commit()
        except SpannerLibError:
            connection.rollback()
            raise

    batch = types.ExecuteBatchDmlRequest(statements=[{"sql": "DELETE FROM Ledger WHERE true"}])
    return {
        "allowed": query(connection, "SELECT COUNT(Sender) FROM Parcels WHERE ParcelId = -1"),
        "query": told(lambda: query(connection, "SELECT Weight FROM Parcels")),
        "dml": told(lambda: query(connection, "DELETE FROM Ledger WHERE true")),
        "mutation": told(lambda: write(connection, "insert", ("ParcelId",), ["199"])),
        "transaction": told(transaction),
        "batch": told(lambda: str(connection.execute_batch(batch))),
        "schema": told(lambda: query(connection, "DROP TABLE Parcels")),
    }


CASES = {
    case.__name__: case
    for case in (mutations, parameters, transactions, statements, aborted, many_at_once, schema, denied)
}


def main() -> int:
    pool = Pool.create_pool(DATABASE)
    connection = pool.create_connection()
    failed = 0
    for name in sys.argv[1:]:
        try:
            print(json.dumps({"case": name, "found": CASES[name](pool, connection)}), flush=True)
        except SpannerLibError as error:
            print(json.dumps({"case": name, "error": str(error)}), flush=True)
            failed = 1
    connection.close()
    pool.close()
    return failed


if __name__ == "__main__":
    sys.exit(main())
