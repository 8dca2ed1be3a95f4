"""A few analysers at work side by side, and a memory of what they found.

Rules: a statement is analysed once for a schema, whoever sends it; of statements that differ only in their literals,
one is. Work that waits has a limit, for each identity and altogether: past it, TryAgain. An engine that crashed is
replaced, and the statement that crashed it is unreadable, now and when it comes again. What is unreadable is remembered
by its own text, never for others: a literal can be wrong.
Not here: the engine (zetasql_engine.py), whose turn it is (turns.py), reading (sql/googlesql.py).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from spangate.adapters.turns import Turns
from spangate.adapters.zetasql_engine import CALL_SECONDS_MAX, WasmEngine
from spangate.model.access import Access
from spangate.model.schema import Dialect, Schema
from spangate.model.sqltype import SqlType
from spangate.sql.engine import Engine, EngineCrashed
from spangate.sql.googlesql import Analyzer, UnreadableStatement

# The analyser releases the interpreter's lock, so two use two cores; each takes some 60 MiB.
WORKERS = 2
# About half a second of work for two analysers; whoever comes then waits longer than it takes to try again.
WAITING_MAX = 128
WAIT_SECONDS_MAX = 4.0
# Of one identity. A client that starts sends a few dozen statements at once; a queue full of one's own helps nobody.
WAITING_EACH_MAX = 64
# Statements remembered, a few hundred bytes each; ten thousand known shapes is the gateway's own measure.
REMEMBERED_MAX = 20_000
REMEMBERED_CHARACTERS_MAX = 64 * 1024 * 1024
# A statement of which this many were seen that differ only in literals has its literals written into it: more of them
# are not worth remembering one by one, here or in the gateway.
VARIANTS_MAX = 16
# Schemas in use at once by one engine: databases of an intent, and those of the intent before it.
CATALOGS_MAX = 8

_Key = tuple[str, str, tuple[tuple[str, SqlType], ...]]
_Found = tuple[Access, ...] | UnreadableStatement


@dataclass(slots=True)
class _Form:
    """What all statements of one normal form do, and how many of them were seen."""

    accesses: tuple[Access, ...]
    seen: int = 0


class _Worker:
    """One engine with the catalogs it has registered."""

    def __init__(self, new_engine: Callable[[], Engine]) -> None:
        self._new_engine = new_engine
        self._engine = new_engine()
        self._analyzers: OrderedDict[str, Analyzer] = OrderedDict()

    def accesses(self, schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> tuple[Access, ...]:
        if schema.dialect is Dialect.POSTGRESQL:
            # Loaded where it is needed: the grammar is an extra, and whoever has such a schema has it.
            from spangate.sql.pg_statement import pg_accesses

            return pg_accesses(schema, sql)
        try:
            return self._analyzer(schema).accesses(sql, param_types)
        except EngineCrashed as error:
            self._replace_engine()
            raise UnreadableStatement("the analyser gave up on the statement: it is too large or too deep") from error

    def normal_form(self, schema: Schema, sql: str) -> str | None:
        if schema.dialect is not Dialect.GOOGLESQL:
            return None
        try:
            return self._analyzer(schema).normal_form(sql)
        except EngineCrashed:
            self._replace_engine()
            return None

    def warm(self, schema: Schema) -> None:
        if schema.dialect is Dialect.GOOGLESQL:
            self._analyzer(schema)

    def close(self) -> None:
        self._close_engine()

    def _analyzer(self, schema: Schema) -> Analyzer:
        found = self._analyzers.get(schema.fingerprint)
        if found is None:
            found = self._analyzers[schema.fingerprint] = self._new_analyzer(schema)
            if len(self._analyzers) > CATALOGS_MAX:
                self._analyzers.popitem(last=False)[1].close()
        self._analyzers.move_to_end(schema.fingerprint)
        return found

    def _new_analyzer(self, schema: Schema) -> Analyzer:
        try:
            return Analyzer(self._engine, schema)
        except EngineCrashed:
            # A definition that breaks the engine must not take the tables along: they can be read without it.
            self._replace_engine()
            return Analyzer(self._engine, replace(schema, objects=()))

    def _replace_engine(self) -> None:
        self._close_engine()
        self._engine = self._new_engine()
        self._analyzers.clear()

    def _close_engine(self) -> None:
        if isinstance(self._engine, WasmEngine):
            self._engine.close()


class AnalyserPool:
    """A `checkpoint.Statements` for many threads."""

    def __init__(self, new_engine: Callable[[], Engine] = WasmEngine, workers: int = WORKERS) -> None:
        self._workers = [_Worker(new_engine) for _ in range(workers)]
        self._turns = Turns(self._workers, waiting_max=WAITING_MAX, waiting_each_max=WAITING_EACH_MAX)
        self._lock = threading.Lock()
        self._remembered: OrderedDict[_Key, _Found] = OrderedDict()
        self._forms: OrderedDict[_Key, _Form] = OrderedDict()
        self._characters = 0

    def warm(self, schema: Schema) -> None:
        """Register the schema everywhere, so that no request waits for it."""
        # Each under a name of its own: one caller never gets all of them.
        names = [f"warm {number}" for number in range(len(self._workers))]
        taken = [(name, self._turns.take(name, CALL_SECONDS_MAX)) for name in names]
        try:
            for _, worker in taken:
                worker.warm(schema)
        finally:
            for name, worker in taken:
                self._turns.give(name, worker)

    def close(self) -> None:
        """Gives the engines' memory back."""
        for worker in self._workers:
            worker.close()

    def accesses(
        self, schema: Schema, sql: str, param_types: Mapping[str, SqlType], *, identity: str = ""
    ) -> tuple[Access, ...]:
        """See checkpoint.service.Statements."""
        key = _key(schema, sql, param_types)
        found = self._recall(key)
        if found is None:
            found = self._read(key, schema, sql, param_types, identity)
        if isinstance(found, UnreadableStatement):
            raise UnreadableStatement(found.message)
        return found

    def keeps(self, schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> bool:
        """See checkpoint.service.Statements."""
        with self._lock:
            return _key(schema, sql, param_types) in self._remembered

    def _read(self, key: _Key, schema: Schema, sql: str, param_types: Mapping[str, SqlType], identity: str) -> _Found:
        """What an analyser, or the memory of normal forms, has to say about a statement that is new."""
        worker = self._turns.take(identity, WAIT_SECONDS_MAX)
        try:
            form = worker.normal_form(schema, sql)
            form_key = key if form is None else (key[0], form, key[2])
            accesses = None if form is None else self._recall_form(form_key)
            if accesses is not None:
                self._remember(key, accesses, form_key)
                return accesses
            try:
                accesses = worker.accesses(schema, sql, param_types)
            except UnreadableStatement as error:
                self._remember(key, error)
                return error
            self._remember(key, accesses, None if form is None else form_key)
            return accesses
        finally:
            self._turns.give(identity, worker)

    def _recall(self, key: _Key) -> _Found | None:
        with self._lock:
            found = self._remembered.get(key)
            if found is not None:
                self._remembered.move_to_end(key)
            return found

    def _recall_form(self, key: _Key) -> tuple[Access, ...] | None:
        with self._lock:
            form = self._forms.get(key)
            if form is None:
                return None
            self._forms.move_to_end(key)
            return form.accesses

    def _remember(self, key: _Key, found: _Found, form_key: _Key | None = None) -> None:
        with self._lock:
            if form_key is not None and not isinstance(found, UnreadableStatement):
                if form_key not in self._forms:
                    self._forms[form_key] = _Form(found)
                    self._characters += len(form_key[1])
                form = self._forms[form_key]
                form.seen += 1
                if form.seen > VARIANTS_MAX:
                    return
            if key not in self._remembered:
                self._remembered[key] = found
                self._characters += len(key[1])
            self._make_room()

    def _make_room(self) -> None:
        """Forgets what was not asked for longest: statements first, then normal forms."""
        for memory in (self._remembered, self._forms):
            while memory and (len(memory) > REMEMBERED_MAX or self._characters > REMEMBERED_CHARACTERS_MAX):
                old, _ = memory.popitem(last=False)
                self._characters -= len(old[1])


def _key(schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> _Key:
    return schema.fingerprint, sql, tuple(sorted(param_types.items(), key=lambda item: item[0]))
