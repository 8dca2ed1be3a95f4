"""The engine that runs ZetaSQL: how it answers, how it breaks, what it leaves alone."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service

from spangate.adapters import zetasql_engine
from spangate.adapters.zetasql_engine import ANALYSIS_SECONDS_MAX, WasmEngine, is_warm, precompile
from spangate.errors import Broken, YourFault
from spangate.sql.catalog import analyzer_options
from spangate.sql.engine import EngineCrashed, EngineFailure

ANALYZE = "ZetaSqlLocalService_Analyze"
PARSE = "ZetaSqlLocalService_Parse"


def analysis(sql: str) -> bytes:
    request = service.AnalyzeRequest(options=analyzer_options({}), sql_statement=sql)
    request.simple_catalog.builtin_function_options.language_options.CopyFrom(request.options.language_options)
    return bytes(request.SerializeToString())


@pytest.fixture
def engine() -> Iterator[WasmEngine]:
    made = WasmEngine()
    yield made
    made.close()


def test_it_answers(zetasql_engine: WasmEngine) -> None:
    answer = service.AnalyzeResponse.FromString(zetasql_engine.call(ANALYZE, analysis("SELECT 1 AS one")))
    assert answer.resolved_statement.resolved_query_stmt_node.output_column_list[0].name == "one"


def test_an_error_of_zetasql_is_its_own_sentence_and_leaves_the_engine_alive(zetasql_engine: WasmEngine) -> None:
    with pytest.raises(EngineFailure) as caught:
        zetasql_engine.call(ANALYZE, analysis("SELECT\n  nope"))
    assert caught.value.message == "Unrecognized name: nope [at 2:3]"
    assert zetasql_engine.call(ANALYZE, analysis("SELECT 1"))


def test_a_request_that_is_no_message_is_a_failure_not_a_crash(zetasql_engine: WasmEngine) -> None:
    with pytest.raises(EngineFailure):
        zetasql_engine.call(ANALYZE, b"\xff\xff\xff")
    with pytest.raises(EngineFailure):
        zetasql_engine.call(ANALYZE, b"")


def test_only_methods_of_the_local_service_can_be_called(zetasql_engine: WasmEngine) -> None:
    with pytest.raises(Broken):
        zetasql_engine.call("wasm_free", b"")


def test_a_statement_that_takes_too_long_is_broken_off(engine: WasmEngine) -> None:
    begun = time.process_time()
    with pytest.raises(EngineCrashed, match="took too long"):
        engine.call(ANALYZE, analysis("SELECT 1" + ", 1" * 200_000))
    assert time.process_time() - begun < ANALYSIS_SECONDS_MAX + 5


def test_a_statement_that_is_nested_too_deeply_is_broken_off(engine: WasmEngine) -> None:
    with pytest.raises(EngineCrashed, match="nested too deeply"):
        engine.call(ANALYZE, analysis("SELECT " + "(SELECT " * 3000 + "1" + ")" * 3000))


def test_a_statement_that_wants_too_much_memory_is_broken_off(engine: WasmEngine) -> None:
    with pytest.raises(EngineCrashed, match=r"gave up|out of memory"):
        engine.call(PARSE, bytes(service.ParseRequest(sql_statement="x" * 300_000_000).SerializeToString()))
    assert engine.memory_bytes <= zetasql_engine.MEMORY_BYTES_MAX


def test_a_crashed_engine_stays_dead_and_others_live(engine: WasmEngine, zetasql_engine: WasmEngine) -> None:
    with pytest.raises(EngineCrashed):
        engine.call(ANALYZE, analysis("SELECT " + "(SELECT " * 3000 + "1" + ")" * 3000))
    with pytest.raises(EngineCrashed, match="nested too deeply"):
        engine.call(ANALYZE, analysis("SELECT 1"))
    assert zetasql_engine.call(ANALYZE, analysis("SELECT 1"))


def test_a_closed_engine_answers_no_more(engine: WasmEngine) -> None:
    engine.close()
    with pytest.raises(EngineCrashed, match="closed"):
        engine.call(ANALYZE, analysis("SELECT 1"))
    engine.close()


def test_it_writes_nothing_to_our_output(capfd: pytest.CaptureFixture[str]) -> None:
    engine = WasmEngine()
    with pytest.raises(EngineCrashed):
        engine.call(ANALYZE, analysis("SELECT " + "(SELECT " * 3000 + "1" + ")" * 3000))
    engine.close()
    assert capfd.readouterr() == ("", "")


def test_it_knows_time_zones(zetasql_engine: WasmEngine) -> None:
    assert zetasql_engine.call(ANALYZE, analysis("SELECT TIMESTAMP '2026-01-01 00:00:00 Europe/Berlin'"))
    with pytest.raises(EngineFailure, match="Invalid TIMESTAMP"):
        zetasql_engine.call(ANALYZE, analysis("SELECT TIMESTAMP '2026-01-01 00:00:00 Europe/Nowhere'"))


def test_an_answer_may_be_megabytes_long(zetasql_engine: WasmEngine) -> None:
    text = "x" * 900_000
    answer = zetasql_engine.call(ANALYZE, analysis(f"SELECT '{text}'"))
    assert text.encode() in answer


def test_a_forked_child_refuses_to_run_without_its_watchdog(zetasql_engine: WasmEngine) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads do not survive a fork is the point
        child = os.fork()
    if not child:
        try:
            zetasql_engine.call(ANALYZE, analysis("SELECT 1"))
        except EngineCrashed:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_precompiling_a_warm_cache_does_nothing_and_says_nothing() -> None:
    said: list[str] = []
    path = precompile(said.append)
    assert is_warm()
    assert precompile(said.append) == path
    assert said == []


def program(tmp_path: Path, script: str) -> str:
    """A program that stands in for the interpreter that compiles."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("SPANGATE_CACHE_DIR", str(directory))
    return directory


def test_a_compiler_that_is_killed_for_its_memory_is_explained(
    cold: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", program(tmp_path, "kill -9 $$"))
    with pytest.raises(YourFault, match="was killed") as caught:
        precompile()
    assert "memory" in str(caught.value.help)
    assert not is_warm()


def test_a_compiler_that_fails_says_why(cold: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", program(tmp_path, "echo Traceback >&2; echo no luck >&2; exit 1"))
    with pytest.raises(Broken, match="could not be compiled: no luck"):
        precompile()
    assert not is_warm()


def test_a_file_that_is_no_module_is_thrown_away_and_made_anew(
    cold: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", program(tmp_path, "printf garbage"))
    garbage = precompile()
    assert is_warm()
    monkeypatch.setattr(sys, "executable", program(tmp_path, "echo asked again >&2; exit 1"))
    with pytest.raises(Broken, match="asked again"):
        WasmEngine()
    assert not garbage.exists()


def test_a_stack_that_a_deep_statement_would_break_through_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024 * 1024, resource.RLIM_INFINITY))
    with pytest.raises(YourFault, match="limited to 1024 KiB"):
        WasmEngine()


def test_a_deep_statement_is_survived_in_the_smallest_thread(zetasql_engine: WasmEngine) -> None:
    """2 MiB is what glibc gives threads where the limit on the stack is off."""
    previous = threading.stack_size(2 * 1024 * 1024)
    reasons: list[str] = []

    def crash() -> None:
        engine = WasmEngine()
        try:
            engine.call(ANALYZE, analysis("SELECT " + "(SELECT " * 3000 + "1" + ")" * 3000))
        except EngineCrashed as error:
            reasons.append(str(error))
        engine.close()

    try:
        thread = threading.Thread(target=crash)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(previous)
    assert reasons == ["nested too deeply"]


def test_a_cache_of_ones_own_is_cold(cold: Path) -> None:
    assert not is_warm()
    assert not cold.exists()
