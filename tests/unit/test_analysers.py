"""The pool of analysers: remembers, bounds its queue, replaces what crashed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from fakes.shop import SCHEMA
from spangate.adapters import analysers
from spangate.adapters.analysers import AnalyserPool
from spangate.adapters.zetasql_engine import WasmEngine
from spangate.errors import TryAgain
from spangate.sql.engine import EngineCrashed
from spangate.sql.googlesql import UnreadableStatement


class Shared:
    """The session's engine behind a switch: it counts, can crash, and can be made to wait."""

    def __init__(self, engine: WasmEngine) -> None:
        self.engine = engine
        self.calls = 0
        self.crash = False
        self.gate: threading.Event | None = None
        self.made = 0

    def new(self) -> Shared:
        self.made += 1
        return self

    def call(self, method: str, request: bytes) -> bytes:
        self.calls += method.endswith("_Analyze")
        if self.gate is not None:
            self.gate.wait(10)
        if self.crash:
            self.crash = False
            raise EngineCrashed("trap")
        return self.engine.call(method, request)


@pytest.fixture
def shared(zetasql_engine: WasmEngine) -> Iterator[Shared]:
    return Shared(zetasql_engine)


def test_a_statement_is_analysed_once(shared: Shared) -> None:
    pool = AnalyserPool(shared.new, workers=1)
    first = pool.accesses(SCHEMA, "SELECT Name FROM Customers", {})
    calls = shared.calls
    assert pool.accesses(SCHEMA, "SELECT Name FROM Customers", {}) == first
    assert shared.calls == calls


def test_an_unreadable_statement_is_remembered_as_such(shared: Shared) -> None:
    pool = AnalyserPool(shared.new, workers=1)
    for _ in range(2):
        with pytest.raises(UnreadableStatement):
            pool.accesses(SCHEMA, "SELEKT", {})
    assert shared.calls == 2  # the warm-up's and one more


def test_a_crash_denies_the_statement_and_replaces_the_engine(shared: Shared) -> None:
    pool = AnalyserPool(shared.new, workers=1)
    pool.warm(SCHEMA)
    shared.crash = True
    with pytest.raises(UnreadableStatement, match="gave up"):
        pool.accesses(SCHEMA, "SELECT Name FROM Customers", {})
    assert shared.made == 2
    assert pool.accesses(SCHEMA, "SELECT CustomerId FROM Customers", {})


def test_waiting_work_has_a_limit(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysers, "WAITING_MAX", 1)
    monkeypatch.setattr(analysers, "WAIT_SECONDS_MAX", 0.05)
    pool = AnalyserPool(shared.new, workers=1)
    pool.warm(SCHEMA)
    shared.gate = threading.Event()
    busy = threading.Thread(target=pool.accesses, args=(SCHEMA, "SELECT Name FROM Customers", {}))
    busy.start()
    try:
        with pytest.raises(TryAgain, match="too many new statements"):
            pool.accesses(SCHEMA, "SELECT CustomerId FROM Customers", {})
    finally:
        shared.gate.set()
        busy.join()


def test_memory_of_statements_is_bounded(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysers, "REMEMBERED_MAX", 2)
    pool = AnalyserPool(shared.new, workers=1)
    for number in range(4):
        pool.accesses(SCHEMA, f"SELECT {number}", {})
    assert len(pool._remembered) == 2
