"""The invariant that is fuzzed: *no byte string is ever allowed whose accesses, as Spanner would read them, the
identity does not hold.*

The filter under LuaJIT with the real checkpoint behind it, against the reference. Statements mean what the corpus says,
and any other text is unreadable: reading SQL has tests of its own, and ten thousand bodies a minute need no analyser.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from conformance import judging, world
from conformance.engines.common import Result, schema_of
from conformance.engines.lua import Failed, Lua
from conformance.seals import WORLD
from fakes.reference import reference
from spangate.model.access import Access, Operation
from spangate.model.schema import Schema
from spangate.model.sqltype import SqlType
from spangate.sql.googlesql import UnreadableStatement

# Then the gateway starts anew: its memory and the record of its decisions are bounded.
REQUESTS_OF_A_GATEWAY = 20_000


def meaning(alias: str, sql: str) -> list[Any] | None:
    """The accesses of a statement, where the corpus has it."""
    try:
        return world.STATEMENTS(alias, sql)
    except KeyError:
        return None


ORACLES_WORLD = {**WORLD, "statements": meaning}


class Table:
    """A `checkpoint.asked.SharedStatements` that knows the corpus' statements."""

    def keeps(self, schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> bool:
        return True

    def accesses(
        self, schema: Schema, sql: str, param_types: Mapping[str, SqlType], *, identity: str = ""
    ) -> tuple[Access, ...]:
        alias = "shop" if schema is schema_of("shop") else "logs"
        found = meaning(alias, sql)
        if found is None:
            raise UnreadableStatement("not in the corpus")
        return tuple(
            Access(Operation(one.operation), one.table, tuple(sorted(one.columns)), one.every) for one in found
        )


class Broken(AssertionError):
    """The invariant does not hold for this input."""


class Fuzz:
    """Judges inputs, and counts what came of them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        # Refused though the reference grants it: no danger, but a client's trouble.
        self.too_strict: Counter[str] = Counter()
        self._requests = 0
        self._gateway: Lua | None = None

    def __enter__(self) -> Fuzz:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._gateway is not None:
            self._gateway.close()
            self._gateway = None

    def _filter(self) -> Lua:
        if self._requests % REQUESTS_OF_A_GATEWAY == 0:
            self.close()
            self._gateway = Lua(Table(), world.POLICY, world.NOW)
        self._requests += 1
        assert self._gateway is not None
        return self._gateway

    def judge(self, who: str, path: str, body: bytes) -> Result:
        """Raises Broken."""
        identity = world.spiffe_id(who)
        try:
            result = self._filter().judge(identity, path, body)
        except Failed as error:
            raise Broken(f"the filter fails: {error}") from error
        outcome = reference.judge(ORACLES_WORLD, world.NOW, identity, path, body)
        self.counts[outcome.reason if outcome.reason == result.reason else f"{outcome.reason}/{result.reason}"] += 1
        if outcome.reason == reference.SPANNER_REFUSES:
            return result
        if result.allowed and not outcome.allowed:
            raise Broken(f"allowed, where the reference says {outcome.reason}")
        if outcome.allowed and not result.allowed:
            self.too_strict[f"{path.rpartition('/')[2]}: {result.reason}"] += 1
        elif outcome.allowed:
            if result.accesses != outcome.accesses:
                raise Broken(f"allowed for {set(result.accesses)}, but it does {set(outcome.accesses)}")
            try:
                judging.assert_sent(path, result, outcome)
            except AssertionError as error:
                raise Broken(f"what is sent on is not what the reference expects: {error}") from error
        return result
