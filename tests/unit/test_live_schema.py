"""Schemas asked of the databases themselves."""

from __future__ import annotations

import pytest

from spangate.adapters.live_schema import LiveSchemas
from spangate.adapters.spanner import DatabaseDdl
from spangate.errors import PeersFault, YourFault
from spangate.model.database import DatabasePath
from spangate.model.schema import Dialect
from spangate.settings import INTERVALS

PATH = DatabasePath("p", "i", "d")
ONE = DatabaseDdl(Dialect.GOOGLESQL, ("CREATE TABLE A (\n  X INT64,\n) PRIMARY KEY(X)",))
TWO = DatabaseDdl(Dialect.GOOGLESQL, (*ONE.statements, "CREATE TABLE B (\n  Y INT64,\n) PRIMARY KEY(Y)"))


class Spanner:
    """A database whose schema is `ddl`, or which does not answer; and a clock."""

    def __init__(self) -> None:
        self.ddl: DatabaseDdl | None = ONE
        self.asked = 0
        self.now = 1000.0

    def ask(self, path: DatabasePath) -> DatabaseDdl:
        assert path == PATH
        self.asked += 1
        if self.ddl is None:
            raise PeersFault("no answer")
        return self.ddl

    def schemas(self) -> LiveSchemas:
        return LiveSchemas("127.0.0.1:1", ask=self.ask, clock=lambda: self.now)


def test_the_schema_is_what_the_database_says() -> None:
    assert [table.name for table in Spanner().schemas().schema(PATH).tables] == ["A"]


def test_a_database_without_tables_has_an_empty_schema() -> None:
    spanner = Spanner()
    spanner.ddl = DatabaseDdl(Dialect.GOOGLESQL, ())
    assert spanner.schemas().schema(PATH).tables == ()


def test_what_was_learned_last_stays_when_the_database_does_not_answer() -> None:
    spanner = Spanner()
    schemas = spanner.schemas()
    schemas.schema(PATH)
    before = schemas.digest()
    spanner.ddl = None
    spanner.now += 3600
    assert schemas.digest() == before
    assert [table.name for table in schemas.schema(PATH).tables] == ["A"]


def test_with_nothing_learned_silence_is_an_error() -> None:
    spanner = Spanner()
    spanner.ddl = None
    with pytest.raises(PeersFault):
        spanner.schemas().schema(PATH)


def test_what_is_not_understood_is_an_error_and_not_an_empty_schema() -> None:
    spanner = Spanner()
    spanner.ddl = DatabaseDdl(Dialect.GOOGLESQL, ("CREATE TABLE A (X INT46) PRIMARY KEY (X)",))
    with pytest.raises(YourFault, match="does not understand"):
        spanner.schemas().schema(PATH)


def test_a_change_is_seen_after_the_interval_and_costs_nothing_before() -> None:
    spanner = Spanner()
    schemas = spanner.schemas()
    schemas.schema(PATH)
    before = schemas.digest()
    spanner.ddl = TWO
    asked = spanner.asked
    spanner.now += INTERVALS.live_schema_ms / 1000 - 0.01
    assert schemas.digest() == before
    assert spanner.asked == asked
    spanner.now += 0.02
    assert schemas.digest() != before
    assert spanner.asked == asked + 1


def test_after_a_schema_change_was_let_through_it_is_seen_soon() -> None:
    spanner = Spanner()
    schemas = spanner.schemas()
    schemas.schema(PATH)
    before = schemas.digest()
    spanner.ddl = TWO
    schemas.soon()
    spanner.now += INTERVALS.live_schema_soon_ms / 1000 + 0.01
    assert schemas.digest() != before
