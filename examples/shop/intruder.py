"""A workload that stands in no intent. Every way in must be denied. Run it as anything that is not in spangate.yaml."""

from __future__ import annotations

import sys
from collections.abc import Callable

import shop
from google.api_core.exceptions import PermissionDenied
from google.cloud.spanner_v1 import KeySet
from google.cloud.spanner_v1.database import Database


def query(database: Database) -> None:
    with database.snapshot() as snapshot:
        list(snapshot.execute_sql("SELECT 1"))


def read(database: Database) -> None:
    with database.snapshot() as snapshot:
        list(snapshot.read("Customers", ("CustomerId",), KeySet(all_=True)))


def dml(database: Database) -> None:
    database.run_in_transaction(lambda transaction: transaction.execute_update("DELETE FROM Orders WHERE true"))


def mutation(database: Database) -> None:
    with database.batch() as batch:
        batch.delete("Customers", KeySet(all_=True))


ATTEMPTS: dict[str, Callable[[Database], None]] = {"query": query, "read": read, "DML": dml, "mutation": mutation}


def intruder() -> bool:
    denied = 0
    with shop.database() as database:
        for name, attempt in ATTEMPTS.items():
            try:
                attempt(database)
            except PermissionDenied as error:
                denied += 1
                print(f"intruder: {name}: denied, as it should be:\n  {error.message}")
            else:
                # Do not go on to the attempts that would destroy something.
                print(f"intruder: {name}: allowed; nothing stands between this program and the database")
                break
    return denied == len(ATTEMPTS)


if __name__ == "__main__":
    sys.exit(shop.run(intruder))
