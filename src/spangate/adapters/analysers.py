"""A few analysers at work side by side, and a memory of what they found.

Rules: a statement is analysed once for a schema, whoever sends it; of statements that differ only in their literals,
one is. Work that waits has a limit, for each identity and altogether: past it, TryAgain. An engine that crashed is
replaced, and the statement that crashed it is unreadable, now and when it comes again. What is unreadable is remembered
by its own text, never for others: a literal can be wrong. What is known takes nobody's turn: the text itself, and a
quick form that the parser has confirmed.
Not here: the engine (zetasql_engine.py), whose turn it is (turns.py), reading (sql/googlesql.py), normal and quick
forms (sql/literals.py, sql/pg_literals.py).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from spangate.adapters.remembered import Key, Remembered
from spangate.adapters.turns import Turns
from spangate.adapters.zetasql_engine import CALL_SECONDS_MAX, WasmEngine
from spangate.model.access import Access
from spangate.model.schema import Dialect, Schema
from spangate.model.sqltype import SqlType
from spangate.sql.engine import Engine, EngineCrashed
from spangate.sql.googlesql import Analyzer, UnreadableStatement
from spangate.sql.literals import quick_form

# The analyser releases the interpreter's lock, so two use two cores; each takes some 60 MiB.
WORKERS = 2
# About half a second of work for two analysers; whoever comes then waits longer than it takes to try again.
WAITING_MAX = 128
WAIT_SECONDS_MAX = 4.0
# Of one identity. A client that starts sends a few dozen statements at once; a queue full of one's own helps nobody.
WAITING_EACH_MAX = 64
# Statements remembered, a few hundred bytes each; ten thousand known shapes is the gateway's own measure. As many
# normal forms, and as many statements of forms with too many variants: three memories of this size, none of which can
# push anything out of another.
REMEMBERED_MAX = 20_000
REMEMBERED_CHARACTERS_MAX = 20 * 1024 * 1024
# A statement of which this many were seen that differ only in literals has its literals written into it: more of them
# are not worth remembering one by one in the gateway.
VARIANTS_MAX = 16
# Schemas in use at once by one engine: databases of an intent, and those of the intent before it.
CATALOGS_MAX = 8

T = TypeVar("T")
_Found = tuple[Access, ...] | UnreadableStatement


@dataclass(slots=True)
class _Form:
    """What all statements of one normal form do, and how many of them were seen.

    `confirmed`: the parser has given this form, not only a guess (see literals.quick_form).
    """

    accesses: tuple[Access, ...]
    confirmed: bool
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
        if schema.dialect is Dialect.POSTGRESQL:
            from spangate.sql.pg_literals import pg_normal_form

            return pg_normal_form(sql)
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
        self._remembered = _memory(Remembered[_Found])
        self._variants = _memory(Remembered[tuple[Access, ...]])
        self._forms = _memory(Remembered[_Form])

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

    def _read(self, key: Key, schema: Schema, sql: str, param_types: Mapping[str, SqlType], identity: str) -> _Found:
        """What the memory of normal forms, or else an analyser, has to say about a statement that is new."""
        quick = quick_form(sql) if schema.dialect is Dialect.GOOGLESQL else None
        if quick is not None:
            found = self._recall_form(key, quick)
            if found is not None:
                return found
        worker = self._turns.take(identity, WAIT_SECONDS_MAX)
        try:
            return self._read_by(worker, key, schema, sql, param_types, quick)
        finally:
            self._turns.give(identity, worker)

    def _read_by(
        self,
        worker: _Worker,
        key: Key,
        schema: Schema,
        sql: str,
        param_types: Mapping[str, SqlType],
        quick: str | None,
    ) -> _Found:
        """The parser is asked only if its answer can save an analysis: not for the first of a quick form."""
        form, confirmed = quick, False
        if quick is None or self._is_known(key, quick):
            form, confirmed = worker.normal_form(schema, sql), True
            found = None if form is None else self._recall_form(key, form, confirmed=True)
            if found is not None:
                return found
        try:
            accesses = worker.accesses(schema, sql, param_types)
        except UnreadableStatement as error:
            with self._lock:
                self._remembered.put(key, error)
            return error
        with self._lock:
            if form is None:
                self._remembered.put(key, accesses)
            else:
                self._remember(key, form, _Form(accesses, confirmed))
        return accesses

    def _recall(self, key: Key) -> _Found | None:
        with self._lock:
            found = self._remembered.get(key)
            return self._variants.get(key) if found is None else found

    def _is_known(self, key: Key, form: str) -> bool:
        """Whether a statement of this form was seen, be the form confirmed or not."""
        with self._lock:
            return (key[0], form, key[2]) in self._forms

    def _recall_form(self, key: Key, form: str, *, confirmed: bool = False) -> tuple[Access, ...] | None:
        """What statements of this form do, if that is known: now also of the statement of `key`.

        With `confirmed`, the parser has given the form just now.
        """
        with self._lock:
            known = self._forms.get((key[0], form, key[2]))
            if known is None or not (known.confirmed or confirmed):
                return None
            known.confirmed = True
            self._remember(key, form, known)
            return known.accesses

    def _remember(self, key: Key, form: str, new: _Form) -> None:
        """A statement that could be read, of this form. Under the lock."""
        form_key = (key[0], form, key[2])
        known = self._forms.get(form_key)
        if known is None:
            known = new
            self._forms.put(form_key, known)
        known.confirmed = known.confirmed or new.confirmed
        known.seen += 1
        # What was found for this text: of a form that is only guessed, others say nothing about it.
        if known.seen > VARIANTS_MAX:
            self._variants.put(key, new.accesses)
        else:
            self._remembered.put(key, new.accesses)


def _memory(kind: Callable[..., T]) -> T:
    return kind(entries_max=REMEMBERED_MAX, characters_max=REMEMBERED_CHARACTERS_MAX)


def _key(schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> Key:
    return schema.fingerprint, sql, tuple(sorted(param_types.items(), key=lambda item: item[0]))
