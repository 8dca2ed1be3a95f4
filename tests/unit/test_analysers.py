"""The pool of analysers: remembers, bounds its queue, replaces what crashed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from fakes.shop import SCHEMA
from spangate.adapters import analysers
from spangate.adapters.analysers import AnalyserPool
from spangate.adapters.zetasql_engine import ANALYSIS_SECONDS_MAX, WasmEngine
from spangate.errors import TryAgain
from spangate.model.schema import Schema
from spangate.model.sqltype import SqlType
from spangate.sql.engine import EngineCrashed
from spangate.sql.googlesql import UnreadableStatement


class Shared:
    """The session's engine behind a switch: it counts, can crash, and can be made to wait."""

    def __init__(self, engine: WasmEngine) -> None:
        self.engine = engine
        self.calls = 0
        self.all_calls = 0
        self.crash = False
        self.gate: threading.Event | None = None
        self.made = 0
        self.waiting = 0
        self.at_the_gate = threading.Condition()
        self.running = threading.Lock()

    def new(self) -> Shared:
        self.made += 1
        return self

    def call(self, method: str, request: bytes) -> bytes:
        self.calls += method.endswith("_Analyze")
        self.all_calls += 1
        if self.gate is not None:
            with self.at_the_gate:
                self.waiting += 1
                self.at_the_gate.notify_all()
            self.gate.wait(10)
        if self.crash:
            self.crash = False
            raise EngineCrashed("trap")
        with self.running:
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
    assert shared.calls == 3  # the warm-up's, and one with and one without the probe


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


def test_one_identity_waits_behind_itself_and_not_before_others(shared: Shared) -> None:
    pool = AnalyserPool(shared.new, workers=2)
    pool.warm(SCHEMA)
    shared.gate = threading.Event()
    storm = [
        threading.Thread(
            target=pool.accesses, args=(SCHEMA, f"SELECT 1 AS a{number}", {}), kwargs={"identity": "storm"}
        )
        for number in range(8)
    ]
    for thread in storm:
        thread.start()
    # The storm holds one of two workers. The other one is there for somebody else.
    with shared.at_the_gate:
        assert shared.at_the_gate.wait_for(lambda: shared.waiting == 1, 10)
    other = threading.Thread(target=pool.accesses, args=(SCHEMA, "SELECT 2 AS b", {}), kwargs={"identity": "other"})
    other.start()
    with shared.at_the_gate:
        assert shared.at_the_gate.wait_for(lambda: shared.waiting == 2, 10)
    shared.gate.set()
    for thread in [*storm, other]:
        thread.join(10)
    assert pool.keeps(SCHEMA, "SELECT 2 AS b", {})


def test_a_crash_is_remembered_as_unreadable(shared: Shared) -> None:
    pool = AnalyserPool(shared.new, workers=1)
    pool.warm(SCHEMA)
    shared.crash = True
    with pytest.raises(UnreadableStatement, match="gave up"):
        pool.accesses(SCHEMA, "SELECT Name FROM Customers", {})
    calls = shared.calls
    with pytest.raises(UnreadableStatement, match="gave up"):
        pool.accesses(SCHEMA, "SELECT Name FROM Customers", {})
    assert shared.calls == calls
    assert pool.keeps(SCHEMA, "SELECT Name FROM Customers", {})


def test_statements_that_differ_in_literals_are_analysed_once(shared: Shared) -> None:
    pool = AnalyserPool(shared.new, workers=1)
    first = pool.accesses(SCHEMA, "SELECT Name FROM Customers WHERE CustomerId = 'a' LIMIT 1", {})
    calls = shared.calls
    for number in range(3 * analysers.VARIANTS_MAX):
        sql = f"SELECT Name FROM Customers WHERE CustomerId = 'x{number}' LIMIT {number}"
        assert pool.accesses(SCHEMA, sql, {}) == first
        # The first few may be anybody's; then it is clear that literals are written into the statement.
        assert pool.keeps(SCHEMA, sql, {}) == (number + 2 <= analysers.VARIANTS_MAX)
    assert shared.calls == calls
    assert len(pool._remembered) == analysers.VARIANTS_MAX
    assert len(pool._forms) == 1


def test_a_known_statement_takes_no_analyser_and_no_turn(shared: Shared) -> None:
    pool = AnalyserPool(shared.new, workers=1)
    plain = "SELECT Name FROM Customers WHERE CustomerId = '{}'"
    # The parser is asked for each of these: what is between two backquotes cannot be told from outside.
    other = "SELECT `Name` FROM Customers WHERE CustomerId = '{}'"
    texts = [text.format(number) for number in range(2 * analysers.VARIANTS_MAX) for text in (plain, other)]
    found = [pool.accesses(SCHEMA, text, {}) for text in texts]
    shared.all_calls = 0
    turn = pool._turns.take("somebody else", 1)
    assert [pool.accesses(SCHEMA, text, {}) for text in texts] == found
    assert pool.accesses(SCHEMA, plain.format("a new one"), {}) == found[0]
    assert shared.all_calls == 0
    pool._turns.give("somebody else", turn)


def test_the_first_statement_of_its_kind_is_not_parsed_and_the_second_is_once(shared: Shared) -> None:
    pool = AnalyserPool(shared.new, workers=1)
    pool.warm(SCHEMA)
    shared.all_calls = 0
    calls = []
    for number in range(4):
        pool.accesses(SCHEMA, f"SELECT Name FROM Customers WHERE CustomerId = 'x{number}' LIMIT {number}", {})
        calls.append(shared.all_calls)
    assert calls == [1, 2, 2, 2]


def test_a_guess_that_the_parser_does_not_confirm_is_shared_by_nobody(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysers, "quick_form", lambda sql: sql[:6])
    pool = AnalyserPool(shared.new, workers=1)
    for _ in range(2):
        for column in ("Name", "CustomerId", "Email"):
            (found,) = pool.accesses(SCHEMA, f"SELECT {column} FROM Customers", {})
            assert found.columns == (column,)


def test_other_parameters_and_schemas_are_other_statements(shared: Shared) -> None:
    pool = AnalyserPool(shared.new, workers=1)
    sql = "SELECT Name FROM Customers WHERE CustomerId = @id LIMIT {}"
    pool.accesses(SCHEMA, sql.format(1), {})
    with pytest.raises(UnreadableStatement, match="No matching signature"):
        pool.accesses(SCHEMA, sql.format(2), {"id": SqlType("DATE")})
    with pytest.raises(UnreadableStatement, match="Table not found"):
        pool.accesses(Schema(tables=()), sql.format(3), {})


def test_a_wrong_literal_is_nobody_elses_fault(shared: Shared) -> None:
    pool = AnalyserPool(shared.new, workers=1)
    with pytest.raises(UnreadableStatement, match="Invalid DATE literal"):
        pool.accesses(SCHEMA, "SELECT Name, DATE '2026-02-31' FROM Customers", {})
    assert pool.accesses(SCHEMA, "SELECT Name, DATE '2026-02-28' FROM Customers", {})


def test_memory_of_statements_is_bounded(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysers, "REMEMBERED_MAX", 2)
    pool = AnalyserPool(shared.new, workers=1)
    for number in range(4):
        pool.accesses(SCHEMA, f"SELECT {number} AS a{number}", {})
    assert len(pool._remembered) == 2
    assert len(pool._forms) == 2
    assert len(pool._variants) == 0
    monkeypatch.setattr(analysers, "REMEMBERED_CHARACTERS_MAX", 40)
    monkeypatch.setattr(analysers, "VARIANTS_MAX", 1)
    pool = AnalyserPool(shared.new, workers=1)
    for number in range(8):
        pool.accesses(SCHEMA, f"SELECT 'text {number}'", {})
    pool.accesses(SCHEMA, "SELECT 'a statement that is longer than all of that'", {})
    for memory in (pool._remembered, pool._forms, pool._variants):
        assert memory.characters <= 40
        assert memory.characters == sum(len(key[1]) for key in memory)


@pytest.fixture(scope="module")
def real() -> Iterator[AnalyserPool]:
    """Engines of its own: some of these statements break them."""
    pool = AnalyserPool(workers=1)
    pool.warm(SCHEMA)
    yield pool
    pool.close()


PARAMETERS = {f"p{number}": SqlType("STRING") for number in range(950)}


@pytest.mark.parametrize(
    ("sql", "types"),
    [
        (f"SELECT {', '.join('@' + name for name in PARAMETERS)} FROM Customers", PARAMETERS),
        (f"SELECT Name FROM Customers WHERE Name IN (@{', @'.join(PARAMETERS)})", PARAMETERS),
        (f"SELECT Name FROM Customers WHERE Name = '{'x' * 999_900}'", {}),
        (f"SELECT Name /* {'x' * 999_900} */ FROM Customers", {}),
        (f"SELECT Name FROM Customers{' ' * 999_900}", {}),
        ("SELECT " + "(" * 5_000 + "Name" + ")" * 5_000 + " FROM Customers", {}),
    ],
    ids=[
        "950 values",
        "950 parameters in a list",
        "1 M in a string",
        "1 M in a comment",
        "1 M of spaces",
        "5,000 deep",
    ],
)
def test_what_spanner_allows_at_most_is_read(real: AnalyserPool, sql: str, types: dict[str, SqlType]) -> None:
    assert [access.table for access in real.accesses(SCHEMA, sql, types)] == ["Customers"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "+".join("1" * 600),
        "SELECT " + "ABS(" * 5_000 + "1" + ")" * 5_000,
        "SELECT " + "NOT " * 5_000 + "TRUE",
        "SELECT " + "(SELECT " * 5_000 + "1" + ")" * 5_000,
        "SELECT 1 FROM " + "(SELECT 1 FROM " * 5_000 + "Customers" + ")" * 5_000,
        "SELECT " + "CASE WHEN TRUE THEN " * 5_000 + "1" + " END" * 5_000,
        "SELECT CAST(NULL AS " + "STRUCT<a " * 5_000 + "INT64" + ">" * 5_000 + ")",
        "FROM Customers" + " |> WHERE TRUE" * 5_000,
        "SELECT Name FROM Customers WHERE 1 IN (" + "1," * 480_000 + "1)",
        "WITH " + ",".join(f"a{number} AS (SELECT 1 AS x)" for number in range(20_000)) + " SELECT 1",
    ],
    ids=["terms", "calls", "operators", "subqueries", "tables", "cases", "types", "pipes", "1 M of literals", "WITH"],
)  # fmt: skip
def test_what_is_made_to_be_expensive_is_unreadable_within_bounds_and_stays_so(real: AnalyserPool, sql: str) -> None:
    begun = time.process_time()
    with pytest.raises(UnreadableStatement, match="too large or too deep"):
        real.accesses(SCHEMA, sql, {})
    # The limit, a tick, and a new engine with its catalogs.
    assert time.process_time() - begun < ANALYSIS_SECONDS_MAX + 4
    begun = time.process_time()
    with pytest.raises(UnreadableStatement, match="too large or too deep"):
        real.accesses(SCHEMA, sql, {})
    assert time.process_time() - begun < 0.5
    assert real.accesses(SCHEMA, "SELECT Name FROM Customers", {})
