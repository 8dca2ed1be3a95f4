"""Where sealing keys are kept, and how they are made: a file of this gateway, or a table that several gateways share.

Rules: the file is the own user's alone (0600) and survives restarts; the table lies in a Spanner database that no
intent names, so that no identity can reach it through a gateway. Keys come from the operating system's randomness.
Not here: when a key is in use (checkpoint/sealing.py).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from google.api_core import exceptions as google_errors
from google.cloud import spanner_v1
from google.cloud.spanner_v1 import types
from google.cloud.spanner_v1.services.spanner.transports.grpc import SpannerGrpcTransport

from spangate.adapters.spanner import CHANNEL_OPTIONS, ensure_table
from spangate.checkpoint.sealing import SealKey
from spangate.errors import PeersFault, YourFault
from spangate.model.database import DatabasePath

FILE = "seals.sqlite"
FILE_MODE = 0o600
# Only one process writes, a few times a day; another `up` that ends may still hold the file for a moment.
BUSY_SECONDS = 5.0
# The table is small and read every half minute; a Spanner that takes this long is treated as away.
CALL_SECONDS = 10.0
TABLE = "SpangateSealKeys"
_COLUMNS = ("KeyId", "Secret", "Created")
_DDL = (
    f"CREATE TABLE {TABLE} (KeyId STRING(8) NOT NULL, Secret STRING(32) NOT NULL, Created TIMESTAMP NOT NULL) "
    "PRIMARY KEY (KeyId)"
)


def new_seal_key(now: datetime) -> SealKey:
    """A fresh random key."""
    return SealKey(secrets.token_hex(4), secrets.token_hex(16), now)


class FileSealKeys:
    """A SealKeyStore in a SQLite file. Raises YourFault if the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # Made here and not by SQLite, so that nobody else can read it at any moment.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
            path.chmod(FILE_MODE)
        except OSError as error:
            raise YourFault(f"cannot use `{path}`: {error.strerror}") from error
        with self._connected() as database:
            database.execute("CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, secret TEXT, created TEXT)")

    def load(self) -> tuple[SealKey, ...]:
        """All keys."""
        with self._connected() as database:
            rows = database.execute("SELECT id, secret, created FROM keys").fetchall()
        return tuple(SealKey(key, secret, datetime.fromisoformat(created)) for key, secret, created in rows)

    def add(self, key: SealKey) -> None:
        """Keep one more."""
        with self._connected() as database:
            database.execute("INSERT INTO keys VALUES (?, ?, ?)", (key.id, key.secret, key.created.isoformat()))

    def remove(self, ids: Iterable[str]) -> None:
        """Forget these."""
        with self._connected() as database:
            database.executemany("DELETE FROM keys WHERE id = ?", [(one,) for one in ids])

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as database, database:
                yield database
        except sqlite3.Error as error:
            raise YourFault(
                f"cannot use the sealing keys in `{self._path}`: {error}",
                help="if the file is damaged, remove it: clients then make new sessions",
            ) from error


class SpannerSealKeys:
    """A SealKeyStore in the table SpangateSealKeys of a Spanner database, made if it is missing.

    Raises PeersFault if Spanner fails.
    """

    def __init__(self, address: str, database: DatabasePath) -> None:
        self._address = address
        self._database = database
        ensure_table(address, database, TABLE, _DDL)

    def load(self) -> tuple[SealKey, ...]:
        """All keys."""
        with self._session() as (client, session):
            answer = client.read(
                types.ReadRequest(session=session, table=TABLE, columns=_COLUMNS, key_set=types.KeySet(all_=True)),
                retry=None,
                timeout=CALL_SECONDS,
            )
        return tuple(
            SealKey(key, secret, datetime.fromisoformat(created)) for key, secret, created in map(tuple, answer.rows)
        )

    def add(self, key: SealKey) -> None:
        """Keep one more."""
        created = key.created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        write = types.Mutation.Write(table=TABLE, columns=_COLUMNS, values=[[key.id, key.secret, created]])
        self._commit(types.Mutation(insert=write))

    def remove(self, ids: Iterable[str]) -> None:
        """Forget these."""
        keys = types.KeySet(keys=[[one] for one in ids])
        self._commit(types.Mutation(delete=types.Mutation.Delete(table=TABLE, key_set=keys)))

    def _commit(self, mutation: types.Mutation) -> None:
        with self._session() as (client, session):
            request = types.CommitRequest(
                session=session, single_use_transaction={"read_write": {}}, mutations=[mutation]
            )
            client.commit(request, retry=None, timeout=CALL_SECONDS)

    @contextlib.contextmanager
    def _session(self) -> Iterator[tuple[Any, str]]:
        """A client and a session for a call or two: keys are asked for too seldom to keep any open."""
        try:
            with grpc.insecure_channel(self._address, options=CHANNEL_OPTIONS) as channel:
                client = spanner_v1.SpannerClient(transport=SpannerGrpcTransport(channel=channel))
                session = client.create_session(database=str(self._database), retry=None, timeout=CALL_SECONDS).name
                try:
                    yield client, session
                finally:
                    client.delete_session(name=session, retry=None, timeout=CALL_SECONDS)
        except google_errors.GoogleAPICallError as error:
            raise PeersFault(f"cannot use the sealing keys in `{self._database}`: {error.message}") from error
