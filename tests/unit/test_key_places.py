"""What `--keys` names: a directory, a token or a key ring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes import softhsm
from fakes.missing import not_installed
from spangate.adapters.key_keepers import KeyFiles
from spangate.adapters.key_places import find_secret, open_keeper
from spangate.adapters.kms_keys import KmsKeys
from spangate.errors import YourFault

URI = "pkcs11:token=authority?module-path=/usr/lib/softhsm/libsofthsm2.so"
RING = "gcpkms://projects/shop-1/locations/europe-west1/keyRings/authority"


def secret(folder: Path, content: bytes) -> Path:
    path = folder / "secret"
    path.write_bytes(content + b"\n")
    path.chmod(0o600)
    return path


def test_a_word_without_a_scheme_is_a_directory(tmp_path: Path) -> None:
    place = str(tmp_path / "keys")
    passphrase = find_secret(place, {}, secret(tmp_path, b"correct horse battery staple"))
    assert not (tmp_path / "keys").exists()
    keeper = open_keeper(place, passphrase)
    assert isinstance(keeper, KeyFiles)
    keeper.make("root-1")
    assert (tmp_path / "keys" / "root-1.key").exists()


@pytest.mark.skipif(bool(softhsm.MISSING), reason=softhsm.MISSING)
def test_a_pkcs11_uri_is_a_token_whose_pin_is_found_as_a_passphrase_is(tmp_path: Path) -> None:
    token = softhsm.SoftToken(tmp_path)
    file = secret(tmp_path, softhsm.PIN)
    place = str(token.place)
    open_keeper(place, find_secret(place, {}, file)).make("root-1")
    pin = find_secret(place, {"SPANGATE_KEY_PASSPHRASE_FILE": str(file)}, None)
    assert open_keeper(place, pin).names() == ("root-1",)


def test_a_token_without_a_pin_or_a_uri_that_says_nothing_is_an_error_that_helps(tmp_path: Path) -> None:
    with pytest.raises(YourFault, match="passphrase") as caught:
        find_secret(URI, {}, None)
    assert caught.value.help is not None
    with pytest.raises(YourFault, match="names no token"):
        find_secret("pkcs11:object=a?module-path=/m", {}, secret(tmp_path, b"1234"))


def test_without_the_extra_a_token_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    not_installed(monkeypatch, "pkcs11", "spangate.adapters.pkcs11_keys")
    with pytest.raises(YourFault, match="not installed") as caught:
        open_keeper(URI, b"1234")
    assert caught.value.help == "pip install 'spangate[pkcs11]'"


def test_a_key_ring_needs_googles_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    with pytest.raises(YourFault, match="no Google credentials") as caught:
        open_keeper(RING, b"")
    assert caught.value.help is not None
    with pytest.raises(YourFault, match="names no key ring"):
        find_secret("gcpkms://authority", {}, None)


def test_with_credentials_a_key_ring_is_opened_and_nothing_is_asked_yet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    user = {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}
    (tmp_path / "user.json").write_text(json.dumps(user))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "user.json"))
    assert isinstance(open_keeper(RING, find_secret(RING, {}, None)), KmsKeys)


@pytest.mark.parametrize("package", ["google_crc32c", "google.cloud.kms_v1"])
def test_without_the_extra_a_key_ring_says_what_to_install(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    not_installed(monkeypatch, package, "spangate.adapters.kms_keys")
    with pytest.raises(YourFault, match="not installed") as caught:
        open_keeper(RING, b"")
    assert caught.value.help == "pip install 'spangate[kms]'"
