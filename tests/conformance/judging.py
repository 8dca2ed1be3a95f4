"""When an engine's answer is the reference's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from conformance import cases
from conformance.engines.common import Result
from conformance.seals import WORLD, sealing
from conformance.world import NOW
from fakes.reference import reference


@cache
def expectation(case: cases.Case) -> Any:
    """What the reference says to a case."""
    return reference.judge(WORLD, NOW, case.identity, case.path, case.body(sealing()))


def assert_answer(policy: Mapping[str, Any], now: datetime, who: str, alias: str, result: Result, outcome: Any) -> None:
    """The same reason and accesses; and the grants that it names are those it rests on, no more and no less."""
    assert result.reason == outcome.reason
    assert result.accesses == outcome.accesses
    if result.status is not None:
        assert result.status == reference.STATUS_OF.get(outcome.reason, 7)
    held = reference.standing_grants(policy, who, alias, now)
    if outcome.reason == "missing-grant":
        assert result.missing == outcome.missing
        assert result.grants == ()
    if outcome.reason == "granted":
        assert all(any(same(one, other) for other in held) for one in result.grants)
        assert reference.rests_on_exactly(result.grants, outcome.accesses)
    if outcome.reason == "denied":
        assert sorted(map(str, result.grants)) == sorted(str(plain(one)) for one in outcome.exceptions)


def assert_sent(path: str, result: Result, outcome: Any) -> None:
    """What goes to Spanner is the message that the reference expects; nothing goes if it is not allowed."""
    if not outcome.allowed:
        assert result.sent is None
        return
    assert result.sent is not None
    request = reference.RPCS[path].message()
    request.ParseFromString(reference.one_message(result.sent, 101 * reference.MIB))
    assert request == outcome.sent


def plain(grant: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("identity", "database", "operation", "table", "columns", "every", "deny", "until")
    return {key: grant[key] for key in keys}


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return plain(one) == plain(other)
