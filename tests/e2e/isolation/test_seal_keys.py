"""One contract for every place that keeps sealing keys: a file, and a table in Spanner."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from e2e.harness import LAB_SCHEMA
from spangate.adapters.emulator import free_port
from spangate.adapters.seal_keys import FileSealKeys, SpannerSealKeys, new_seal_key
from spangate.adapters.spanner import create_database
from spangate.checkpoint.sealing import SealKey, SealKeyStore
from spangate.errors import PeersFault, YourFault
from spangate.model.database import DatabasePath

pytestmark = pytest.mark.e2e

Open = Callable[[], SealKeyStore]
NOON = datetime(2030, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(params=["file", "spanner"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same store again and again."""
    if request.param == "file":
        return lambda: FileSealKeys(tmp_path / "seals.sqlite")
    address: str = request.getfixturevalue("emulator_address")
    database = DatabasePath("contract", "seal-keys", f"d{abs(hash(tmp_path)) % 10**8}")
    return lambda: SpannerSealKeys(address, database)


def by_id(store: SealKeyStore) -> dict[str, SealKey]:
    return {key.id: key for key in store.load()}


def test_a_new_store_is_empty(opens: Open) -> None:
    assert opens().load() == ()


def test_what_is_added_is_there_whole_and_after_opening_again(opens: Open) -> None:
    store = opens()
    keys = [new_seal_key(NOON), SealKey("00000000", "0" * 32, datetime(2029, 1, 1, tzinfo=UTC))]
    for key in keys:
        store.add(key)
    expected = {key.id: key for key in keys}
    assert by_id(store) == expected
    assert by_id(opens()) == expected
    assert all(key.created.tzinfo is not None for key in store.load())


def test_two_that_share_a_store_see_each_others_keys(opens: Open) -> None:
    one, two = opens(), opens()
    first, second = new_seal_key(NOON), new_seal_key(NOON)
    one.add(first)
    two.add(second)
    assert by_id(one) == by_id(two) == {first.id: first, second.id: second}


def test_what_is_removed_is_gone_and_what_is_not_there_is_no_error(opens: Open) -> None:
    store = opens()
    stays, goes = new_seal_key(NOON), new_seal_key(NOON)
    store.add(stays)
    store.add(goes)
    store.remove([goes.id, "ffffffff"])
    store.remove([])
    assert by_id(opens()) == {stays.id: stays}


def test_one_id_is_not_given_twice(opens: Open) -> None:
    store = opens()
    key = new_seal_key(NOON)
    store.add(key)
    with pytest.raises((YourFault, PeersFault)) as caught:
        store.add(SealKey(key.id, "f" * 32, NOON))
    assert key.secret not in str(caught.value)
    assert by_id(store) == {key.id: key}


def test_keys_are_random_and_of_their_form() -> None:
    keys = [new_seal_key(NOON) for _ in range(100)]
    assert len({key.secret for key in keys}) == 100
    assert {(len(key.id), len(key.secret)) for key in keys} == {(8, 32)}


def test_the_file_is_the_own_users_alone_whatever_it_was(tmp_path: Path) -> None:
    path = tmp_path / "seals.sqlite"
    path.touch(mode=0o644)
    FileSealKeys(path).add(new_seal_key(NOON))
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["seals.sqlite"]


def test_a_file_that_is_none_of_ours_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "seals.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(YourFault) as caught:
        FileSealKeys(path)
    assert "remove it" in (caught.value.help or "")
    with pytest.raises(YourFault):
        FileSealKeys(tmp_path / "missing" / "seals.sqlite")
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute("SELECT 1 FROM keys")


def test_the_table_is_added_to_a_database_that_is_there(emulator_address: str) -> None:
    database = DatabasePath("contract", "seal-keys", "existing")
    create_database(emulator_address, database, [LAB_SCHEMA.partition(";")[0]])
    for _ in range(2):
        assert SpannerSealKeys(emulator_address, database).load() == ()


def test_a_spanner_that_is_away_is_an_error_that_names_the_database() -> None:
    with pytest.raises(PeersFault, match="SpangateSealKeys"):
        SpannerSealKeys(f"127.0.0.1:{free_port()}", DatabasePath("contract", "seal-keys", "away"))
