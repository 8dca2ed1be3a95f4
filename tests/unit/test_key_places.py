"""What `--keys` names: a directory or a token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import softhsm
from fakes.missing import not_installed
from spangate.adapters.key_keepers import KeyFiles
from spangate.adapters.key_places import check_place, open_keeper
from spangate.errors import YourFault

URI = "pkcs11:token=authority?module-path=/usr/lib/softhsm/libsofthsm2.so"


def test_a_word_without_a_scheme_is_a_directory(tmp_path: Path) -> None:
    keeper = open_keeper(str(tmp_path / "keys"), b"correct horse battery staple")
    assert isinstance(keeper, KeyFiles)
    keeper.make("root-1")
    assert (tmp_path / "keys" / "root-1.key").exists()


@pytest.mark.skipif(bool(softhsm.MISSING), reason=softhsm.MISSING)
def test_a_pkcs11_uri_is_a_token_that_its_pin_unlocks(tmp_path: Path) -> None:
    token = softhsm.SoftToken(tmp_path)
    open_keeper(str(token.place), softhsm.PIN).make("root-1")
    assert open_keeper(str(token.place), softhsm.PIN).names() == ("root-1",)


@pytest.mark.parametrize("use", [check_place, lambda place: open_keeper(place, b"1234")])
def test_a_uri_that_names_no_token_is_an_error(use: Callable[[str], object]) -> None:
    with pytest.raises(YourFault, match="names no token"):
        use("pkcs11:object=a?module-path=/m")


def test_a_place_that_may_be_one_is_not_opened_to_be_checked(tmp_path: Path) -> None:
    for place in (URI, str(tmp_path / "keys")):
        check_place(place)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_a_token_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    not_installed(monkeypatch, "pkcs11", "spangate.adapters.pkcs11_keys")
    with pytest.raises(YourFault, match="not installed") as caught:
        open_keeper(URI, b"1234")
    assert caught.value.help == "pip install 'spangate[pkcs11]'"
