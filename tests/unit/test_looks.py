"""A program that creates a table and uses it at once is not told that there is none; asking is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from spangate.adapters.intent_files import IntentWatcher, load_policy
from spangate.adapters.live_schema import LiveSchemas
from spangate.adapters.spanner import DatabaseDdl
from spangate.checkpoint.looks import ALLOWANCE_MAX, Looks
from spangate.checkpoint.service import Checkpoint
from spangate.errors import PeersFault
from spangate.model.access import Access
from spangate.model.database import DatabasePath
from spangate.model.decision import Decision, Reason
from spangate.model.policy import Policy
from spangate.model.schema import Dialect, Schema
from spangate.model.sqltype import SqlType

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
INTENT = """\
spangate: v1
trust_domain: shop.example
databases:
  shop: {instance: main, database: shop, schema: live}
identities:
  maker: {workload: shop/maker}
  other: {workload: shop/other}
access:
  maker: {shop: {read: ["*"], ddl: true}}
  other: {shop: {read: ["Never*"], schema: true}}
"""
MAKER = "spiffe://shop.example/ns/shop/sa/maker"
OTHER = "spiffe://shop.example/ns/shop/sa/other"
A = "CREATE TABLE A (\n  X INT64,\n) PRIMARY KEY(X)"
B = "CREATE TABLE B (\n  X INT64,\n) PRIMARY KEY(X)"


class World:
    """A database, the policy on it, and a checkpoint whose time stands still until it is moved."""

    def __init__(self, folder: Path, *ddl: str) -> None:
        self.ddl: tuple[str, ...] | None = ddl
        self.asked = 0
        self.time = NOON
        self.recorded: list[Decision] = []
        intent = folder / "spangate.yaml"
        intent.write_text(INTENT)
        live = LiveSchemas("127.0.0.1:1", ask=self.ask, clock=lambda: 0.0)
        policy = load_policy(intent, live.schema)
        self.watcher = IntentWatcher(intent, changed=self.changed, broken=lambda _: None, live=live)
        self.checkpoint = Checkpoint(policy, self, self.recorded.append, self, self.watcher.look_at)
        self.asked = 0

    def ask(self, _: DatabasePath) -> DatabaseDdl:
        self.asked += 1
        if self.ddl is None:
            raise PeersFault("no answer")
        return DatabaseDdl(Dialect.GOOGLESQL, self.ddl)

    def changed(self, policy: Policy) -> None:
        self.checkpoint.replace(policy)

    def now(self) -> datetime:
        return self.time

    def accesses(
        self, schema: Schema, sql: str, param_types: Mapping[str, SqlType], identity: str = ""
    ) -> tuple[Access, ...]:
        raise AssertionError("no statements here")

    def keeps(self, schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> bool:
        return True

    def read(self, table: str, identity: str = MAKER) -> Reason:
        parts = ["Read", "projects/spangate-local/instances/main/databases/shop", "", table, "", "X"]
        shape = "".join(f"{len(part)}:{part}," for part in parts).encode()
        return self.checkpoint.answer(identity, shape).decision.reason


def test_a_table_that_was_made_a_moment_ago_is_found(tmp_path: Path) -> None:
    world = World(tmp_path, A)
    before = world.checkpoint.policy.version
    world.ddl = (A, B)
    assert world.read("B") is Reason.GRANTED
    assert world.asked == 1
    assert world.checkpoint.policy.version != before
    # The answer that is recorded is the one that was given, and the only one.
    assert [decision.reason for decision in world.recorded] == [Reason.GRANTED]


def test_a_pattern_on_an_empty_live_database_stands_for_what_comes(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.ddl = (A,)
    assert world.read("A") is Reason.GRANTED


def test_a_newer_schema_gives_nobody_more_than_was_granted(tmp_path: Path) -> None:
    world = World(tmp_path, A)
    world.ddl = (A, B)
    assert world.read("B", OTHER) is Reason.MISSING_GRANT


def test_what_is_known_is_not_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path, A)
    assert world.read("A") is Reason.GRANTED
    assert world.read("A", OTHER) is Reason.MISSING_GRANT
    assert world.asked == 0


def test_a_database_that_does_not_answer_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, A)
    world.ddl = None
    assert world.read("B") is Reason.UNKNOWN_TABLE
    assert world.read("A") is Reason.GRANTED


def test_who_asks_for_what_is_not_there_uses_up_its_own_allowance(tmp_path: Path) -> None:
    world = World(tmp_path, A)
    for _ in range(int(ALLOWANCE_MAX) + 20):
        assert world.read("B") is Reason.UNKNOWN_TABLE
    assert world.asked == ALLOWANCE_MAX
    world.ddl = (A, B)
    assert world.read("B") is Reason.UNKNOWN_TABLE
    assert world.read("B", OTHER) is Reason.MISSING_GRANT
    assert world.asked == ALLOWANCE_MAX + 1


def test_the_allowance_comes_back_with_time_and_not_by_setting_the_clock_back() -> None:
    looks = Looks()
    while looks.take("maker", NOON):
        pass
    assert not looks.take("maker", NOON - timedelta(days=1))
    assert looks.take("maker", NOON + timedelta(seconds=1))
    assert not looks.take("maker", NOON + timedelta(seconds=1))
    assert looks.take("other", NOON)
