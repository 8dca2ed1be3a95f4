"""Keepers of private keys: one contract for all, and what files add to it."""

from __future__ import annotations

import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.cloud import kms_v1

from fakes import kms, softhsm
from spangate.adapters.key_keepers import (
    CREDENTIAL,
    PASSPHRASE_BYTES_MAX,
    KeyFiles,
    MemoryKeys,
    find_passphrase,
)
from spangate.adapters.kms_keys import KmsKeys
from spangate.adapters.kms_uri import RingPlace
from spangate.adapters.pkcs11_keys import Pkcs11Keys
from spangate.authority.keeper import KeyKeeper
from spangate.errors import Broken, SpangateError, YourFault

PASSPHRASE = b"correct horse battery staple"
Opens = Callable[[], KeyKeeper]


# A key ring of the real Cloud KMS, `projects/P/locations/L/keyRings/R`, to hold to the contract as well; with the
# credentials that Google's libraries find. Its keys are scheduled for destruction afterwards; their ids stay.
REAL_RING = os.environ.get("SPANGATE_TEST_KMS_KEY_RING", "")


@pytest.fixture(params=["memory", "files", "token", "key ring", *(["real key ring"] if REAL_RING else [])])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opens]:
    """The same keys, whenever it is opened."""
    if request.param == "files":
        yield lambda: KeyFiles(tmp_path / "keys", PASSPHRASE)
    elif request.param == "token":
        if softhsm.MISSING:
            pytest.skip(softhsm.MISSING)
        token = softhsm.SoftToken(tmp_path)
        yield lambda: Pkcs11Keys(token.place, softhsm.PIN)
    elif request.param == "key ring":
        with kms.serving(kms.KmsServer()) as client:
            yield lambda: KmsKeys(RingPlace(kms.RING), client, sleep=lambda _: None)
    elif request.param == "real key ring":
        place = RingPlace(REAL_RING, f"test-{secrets.token_hex(6)}", "software")
        yield lambda: KmsKeys(place, kms_v1.KeyManagementServiceClient())
        keeper = KmsKeys(place, kms_v1.KeyManagementServiceClient())
        for name in keeper.names():
            keeper.destroy(name)
    else:
        memory = MemoryKeys()
        yield lambda: memory


def same(one: ec.EllipticCurvePrivateKey, other: ec.EllipticCurvePrivateKey) -> bool:
    return one.public_key() == other.public_key()


# The contract --------------------------------------------------------------------------------------------------------


def test_a_new_keeper_is_empty(opens: Opens) -> None:
    assert opens().names() == ()


def test_a_key_that_was_made_is_there_after_opening_again(opens: Opens) -> None:
    made = opens().make("root-1")
    again = opens()
    assert again.names() == ("root-1",)
    assert same(again.open("root-1"), made)


def test_keys_sign_certificates_requests_and_bytes(opens: Opens) -> None:
    opens().make("root-1")
    key = opens().open("root-1")
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    assert request.is_signature_valid
    key.public_key().verify(key.sign(b"x", ec.ECDSA(hashes.SHA256())), b"x", ec.ECDSA(hashes.SHA256()))


def test_every_key_is_another_one_on_p256(opens: Opens) -> None:
    keeper = opens()
    first, second = keeper.make("a"), keeper.make("b")
    assert not same(first, second)
    assert isinstance(first.curve, ec.SECP256R1)


def test_a_name_is_given_once(opens: Opens) -> None:
    made = opens().make("root-1")
    with pytest.raises(Broken, match="already"):
        opens().make("root-1")
    assert same(opens().open("root-1"), made)


def test_what_is_destroyed_is_gone_and_what_is_not_there_is_no_error(opens: Opens) -> None:
    opens().make("root-1")
    opens().destroy("root-1")
    opens().destroy("root-1")
    assert opens().names() == ()
    with pytest.raises(YourFault, match="no key"):
        opens().open("root-1")


@pytest.mark.parametrize("name", ["", "../a", "a/b", "a.b", "A", "-a", "a" * 64, "a\0", "a\n", "ä"])
def test_a_name_is_a_plain_word(opens: Opens, name: str) -> None:
    for attempt in (opens().make, opens().open, opens().destroy):
        with pytest.raises(Broken, match="cannot be called"):
            attempt(name)


def test_of_two_that_make_one_name_one_succeeds(opens: Opens) -> None:
    results: list[bool] = []

    def make() -> None:
        try:
            opens().make("root-1")
            results.append(True)
        except Broken:
            results.append(False)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(True) == 1
    assert opens().names() == ("root-1",)


# Files ---------------------------------------------------------------------------------------------------------------


def test_a_file_is_encrypted_and_the_own_users_alone(tmp_path: Path) -> None:
    key = KeyFiles(tmp_path / "keys", PASSPHRASE).make("root-1")
    (path,) = (tmp_path / "keys").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    content = path.read_bytes()
    plain = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    for form in (plain, plain.hex().encode(), secret, secret.hex().encode()):
        assert form not in content


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda content: content[: len(content) // 2],
    lambda content: b"",
    lambda content: content.replace(b"spangate-key-1", b"spangate-key-2"),
    lambda content: content + b" " * 5_000,
    lambda content: b"\0" * 100,
    lambda content: b"[]",
    lambda content: b'{"format": "spangate-key-1"}',
    lambda content: content[:-6] + (b"0" if content[-6:-5] != b"0" else b"1") + content[-5:],
    lambda content: content.replace(b'"salt": "', b'"salt": "zz'),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    keeper = KeyFiles(tmp_path / "keys", PASSPHRASE)
    keeper.make("root-1")
    (path,) = (tmp_path / "keys").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(YourFault, match="`root-1` cannot be opened"):
        keeper.open("root-1")


def test_a_file_in_the_place_of_another_does_not_open(tmp_path: Path) -> None:
    keeper = KeyFiles(tmp_path / "keys", PASSPHRASE)
    keeper.make("leaf")
    (tmp_path / "keys" / "leaf.key").rename(tmp_path / "keys" / "root.key")
    with pytest.raises(YourFault, match="not its own file"):
        keeper.open("root")


def test_another_passphrase_opens_nothing_and_is_not_told(tmp_path: Path) -> None:
    KeyFiles(tmp_path / "keys", PASSPHRASE).make("root-1")
    with pytest.raises(YourFault) as caught:
        KeyFiles(tmp_path / "keys", b"another passphrase").open("root-1")
    assert "another passphrase" in caught.value.message
    assert PASSPHRASE.decode() not in repr(caught.value) + str(caught.value.help)


def test_a_directory_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o755)
    (tmp_path / "keys").chmod(0o755)
    with pytest.raises(YourFault, match="open to other users") as caught:
        KeyFiles(tmp_path / "keys", PASSPHRASE)
    assert caught.value.help is not None


@pytest.mark.parametrize("passphrase", [b"", b"short", b"x" * (PASSPHRASE_BYTES_MAX + 1)])
def test_a_passphrase_has_some_length(tmp_path: Path, passphrase: bytes) -> None:
    with pytest.raises(YourFault, match="passphrase has"):
        KeyFiles(tmp_path / "keys", passphrase)


def test_a_full_or_missing_disk_leaves_nothing_half_done(tmp_path: Path) -> None:
    keeper = KeyFiles(tmp_path / "keys", PASSPHRASE)
    (tmp_path / "keys").rmdir()
    with pytest.raises(SpangateError):
        keeper.make("root-1")
    (tmp_path / "keys").mkdir(mode=0o700)
    keeper.make("root-1")
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["root-1.key"]


# The passphrase ------------------------------------------------------------------------------------------------------


def secret_file(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_passphrase_comes_from_the_file_then_the_variable_then_systemd(tmp_path: Path) -> None:
    given = secret_file(tmp_path / "given", b"from the argument\n")
    named = secret_file(tmp_path / "named", b"from the variable\r\n")
    secret_file(tmp_path / CREDENTIAL, b"from systemd")
    everything = {"SPANGATE_KEY_PASSPHRASE_FILE": str(named), "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert find_passphrase(everything, given) == b"from the argument"
    assert find_passphrase(everything) == b"from the variable"
    assert find_passphrase({"CREDENTIALS_DIRECTORY": str(tmp_path)}) == b"from systemd"
    with pytest.raises(YourFault, match="need a passphrase"):
        find_passphrase({})


def test_a_passphrase_that_others_can_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(YourFault, match="by other users"):
        find_passphrase({}, secret_file(tmp_path / "open", PASSPHRASE, 0o644))
    with pytest.raises(YourFault, match="cannot read"):
        find_passphrase({}, tmp_path / "nowhere")
