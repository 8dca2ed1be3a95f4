"""Schemas asked of the databases themselves: `schema: live`.

Rules: what was learned last stays when the database does not answer; a schema that cannot be read is an error, never
an empty schema. Asked again every `INTERVALS.live_schema_ms`, and every `INTERVALS.live_schema_soon_ms` for a while
after a schema change was let through.
Not here: the calls (spanner.py), reading DDL (sql/), the files (intent_files.py).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

from spangate.adapters.spanner import DatabaseDdl, database_ddl
from spangate.errors import PeersFault, SpangateError, YourFault
from spangate.model.database import DatabasePath
from spangate.model.schema import Schema
from spangate.settings import INTERVALS
from spangate.sql.ddl import DdlError
from spangate.sql.dialects import parse_schema

# A schema change of a running database takes minutes; this is for how long it is expected at any moment.
_SOON_SECONDS = 600.0

Ask = Callable[[DatabasePath], DatabaseDdl]
Clock = Callable[[], float]


class LiveSchemas:
    """What the databases of a Spanner at `address` say of their schemas. Any thread may call."""

    def __init__(self, address: str, *, ask: Ask | None = None, clock: Clock = time.monotonic) -> None:
        self._ask: Ask = ask or (lambda path: database_ddl(address, path))
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[DatabasePath, DatabaseDdl] = {}
        self._asked_at = -1e9
        self._soon_until = -1e9

    def schema(self, path: DatabasePath) -> Schema:
        """The schema of `path` as it is now.

        Raises YourFault if there is no such database or its schema is not understood, PeersFault if nothing answers
        and nothing is known.
        """
        try:
            ddl = self._ask(path)
        except PeersFault:
            with self._lock:
                known = self._known.get(path)
            if known is None:
                raise
            ddl = known
        with self._lock:
            self._known[path] = ddl
        return self._parsed(path, ddl)

    def known(self, path: DatabasePath) -> Schema:
        """The schema of `path` as it was learned last; asks only if nothing is known. Raises as `schema` does."""
        with self._lock:
            ddl = self._known.get(path)
        return self.schema(path) if ddl is None else self._parsed(path, ddl)

    def ask_again(self, path: DatabasePath) -> bool:
        """Asks `path` now; whether it has another schema than was known. False if it does not answer."""
        with self._lock:
            before = self._known.get(path)
        self._look(path)
        with self._lock:
            return self._known.get(path) != before

    @staticmethod
    def _parsed(path: DatabasePath, ddl: DatabaseDdl) -> Schema:
        if not ddl.statements:
            # A database may have no table yet, which in a file would be a mistake.
            return Schema(tables=(), dialect=ddl.dialect)
        try:
            return parse_schema("".join(f"{statement};\n" for statement in ddl.statements), ddl.dialect)
        except DdlError as error:
            raise YourFault(
                f"the schema of `{path}` holds what Spangate does not understand: {error.message}",
                help=f"line {error.line} of what GetDatabaseDdl gives; name a schema file instead of `live`",
            ) from error

    def soon(self) -> None:
        """A schema change was let through: look more often for a while."""
        with self._lock:
            self._soon_until = self._clock() + _SOON_SECONDS

    def digest(self) -> bytes:
        """Changes when a database whose schema was asked for has another one now. Asks only when it is time to."""
        with self._lock:
            now = self._clock()
            interval = INTERVALS.live_schema_soon_ms if now < self._soon_until else INTERVALS.live_schema_ms
            due = now - self._asked_at >= interval / 1000
            if due:
                self._asked_at = now
            paths = sorted(self._known, key=str)
        if due:
            for path in paths:
                self._look(path)
        found = hashlib.sha256()
        with self._lock:
            for path in paths:
                ddl = self._known[path]
                found.update(repr((str(path), ddl.dialect.value, ddl.statements)).encode())
        return found.digest()

    def _look(self, path: DatabasePath) -> None:
        try:
            ddl = self._ask(path)
        except SpangateError:
            return
        with self._lock:
            self._known[path] = ddl
