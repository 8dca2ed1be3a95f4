"""Which processes the identities are, as the intent says now: changes that have settled, and no broken ones."""

from __future__ import annotations

from pathlib import Path

from spangate.adapters.selector_watch import Selectors, SelectorWatch
from spangate.model.identity import SpiffeId
from spangate.model.unix import UnixSelectors

A = SpiffeId.workload("shop.example", "shop", "a")
INTENT = """\
spangate: v1
trust_domain: shop.example
databases: {shop: {instance: main, database: shop, schema: nowhere.sql}}
identities: {a: {workload: shop/a, unix: {user: USER}}}
"""


def test_a_change_counts_once_it_has_settled(tmp_path: Path) -> None:
    intent = tmp_path / "spangate.yaml"
    intent.write_text(INTENT)
    told: list[Selectors] = []
    watch = SelectorWatch(intent, told.append)
    assert watch.known == {A: UnixSelectors(user="USER")}
    watch.look()
    intent.write_text("")
    watch.look()
    intent.write_text(INTENT.replace("USER", "etl"))
    watch.look()
    assert told == []
    watch.look()
    watch.look()
    assert told == [{A: UnixSelectors(user="etl")}]


def test_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    intent = tmp_path / "spangate.yaml"
    intent.write_text(INTENT)
    told: list[Selectors] = []
    watch = SelectorWatch(intent, told.append)
    for text in ("", "spangate: v1\n", INTENT.replace("{user: USER}", "{executable: /bin/x}")):
        intent.write_text(text)
        watch.look()
        watch.look()
    intent.unlink()
    watch.look()
    watch.look()
    assert told == []
    assert watch.known == {A: UnixSelectors(user="USER")}


def test_a_change_of_something_else_is_none(tmp_path: Path) -> None:
    intent = tmp_path / "spangate.yaml"
    intent.write_text(INTENT)
    told: list[Selectors] = []
    watch = SelectorWatch(intent, told.append)
    intent.write_text(INTENT + "# a comment\n")
    watch.look()
    watch.look()
    assert told == []


def test_without_a_file_that_can_be_read_nobody_is_anybody(tmp_path: Path) -> None:
    told: list[Selectors] = []
    watch = SelectorWatch(tmp_path / "spangate.yaml", told.append)
    assert watch.known == {}
    (tmp_path / "spangate.yaml").write_text(INTENT)
    watch.look()
    watch.look()
    assert told == [{A: UnixSelectors(user="USER")}]
