"""Whose certificates the gateway refuses: a small file that is replaced whole, and believed only when it is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from spangate.adapters.issuers_file import NAMES_MAX, Issuers, IssuersFile

SOME = Issuers(("spangate intermediate 1 0123456789abcdef",), ("spangate intermediate 2 00", "x"))


def test_what_was_written_is_read_also_by_another_and_a_change_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "issuers.json"
    writer, reader = IssuersFile(path), IssuersFile(path)
    assert reader.read() == Issuers()
    writer.write(SOME)
    assert reader.read() == SOME
    writer.write(Issuers())
    assert reader.read() == Issuers()
    assert [one.name for one in tmp_path.iterdir()] == ["issuers.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"leaving": []}',
        '{"leaving": [], "refused": [], "more": []}',
        '{"leaving": "x", "refused": []}',
        '{"leaving": [1], "refused": []}',
        '{"leaving": ["a,b"], "refused": []}',
        '{"leaving": ["a\\nb"], "refused": []}',
        '{"leaving": [""], "refused": []}',
        '{"leaving": [], "refused": ' + str(["x"] * (NAMES_MAX + 1)).replace("'", '"') + "}",
        '{"leaving": [], "refused": ["' + "x" * 70_000 + '"]}',
        "\u00e4",
    ],
)
def test_what_cannot_be_read_changes_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "issuers.json"
    file = IssuersFile(path)
    file.write(SOME)
    assert file.read() == SOME
    path.write_text(text, encoding="utf-8")
    assert file.read() == SOME
    path.unlink()
    assert file.read() == SOME
