"""Reading an intent with its schemas from disk, and noticing changes."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.mesh_ca import replace_file
from fakes.shop import INTENT
from spangate.adapters.intent_files import IntentWatcher, files_of, load_policy
from spangate.errors import YourFault
from spangate.intent import IntentErrors
from spangate.model.database import DatabasePath
from spangate.model.policy import Policy
from spangate.model.schema import Schema
from spangate.sql.ddl import parse_ddl

SCHEMA = """
CREATE TABLE Customers (CustomerId STRING(36), Name STRING(MAX), Email STRING(MAX), Region STRING(8))
  PRIMARY KEY (CustomerId);
CREATE TABLE Orders (OrderId STRING(36), CustomerId STRING(36), Status STRING(8), Total NUMERIC) PRIMARY KEY (OrderId);
CREATE TABLE OrderItems (OrderId STRING(36), Item INT64, Quantity INT64) PRIMARY KEY (OrderId, Item);
"""
# Well above two looks of the watch; the promise is a second.
SEEN_SECONDS_MAX = 5.0


@pytest.fixture
def intent(tmp_path: Path) -> Path:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    path = tmp_path / "spangate.yaml"
    path.write_text(INTENT)
    return path


Events = queue.SimpleQueue[Policy | str]


@pytest.fixture
def events(intent: Path) -> Iterator[Events]:
    found: Events = queue.SimpleQueue()
    watcher = IntentWatcher(intent, changed=found.put, broken=found.put)
    watcher.start()
    yield found
    watcher.stop()


def test_an_intent_is_read_with_its_schema(intent: Path) -> None:
    assert len(load_policy(intent).databases["shop"].schema.tables) == 3


def test_a_missing_intent_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(YourFault, match="there is no file") as error:
        load_policy(tmp_path / "spangate.yaml")
    assert "spangate init" in (error.value.help or "")


def test_a_missing_schema_is_an_error_of_the_intent_with_its_place(intent: Path) -> None:
    (intent.parent / "schema.sql").unlink()
    with pytest.raises(IntentErrors, match=r"spangate\.yaml:5:\d+: there is no file"):
        load_policy(intent)


def test_a_broken_schema_is_told_with_its_own_place(intent: Path) -> None:
    (intent.parent / "schema.sql").write_text("CREATE TABLE T (\n  A INT46 NOT NULL,\n) PRIMARY KEY (B)")
    with pytest.raises(IntentErrors, match=r"schema\.sql:\d+:\d+"):
        load_policy(intent)


def test_a_file_that_is_not_text_is_refused(intent: Path) -> None:
    intent.write_bytes(b"\xff\xfe")
    with pytest.raises(YourFault, match="not UTF-8"):
        load_policy(intent)


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(YourFault, match="cannot read"):
        load_policy(tmp_path)


LIVE_INTENT = INTENT.replace("schema: schema.sql", "schema: live")


def test_a_live_schema_is_asked_of_the_database_and_no_file_is_looked_for(intent: Path) -> None:
    (intent.parent / "schema.sql").unlink()
    intent.write_text(LIVE_INTENT)
    asked: list[str] = []

    def live(path: DatabasePath) -> Schema:
        asked.append(str(path))
        return parse_ddl(SCHEMA)

    assert load_policy(intent, live).databases["shop"].schema == parse_ddl(SCHEMA)
    assert asked == ["projects/spangate-local/instances/main/databases/shop"]
    assert files_of(intent) == [intent]


def test_a_live_schema_that_nobody_asks_for_is_an_error_that_says_so(intent: Path) -> None:
    intent.write_text(LIVE_INTENT)
    with pytest.raises(YourFault, match="the schema of `shop` is `live`, and there is no Spanner here"):
        load_policy(intent)


def test_a_change_of_the_intent_is_noticed(intent: Path, events: Events) -> None:
    before = load_policy(intent).version
    replace_file(intent, INTENT.replace("Customers(CustomerId, Region)", "Customers"))
    changed = events.get(timeout=SEEN_SECONDS_MAX)
    assert isinstance(changed, Policy)
    assert changed.version != before


def test_a_change_of_the_schema_is_noticed(intent: Path, events: Events) -> None:
    replace_file(intent.parent / "schema.sql", SCHEMA.replace("Region STRING(8)", "Region STRING(9)"))
    assert isinstance(events.get(timeout=SEEN_SECONDS_MAX), Policy)


def test_a_broken_intent_is_told_and_mended_again(intent: Path, events: Events) -> None:
    # At once: on a busy machine the watcher may look twice between a file's emptying and its end.
    replace_file(intent, INTENT.replace("Orders(Status)", "Orders(Sttus)"))
    told = events.get(timeout=SEEN_SECONDS_MAX)
    assert isinstance(told, str)
    assert "Sttus" in told
    assert "stays in force" in told
    replace_file(intent, INTENT)
    assert isinstance(events.get(timeout=SEEN_SECONDS_MAX), Policy)


def test_a_file_replaced_by_rename_is_noticed(intent: Path, events: Events) -> None:
    new = intent.with_suffix(".new")
    new.write_text(INTENT + "\n# more\n")
    new.rename(intent)
    assert isinstance(events.get(timeout=SEEN_SECONDS_MAX), Policy)


def test_a_file_that_is_being_written_is_not_taken_for_broken(intent: Path) -> None:
    found: Events = queue.SimpleQueue()
    watcher = IntentWatcher(intent, changed=found.put, broken=found.put)
    changed = INTENT.replace("Customers(CustomerId, Region)", "Customers")
    for text in ("", changed[:100], changed):
        intent.write_text(text)
        watcher.look()
        assert found.empty()
    watcher.look()
    assert isinstance(found.get_nowait(), Policy)
    watcher.look()
    assert found.empty()
