"""A program with Google's client for Python, unchanged: steady reads, transactions and commits until a line on stdin.

It prints `ready` after the first of each kind, and at the end one JSON object: how often each kind succeeded, how long
the slowest took, every failure that came out of the library, and how often the emulator had no room. Whether each
commit that it took for done is there exactly once, it checks itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from google.api_core.exceptions import Aborted, AlreadyExists
from google.cloud import spanner
from google.cloud.spanner_v1.database import Database

# One transaction at a time is all that the emulator has.
PAUSE_SECONDS = 0.02
# What it says of one that began and whose program never heard so, since the answer died with a part: it stays, and all
# others are turned away, until the emulator drops it by chance, with one in five of them. Spanner has no such bound.
ONE_AT_A_TIME = "The emulator only supports one transaction at a time"
# Of a call, with all the library's own attempts.
CALL_SECONDS = 30.0
ORDER = ("OrderId", "CustomerId", "Status", "Total", "UpdatedAt")


class Steady:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.done: dict[str, int] = {}
        self.slowest: dict[str, float] = {}
        self.failures: list[dict[str, Any]] = []
        self.turned_away: dict[str, int] = {}
        self.committed: set[str] = set()
        # Other programs write orders, too.
        self.status = uuid.uuid4().hex[:20]
        self.run = {"params": {"run": self.status}, "param_types": {"run": spanner.param_types.STRING}}

    def again(self, kind: str, work: Callable[[], object]) -> None:
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                work()
            except Exception as error:  # noqa: BLE001 - it is what is counted
                with self.lock:
                    if isinstance(error, Aborted) and ONE_AT_A_TIME in str(error):
                        self.turned_away[kind] = self.turned_away.get(kind, 0) + 1
                        continue
                    code = getattr(error, "grpc_status_code", None)
                    text = {"kind": kind, "error": type(error).__name__, "code": str(code), "text": str(error)[:300]}
                    self.failures.append(text | {"at": time.time(), "seconds": round(time.monotonic() - began, 3)})
            else:
                with self.lock:
                    self.done[kind] = self.done.get(kind, 0) + 1
                    self.slowest[kind] = max(self.slowest.get(kind, 0.0), time.monotonic() - began)
            self.stopping.wait(PAUSE_SECONDS)

    def query(self) -> None:
        with self.database.snapshot() as snapshot:
            assert len(list(snapshot.execute_sql("SELECT CustomerId, Name FROM Customers", timeout=CALL_SECONDS))) == 4

    def fresh_query(self) -> None:
        """One that the gateway has never seen: the checkpoint is asked for each."""
        sql = f"SELECT Name AS n{uuid.uuid4().hex} FROM Customers"
        with self.database.snapshot() as snapshot:
            assert len(list(snapshot.execute_sql(sql, timeout=CALL_SECONDS))) == 4

    def read(self) -> None:
        with self.database.snapshot() as snapshot:
            rows = snapshot.read("Customers", ("CustomerId", "Name"), spanner.KeySet(all_=True), timeout=CALL_SECONDS)
            assert len(list(rows)) == 4

    def transaction(self) -> None:
        order = str(uuid.uuid4())

        def work(transaction: Any) -> None:
            list(transaction.execute_sql("SELECT Name FROM Customers WHERE CustomerId = 'c-1001'"))
            transaction.insert("Orders", ORDER, [(order, "c-1001", self.status, 1, spanner.COMMIT_TIMESTAMP)])

        self.database.run_in_transaction(work)
        self.committed.add(order)

    def batch(self) -> None:
        order = str(uuid.uuid4())
        # A single-use Commit whose answer was lost is sent again by the library and then finds its own row: that is
        # Spanner's at-least-once, and docs/failures.md says so. Whether the row is there once is looked at in the end.
        with contextlib.suppress(AlreadyExists), self.database.batch() as batch:
            batch.insert("Orders", ORDER, [(order, "c-1002", self.status, 1, spanner.COMMIT_TIMESTAMP)])
        self.committed.add(order)

    def lost(self) -> tuple[list[str], list[str]]:
        """Commits that were told to be done and are not there; those there that were told to have failed, or never."""
        with self.database.snapshot() as snapshot:
            there = {
                row[0] for row in snapshot.execute_sql("SELECT OrderId FROM Orders WHERE Status = @run", **self.run)
            }
        return sorted(self.committed - there), sorted(there - self.committed)


def main() -> int:
    database = spanner.Client().instance("main").database("shop", pool=spanner.BurstyPool(target_size=4))
    steady = Steady(database)
    kinds = {
        "query": steady.query,
        "fresh query": steady.fresh_query,
        "read": steady.read,
        "transaction": steady.transaction,
        "batch": steady.batch,
    }
    for work in kinds.values():
        work()
    print("ready", flush=True)
    threads = [threading.Thread(target=steady.again, args=item) for item in kinds.items()]
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    steady.stopping.set()
    for thread in threads:
        thread.join()
    missing, extra = steady.lost()
    report = {"done": steady.done, "slowest": steady.slowest, "failures": steady.failures}
    report["turned away by the emulator"] = steady.turned_away
    print(json.dumps(report | {"missing": missing, "extra": extra}), flush=True)
    return 0


if __name__ == "__main__":
    code = main()
    # Not sys.exit: closing the client would join threads of its pool that sleep.
    os._exit(code)
