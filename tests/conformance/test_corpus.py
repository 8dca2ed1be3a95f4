"""One corpus, four engines: the reference, the Python evaluator, the Lua filter under LuaJIT, and real Envoy.

Each engine must give each case's reason and accesses; the filter, in LuaJIT and in Envoy, must also send on exactly the
message that the reference expects, and the same bytes in both. (Envoy's part is in tests/e2e/corpus.)
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance import cases, judging
from conformance.engines.evaluator import FILTERS, Evaluator, NotReadable
from conformance.engines.lua import Lua
from conformance.judging import assert_answer, expectation
from conformance.seals import WORLD, sealing
from conformance.world import NOW, POLICY
from fakes.reference import reference
from spangate.adapters.analysers import AnalyserPool
from spangate.adapters.zetasql_engine import precompile


def named(case: cases.Case) -> str:
    return case.name


@pytest.fixture(scope="module")
def analysers() -> Iterator[AnalyserPool]:
    precompile()
    pool = AnalyserPool(workers=1)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def evaluator(analysers: AnalyserPool) -> Evaluator:
    return Evaluator(analysers)


@pytest.fixture(scope="module")
def lua(analysers: AnalyserPool) -> Iterator[Lua]:
    found = Lua(analysers, POLICY, NOW)
    yield found
    found.close()


@pytest.mark.parametrize("case", cases.CASES, ids=named)
def test_the_reference_answers_as_the_corpus_says(case: cases.Case) -> None:
    outcome = expectation(case)
    assert outcome.reason == case.expect
    assert outcome.allowed == (case.expect == "granted")
    if case.accesses is not None:
        assert outcome.accesses == case.accesses
    if case.missing is not None:
        assert outcome.missing == case.missing


@pytest.mark.parametrize("case", cases.CASES, ids=named)
def test_the_evaluator_answers_as_the_reference(case: cases.Case, evaluator: Evaluator) -> None:
    outcome = expectation(case)
    if outcome.reason in {*FILTERS, reference.SPANNER_REFUSES}:
        return  # never comes to the evaluator: said by the filter, or by Spanner
    assert case.identity is not None
    try:
        result = evaluator.judge(WORLD, NOW, case.identity, case.path, case.body(sealing()))
    except NotReadable:
        assert outcome.reason in {"malformed-request", "unsupported-feature"}
        return
    assert_answer(WORLD["policy"], NOW, case.who, case.alias, result, outcome)


@pytest.mark.parametrize("case", cases.CASES, ids=named)
def test_the_filter_answers_as_the_reference(case: cases.Case, lua: Lua) -> None:
    outcome = expectation(case)
    result = lua.judge(case.identity, case.path, case.body(sealing()))
    if outcome.reason == reference.SPANNER_REFUSES:
        return  # whatever is said, nothing is done
    assert_answer(WORLD["policy"], NOW, case.who, case.alias, result, outcome)
    judging.assert_sent(case.path, result, outcome)


def test_the_corpus_is_large_enough() -> None:
    assert len(cases.CASES) >= 250
