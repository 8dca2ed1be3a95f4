"""The files that native code is loaded from: who may write them, what is refused, who compiles."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from spangate.adapters.module_cache import ModuleCache, default_directory, key_of
from spangate.errors import YourFault

CODE = b"native code"


class Compiler:
    """Gives CODE and counts how often it was asked."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> bytes:
        self.runs += 1
        return CODE


def ignore(_: str) -> None:
    """Nobody watches."""


def content(path: str) -> bytes:
    return Path(path).read_bytes()


@pytest.fixture
def cache(tmp_path: Path) -> ModuleCache:
    return ModuleCache(tmp_path / "spangate", "zetasql", key_of("test"))


def test_an_empty_cache_finds_nothing(cache: ModuleCache) -> None:
    assert cache.find() is None
    assert cache.load(content) is None


def test_what_was_filled_in_is_found_and_loaded(cache: ModuleCache) -> None:
    path = cache.fill(Compiler(), ignore)
    assert cache.find() == path
    assert cache.load(content) == CODE


def test_nobody_else_can_read_or_write_what_is_made(cache: ModuleCache) -> None:
    previous = os.umask(0)
    try:
        path = cache.fill(Compiler(), ignore)
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert all(one.stat().st_mode & 0o077 == 0 for one in path.parent.iterdir())


def test_a_warm_cache_is_not_compiled_again(cache: ModuleCache) -> None:
    compiler = Compiler()
    assert cache.fill(compiler, ignore) == cache.fill(compiler, ignore)
    assert compiler.runs == 1


def test_another_key_is_another_module(cache: ModuleCache) -> None:
    cache.fill(Compiler(), ignore)
    assert ModuleCache(cache.directory, cache.name, key_of("another")).find() is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused_and_made_anew(cache: ModuleCache, mode: int) -> None:
    path = cache.fill(Compiler(), ignore)
    path.chmod(mode)
    assert cache.find() is None
    assert cache.load(content) is None
    compiler = Compiler()
    assert cache.fill(compiler, ignore).stat().st_mode & 0o777 == 0o600
    assert compiler.runs == 1


def test_a_file_of_another_user_is_refused(cache: ModuleCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.fill(Compiler(), ignore)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert cache.find() is None


def test_a_directory_of_another_user_is_refused(cache: ModuleCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.directory.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(YourFault, match="can be written by others"):
        cache.fill(Compiler(), ignore)


def test_a_directory_that_others_can_write_is_refused(cache: ModuleCache) -> None:
    cache.fill(Compiler(), ignore)
    cache.directory.chmod(0o777)
    assert cache.find() is None
    with pytest.raises(YourFault, match="can be written by others") as caught:
        cache.fill(Compiler(), ignore)
    assert "SPANGATE_CACHE_DIR" in str(caught.value.help)


def test_a_link_is_not_followed(cache: ModuleCache, tmp_path: Path) -> None:
    path = cache.fill(Compiler(), ignore)
    elsewhere = path.rename(tmp_path / "elsewhere")
    path.symlink_to(elsewhere)
    assert cache.find() is None


def test_a_pipe_is_refused_and_holds_nobody_up(cache: ModuleCache) -> None:
    path = cache.fill(Compiler(), ignore)
    path.unlink()
    os.mkfifo(path, 0o600)
    assert cache.find() is None
    assert cache.fill(Compiler(), ignore).read_bytes() == CODE


@pytest.mark.parametrize("damaged", [CODE[:-1], CODE + b"!", b"", b"hostile code"])
def test_a_file_that_is_not_what_was_written_is_refused_and_made_anew(cache: ModuleCache, damaged: bytes) -> None:
    path = cache.fill(Compiler(), ignore)
    path.write_bytes(damaged)
    assert cache.load(content) is None
    assert cache.fill(Compiler(), ignore).read_bytes() == CODE


def test_a_file_under_a_name_that_its_content_does_not_have_is_cleared_away(cache: ModuleCache) -> None:
    path = cache.fill(Compiler(), ignore)
    wrong = path.rename(path.with_name(f"zetasql-{cache.key}-{'0' * 16}.cwasm"))
    assert cache.find() is None
    assert cache.fill(Compiler(), ignore) == path
    assert not wrong.exists()


def test_a_file_that_cannot_be_loaded_counts_as_absent(cache: ModuleCache) -> None:
    def refuse(_: str) -> bytes:
        raise ValueError("made for another processor")

    cache.fill(Compiler(), ignore)
    assert cache.load(refuse) is None
    assert cache.find() is None


def test_what_is_loaded_is_what_was_checked_even_if_the_file_is_replaced_meanwhile(cache: ModuleCache) -> None:
    path = cache.fill(Compiler(), ignore)

    def replace_then_read(checked: str) -> bytes:
        path.unlink()
        path.write_bytes(b"hostile code")
        return content(checked)

    assert cache.load(replace_then_read) == CODE


def test_a_compilation_that_fails_leaves_nothing_to_load(cache: ModuleCache) -> None:
    def fail() -> bytes:
        raise MemoryError

    with pytest.raises(MemoryError):
        cache.fill(fail, ignore)
    assert [one.suffix for one in cache.directory.iterdir()] == [".lock"]


def test_what_a_process_that_died_left_behind_is_cleared_away(cache: ModuleCache) -> None:
    cache.directory.mkdir(mode=0o700)
    left = cache.directory / f".zetasql-{cache.key}-abcdef"
    left.write_bytes(b"half")
    cache.fill(Compiler(), ignore)
    assert not left.exists()


def test_one_compiles_while_the_others_wait(cache: ModuleCache) -> None:
    compiling, go_on = threading.Event(), threading.Event()
    compiler, heard = Compiler(), list[str]()

    def slowly() -> bytes:
        compiling.set()
        assert go_on.wait(10)
        return compiler()

    def hear(message: str) -> None:
        heard.append(message)
        go_on.set()

    first = threading.Thread(target=cache.fill, args=(slowly, ignore))
    first.start()
    assert compiling.wait(10)
    second = threading.Thread(target=cache.fill, args=(compiler, hear))
    second.start()
    for thread in (first, second):
        thread.join(10)
        assert not thread.is_alive()
    assert compiler.runs == 1
    assert heard == ["another process compiles the SQL analyser; waiting for it"]


def test_a_place_that_is_no_directory_is_the_callers_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(YourFault, match="cannot make the cache directory"):
        ModuleCache(tmp_path / "file" / "spangate", "zetasql", "key").fill(Compiler(), ignore)


def test_the_directory_is_the_one_chosen_else_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("SPANGATE_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_directory() == Path("/home/somebody/.cache/spangate")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert default_directory() == Path("/home/somebody/.cache/spangate")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/somebody")
    assert default_directory() == Path("/var/cache/somebody/spangate")
    monkeypatch.setenv("SPANGATE_CACHE_DIR", str(tmp_path))
    assert default_directory() == tmp_path


def test_keys_differ_with_every_part_and_with_where_parts_end() -> None:
    assert len({key_of("a", "b"), key_of("ab"), key_of("a", "c"), key_of("b", "a"), key_of("a", "b", "")}) == 5
