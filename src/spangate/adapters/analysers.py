"""A few analysers at work side by side, and a memory of what they found.

Rules: a statement is analysed once for a schema, whoever sends it. Work that waits has a limit: past it, TryAgain. An
engine that crashed is replaced, and the statement that crashed it is unreadable.
Not here: the engine (zetasql_engine.py), reading (sql/googlesql.py).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue

from spangate.adapters.zetasql_engine import WasmEngine
from spangate.errors import TryAgain
from spangate.model.access import Access
from spangate.model.schema import Dialect, Schema
from spangate.model.sqltype import SqlType
from spangate.sql.engine import Engine, EngineCrashed
from spangate.sql.googlesql import Analyzer, UnreadableStatement
from spangate.sql.pg_statement import pg_accesses

# The analyser releases the interpreter's lock, so two use two cores; each takes some 60 MiB.
WORKERS = 2
# About half a second of work for two analysers; whoever comes then waits longer than it takes to try again.
WAITING_MAX = 128
WAIT_SECONDS_MAX = 4.0
# Statements remembered, a few hundred bytes each; ten thousand known shapes is the gateway's own measure.
REMEMBERED_MAX = 20_000
REMEMBERED_CHARACTERS_MAX = 64 * 1024 * 1024
# Schemas in use at once by one engine: databases of an intent, and those of the intent before it.
CATALOGS_MAX = 8

_Key = tuple[str, str, tuple[tuple[str, SqlType], ...]]
_Found = tuple[Access, ...] | UnreadableStatement


class _Worker:
    """One engine with the catalogs it has registered."""

    def __init__(self, new_engine: Callable[[], Engine]) -> None:
        self._new_engine = new_engine
        self._engine = new_engine()
        self._analyzers: OrderedDict[str, Analyzer] = OrderedDict()

    def accesses(self, schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> tuple[Access, ...]:
        if schema.dialect is Dialect.POSTGRESQL:
            return pg_accesses(schema, sql)
        try:
            return self._analyzer(schema).accesses(sql, param_types)
        except EngineCrashed as error:
            self._close_engine()
            self._engine = self._new_engine()
            self._analyzers.clear()
            raise UnreadableStatement("the analyser gave up on the statement: it is too large or too deep") from error

    def warm(self, schema: Schema) -> None:
        if schema.dialect is Dialect.GOOGLESQL:
            self._analyzer(schema)

    def close(self) -> None:
        self._close_engine()

    def _analyzer(self, schema: Schema) -> Analyzer:
        found = self._analyzers.get(schema.fingerprint)
        if found is None:
            found = self._analyzers[schema.fingerprint] = Analyzer(self._engine, schema)
            if len(self._analyzers) > CATALOGS_MAX:
                self._analyzers.popitem(last=False)[1].close()
        self._analyzers.move_to_end(schema.fingerprint)
        return found

    def _close_engine(self) -> None:
        if isinstance(self._engine, WasmEngine):
            self._engine.close()


class AnalyserPool:
    """A `checkpoint.Statements` for many threads."""

    def __init__(self, new_engine: Callable[[], Engine] = WasmEngine, workers: int = WORKERS) -> None:
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._workers = [_Worker(new_engine) for _ in range(workers)]
        for worker in self._workers:
            self._idle.put(worker)
        self._lock = threading.Lock()
        self._waiting = 0
        self._remembered: OrderedDict[_Key, _Found] = OrderedDict()
        self._characters = 0

    def warm(self, schema: Schema) -> None:
        """Register the schema everywhere, so that no request waits for it."""
        taken = [self._idle.get() for _ in self._workers]
        try:
            for worker in taken:
                worker.warm(schema)
        finally:
            for worker in taken:
                self._idle.put(worker)

    def close(self) -> None:
        """Gives the engines' memory back."""
        for worker in self._workers:
            worker.close()

    def accesses(self, schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> tuple[Access, ...]:
        """See checkpoint.service.Statements."""
        key = (schema.fingerprint, sql, tuple(sorted(param_types.items(), key=lambda item: item[0])))
        found = self._recall(key)
        if found is None:
            found = self._analysed(schema, sql, param_types)
            self._remember(key, found)
        if isinstance(found, UnreadableStatement):
            raise UnreadableStatement(found.message)
        return found

    def _analysed(self, schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> _Found:
        worker = self._take()
        try:
            return worker.accesses(schema, sql, param_types)
        except UnreadableStatement as error:
            return error
        finally:
            self._idle.put(worker)

    def _take(self) -> _Worker:
        with self._lock:
            if self._waiting >= WAITING_MAX:
                raise TryAgain("the checkpoint has too many new statements to analyse")
            self._waiting += 1
        try:
            return self._idle.get(timeout=WAIT_SECONDS_MAX)
        except Empty as error:
            raise TryAgain("the checkpoint has too many new statements to analyse") from error
        finally:
            with self._lock:
                self._waiting -= 1

    def _recall(self, key: _Key) -> _Found | None:
        with self._lock:
            found = self._remembered.get(key)
            if found is not None:
                self._remembered.move_to_end(key)
            return found

    def _remember(self, key: _Key, found: _Found) -> None:
        with self._lock:
            if key in self._remembered:
                return
            self._remembered[key] = found
            self._characters += len(key[1])
            while len(self._remembered) > REMEMBERED_MAX or self._characters > REMEMBERED_CHARACTERS_MAX:
                old, _ = self._remembered.popitem(last=False)
                self._characters -= len(old[1])
