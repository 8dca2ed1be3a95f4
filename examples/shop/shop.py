"""What the shop's programs share: opening the database as any Spanner program does, and ending promptly.

There is nothing of Spangate in here, and no credential. The client library itself reads SPANNER_EMULATOR_HOST and
GOOGLE_CLOUD_PROJECT; SPANNER_INSTANCE and SPANNER_DATABASE choose another database than main/shop.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from google.cloud import spanner
from google.cloud.spanner_v1.database import Database


@contextmanager
def database(client: spanner.Client | None = None) -> Iterator[Database]:
    """The shop's database; its sessions are given back at the end.

    Database.close() is not called: it would join a thread that sleeps for ten minutes at a time. That thread is a
    daemon and ends with the program.
    """
    instance = (client or spanner.Client()).instance(os.environ.get("SPANNER_INSTANCE", "main"))
    pool = spanner.BurstyPool(target_size=1)
    try:
        yield instance.database(os.environ.get("SPANNER_DATABASE", "shop"), pool=pool)
    finally:
        pool.clear()


def run(program: Callable[[], bool]) -> int:
    """The exit code: 0 if `program` saw what it should, 1 otherwise; Spanner's errors become one line."""
    try:
        return 0 if program() else 1
    except GoogleAPIError as error:
        print(f"  failed: {error}")
    except GoogleAuthError as error:
        print(f"  failed: {error}\n  SPANNER_EMULATOR_HOST and GOOGLE_CLOUD_PROJECT say where the database is")
    return 1
