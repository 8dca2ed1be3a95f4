"""A program that writes and reads without a pause until a file appears; prints what it did and what failed, as JSON.

Run under `spangate run`, with an unmodified client; whatever the client library does not hide is a failure.
    steady.py writer|reader STOP_FILE PAUSE_SECONDS [TIMES]
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
import uuid
from decimal import Decimal
from pathlib import Path

import shop
from google.api_core.exceptions import Aborted
from google.cloud.spanner_v1 import COMMIT_TIMESTAMP, KeySet
from google.cloud.spanner_v1.database import Database
from google.cloud.spanner_v1.transaction import Transaction

# One whose begin was answered to somebody who had died stays for a while, and the emulator has but one.
ONE_AT_A_TIME = "The emulator only supports one transaction at a time"
# Each took half a minute of attempts: more are a failure whatever their text is.
TURNED_AWAY_MAX = 3


def write(database: Database) -> None:
    """A transaction that writes, reads it back, and one that changes what it has read."""
    order = str(uuid.uuid4())

    def place(transaction: Transaction) -> None:
        columns = ("OrderId", "CustomerId", "Status", "Total", "UpdatedAt")
        transaction.insert("Orders", columns, [(order, "c-1001", "new", Decimal(1), COMMIT_TIMESTAMP)])

    def pay(transaction: Transaction) -> None:
        ((status,),) = transaction.read("Orders", ("Status",), KeySet(keys=[[order]]))
        transaction.update("Orders", ("OrderId", "Status", "UpdatedAt"), [(order, f"paid {status}", COMMIT_TIMESTAMP)])

    # In transactions that were begun before: a commit whose answer was lost may be sent again.
    database.run_in_transaction(place)
    database.run_in_transaction(pay)
    with database.snapshot() as snapshot:
        ((status,),) = snapshot.execute_sql(f"SELECT Status FROM Orders WHERE OrderId = '{order}'")
    if not status.startswith("paid"):
        raise RuntimeError(f"the order is `{status}`")


def read(database: Database) -> None:
    """Two queries."""
    with database.snapshot(multi_use=True) as snapshot:
        ((count,),) = snapshot.execute_sql("SELECT COUNT(*) FROM Orders")
        ((again,),) = snapshot.execute_sql("SELECT COUNT(*) FROM Orders")
    if count != again:
        raise RuntimeError("a snapshot that changes")


def end_with(parent: int) -> None:
    """A `run` that is killed leaves its command behind, and nobody would stop this one: neither while a call is under
    way, which the library may try again for ever.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    what, stop, pause = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    times = int(sys.argv[4]) if len(sys.argv) > 4 else 10**9
    done, failed, slowest, turned_away = 0, [], 0.0, 0
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    with shop.database() as database:
        while done < times and not stop.exists():
            began = time.monotonic()
            try:
                (write if what == "writer" else read)(database)
            except Exception as error:  # noqa: BLE001 - counted, whatever it is
                if isinstance(error, Aborted) and ONE_AT_A_TIME in str(error) and turned_away < TURNED_AWAY_MAX:
                    turned_away += 1
                    continue
                failed.append(traceback.format_exc(limit=-3))
            done += 1
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(pause)
    print(json.dumps({"what": what, "done": done, "failed": failed, "slowest": slowest, "turned_away": turned_away}))


if __name__ == "__main__":
    main()
