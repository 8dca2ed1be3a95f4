"""Promise: real Envoy answers every case of the corpus as the reference does, and sends on what LuaJIT sends on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from conformance import cases, judging, seals, world
from conformance.engines.common import Result
from conformance.engines.envoy import running
from conformance.engines.lua import Lua
from fakes.reference import reference
from spangate.adapters.analysers import AnalyserPool
from spangate.adapters.zetasql_engine import precompile

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Result, Result]]]:
    """What Envoy and LuaJIT answer to each case."""
    precompile()
    with ExitStack() as stack:
        analysers = AnalyserPool(workers=1)
        stack.callback(analysers.close)
        lua = Lua(analysers, world.POLICY, world.NOW)
        stack.callback(lua.close)
        envoy = stack.enter_context(running(tmp_path_factory.mktemp("corpus"), analysers))
        bodies = [case.body(seals.sealing()) for case in cases.CASES]
        for case, body in zip(cases.CASES, bodies, strict=True):
            envoy.send(case.identity, case.path, body)
        in_luajit = [lua.judge(case.identity, case.path, body) for case, body in zip(cases.CASES, bodies, strict=True)]
        both = zip(envoy.results(), in_luajit, strict=True)
        yield {case.name: answers for case, answers in zip(cases.CASES, both, strict=True)}


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_envoy_answers_as_the_reference(case: cases.Case, answers: dict[str, tuple[Result, Result]]) -> None:
    outcome = judging.expectation(case)
    in_envoy, in_luajit = answers[case.name]
    assert in_envoy == in_luajit
    if outcome.reason != reference.SPANNER_REFUSES:
        judging.assert_answer(world.POLICY, world.NOW, case.who, case.alias, in_envoy, outcome)
        judging.assert_sent(case.path, in_envoy, outcome)
