"""Keys in a key ring of Cloud KMS (a server of the tests'): what it adds to the contract (test_key_keepers.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from google.auth.exceptions import RefreshError, TransportError
from google.cloud import kms_v1

from fakes import kms
from fakes.clock import FakeClock
from fakes.kms import RING, KmsServer, State
from spangate.adapters.authority_store import AuthorityFile
from spangate.adapters.keys import SystemKeys, request_pem
from spangate.adapters.kms_keys import ATTEMPTS, KmsKeys
from spangate.adapters.kms_uri import RingPlace
from spangate.authority.ca import Authority
from spangate.errors import Broken, TryAgain, YourFault
from spangate.model.identity import SpiffeId

CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")
ECDSA = ec.ECDSA(hashes.SHA256())
ROOT = f"{RING}/cryptoKeys/spangate_root-1"


@pytest.fixture
def server() -> KmsServer:
    return KmsServer()


@pytest.fixture
def client(server: KmsServer) -> Iterator[kms_v1.KeyManagementServiceClient]:
    with kms.serving(server) as found:
        yield found


@pytest.fixture
def keeper(client: kms_v1.KeyManagementServiceClient) -> KmsKeys:
    return KmsKeys(RingPlace(RING), client, sleep=lambda _: None)


def signs(key: ec.EllipticCurvePrivateKey) -> None:
    key.public_key().verify(key.sign(b"x", ECDSA), b"x", ECDSA)


# What is made ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protection", ["hsm", "software"])
def test_a_key_is_one_that_signs_on_p256_where_it_was_asked_for(
    server: KmsServer, client: kms_v1.KeyManagementServiceClient, protection: str
) -> None:
    KmsKeys(RingPlace(RING, protection=protection), client, sleep=lambda _: None).make("root-1")
    key = server.keys[ROOT].key
    assert key.purpose.name == "ASYMMETRIC_SIGN"
    assert key.version_template.algorithm.name == "EC_SIGN_P256_SHA256"
    assert key.version_template.protection_level.name == protection.upper()
    assert dict(key.labels) == {"spangate": "authority"}


def test_a_key_that_takes_long_is_waited_for_and_one_that_takes_too_long_is_not(
    server: KmsServer, client: kms_v1.KeyManagementServiceClient
) -> None:
    slept: list[float] = []
    keeper = KmsKeys(RingPlace(RING), client, sleep=slept.append)
    server.polls = 5
    signs(keeper.make("root-1"))
    assert len(slept) == 5
    server.polls = 1_000
    with pytest.raises(TryAgain, match="has not made the key `root-2` in 60 s"):
        keeper.make("root-2")
    # It is there then, and of use once it is ready.
    assert keeper.names() == ("root-1", "root-2")
    with pytest.raises(YourFault, match="`root-2` is pending_generation"):
        keeper.open("root-2")


def test_a_key_whose_making_was_not_seen_is_not_made_twice(server: KmsServer, keeper: KmsKeys) -> None:
    server.faults["create_crypto_key"] = [grpc.StatusCode.UNAVAILABLE]
    with pytest.raises(TryAgain, match="could not make the key"):
        keeper.make("root-1")
    assert server.calls.count("create_crypto_key") == 1


def test_names_are_found_over_pages_and_only_ones_own(
    server: KmsServer, client: kms_v1.KeyManagementServiceClient, keeper: KmsKeys
) -> None:
    other = KmsKeys(RingPlace(RING, "other"), client, sleep=lambda _: None)
    for number in range(7):
        keeper.make(f"root-{number}")
        other.make(f"root-{number}")
    keeper.destroy("root-3")
    assert keeper.names() == tuple(f"root-{number}" for number in range(7) if number != 3)
    assert other.names() == tuple(f"root-{number}" for number in range(7))
    # What is gone is not asked for again.
    server.calls.clear()
    keeper.names()
    assert server.calls.count("get_crypto_key_version") == 6


def test_a_name_whose_id_would_be_too_long_is_none(keeper: KmsKeys) -> None:
    with pytest.raises(Broken, match="more than 63 characters"):
        keeper.make("a" * 60)


# What is refused ------------------------------------------------------------------------------------------------------


def test_what_is_destroyed_is_scheduled_and_its_name_is_not_given_again(server: KmsServer, keeper: KmsKeys) -> None:
    key = keeper.make("root-1")
    keeper.destroy("root-1")
    assert server.keys[ROOT].state == State.DESTROY_SCHEDULED
    with pytest.raises(YourFault, match="not enabled"):
        key.sign(b"x", ECDSA)
    with pytest.raises(Broken, match="already"):
        keeper.make("root-1")


def test_a_key_that_is_disabled_brought_there_or_of_another_kind_is_not_opened(
    server: KmsServer, keeper: KmsKeys
) -> None:
    keeper.make("root-1")
    kept = server.keys[ROOT]
    kept.state = State.DISABLED
    with pytest.raises(YourFault, match="`root-1` is disabled"):
        keeper.open("root-1")
    kept.state, kept.import_job = State.ENABLED, f"{RING}/importJobs/1"
    with pytest.raises(YourFault, match="others may have it"):
        keeper.open("root-1")
    kept.import_job, kept.private = "", ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(YourFault, match="not on P-256"):
        keeper.open("root-1")


def test_a_key_ring_that_is_not_there_is_an_error_that_says_so(client: kms_v1.KeyManagementServiceClient) -> None:
    keeper = KmsKeys(RingPlace(f"{RING}-2"), client)
    for attempt in (keeper.names, lambda: keeper.make("root-1")):
        with pytest.raises(YourFault, match="not found"):
            attempt()
    with pytest.raises(YourFault, match="no key"):
        keeper.open("root-1")
    keeper.destroy("root-1")


# What is damaged or fails on the way ----------------------------------------------------------------------------------


def set_to(**values: Any) -> Any:
    def damage(response: Any) -> None:
        for name, value in values.items():
            setattr(response, name, value)

    return damage


@pytest.mark.parametrize(
    ("method", "damage"),
    [
        ("asymmetric_sign", set_to(signature=b"0\x06\x02\x01\x01\x02\x01\x01")),
        ("asymmetric_sign", set_to(signature_crc32c=1)),
        ("asymmetric_sign", set_to(signature_crc32c=None)),
        ("asymmetric_sign", set_to(verified_digest_crc32c=False)),
        ("asymmetric_sign", set_to(name=f"{RING}/cryptoKeys/another/cryptoKeyVersions/1")),
        ("get_public_key", set_to(pem_crc32c=1)),
        ("get_public_key", set_to(name="")),
    ],
)
def test_an_answer_that_is_not_the_right_one_is_asked_for_again_and_never_used(
    server: KmsServer, client: kms_v1.KeyManagementServiceClient, keeper: KmsKeys, method: str, damage: Any
) -> None:
    keeper.make("root-1")
    server.damage[method] = damage
    server.calls.clear()
    with pytest.raises(TryAgain, match="was damaged on the way"):
        KmsKeys(RingPlace(RING), client).open("root-1")
    assert server.calls.count(method) == ATTEMPTS


def test_an_answer_that_is_damaged_once_does_no_harm(server: KmsServer, keeper: KmsKeys) -> None:
    key = keeper.make("root-1")

    def once(response: Any) -> None:
        response.signature_crc32c = 1
        del server.damage["asymmetric_sign"]

    server.damage["asymmetric_sign"] = once
    signs(key)


def test_a_digest_that_is_damaged_on_the_way_is_sent_again(server: KmsServer, keeper: KmsKeys) -> None:
    key = keeper.make("root-1")
    server.faults["asymmetric_sign"] = [grpc.StatusCode.INVALID_ARGUMENT]
    signs(key)
    server.faults["asymmetric_sign"] = [grpc.StatusCode.INVALID_ARGUMENT] * ATTEMPTS
    with pytest.raises(TryAgain, match="damaged"):
        key.sign(b"x", ECDSA)


def test_a_signature_of_another_key_is_noticed_when_a_key_is_opened(
    server: KmsServer, client: kms_v1.KeyManagementServiceClient, keeper: KmsKeys
) -> None:
    keeper.make("root-1")

    def exchange(response: Any) -> None:
        server.keys[ROOT].private = ec.generate_private_key(ec.SECP256R1())

    server.damage["get_public_key"] = exchange
    with pytest.raises(TryAgain, match="signed by another key"):
        KmsKeys(RingPlace(RING), client).open("root-1")


def test_a_service_that_is_away_for_a_moment_is_asked_again(server: KmsServer, keeper: KmsKeys) -> None:
    key = keeper.make("root-1")
    server.faults["asymmetric_sign"] = [grpc.StatusCode.UNAVAILABLE]
    signs(key)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("RESOURCE_EXHAUSTED", TryAgain),
        ("INTERNAL", TryAgain),
        ("DEADLINE_EXCEEDED", TryAgain),
        ("PERMISSION_DENIED", YourFault),
        ("UNAUTHENTICATED", YourFault),
        ("FAILED_PRECONDITION", YourFault),
    ],
)
def test_an_error_says_whether_to_try_again(
    server: KmsServer, keeper: KmsKeys, code: str, error: type[Exception]
) -> None:
    key = keeper.make("root-1")
    attempts = {
        "asymmetric_sign": lambda: key.sign(b"x", ECDSA),
        "get_crypto_key_version": lambda: keeper.open("root-1"),
        "list_crypto_keys": keeper.names,
        "create_crypto_key": lambda: keeper.make("root-2"),
        "destroy_crypto_key_version": lambda: keeper.destroy("root-1"),
    }
    for method, attempt in attempts.items():
        server.faults[method] = [grpc.StatusCode[code]]
        with pytest.raises(error) as caught:
            attempt()
        if code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            assert "roles/cloudkms.signerVerifier" in caught.value.help


@pytest.mark.parametrize(
    ("raised", "error"), [(TransportError("away"), TryAgain), (RefreshError("revoked"), YourFault)]
)
def test_credentials_that_fail_are_told_from_a_network_that_does(raised: Exception, error: type[Exception]) -> None:
    def fail(**_: Any) -> None:
        raise raised

    class NoCredentials:
        list_crypto_keys = staticmethod(fail)

    with pytest.raises(error):
        KmsKeys(RingPlace(RING), NoCredentials()).names()


# The whole authority -------------------------------------------------------------------------------------------------


def test_an_authority_with_its_keys_in_a_key_ring_is_the_same_after_a_restart(
    client: kms_v1.KeyManagementServiceClient, tmp_path: Path
) -> None:
    def opened() -> Authority:
        keeper = KmsKeys(RingPlace(RING), client, sleep=lambda _: None)
        store = AuthorityFile(tmp_path / "authority.sqlite")
        return Authority.open("shop.example", FakeClock(), SystemKeys(), keeper, store, record=store.record)

    first, second = opened(), opened()
    assert first.bundle_pem() == second.bundle_pem()
    for authority in (first, second):
        assert authority.sign(request_pem(SystemKeys().new_key()), CHECKOUT).serial
