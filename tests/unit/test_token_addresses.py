"""From where a token is taken: addresses are compared as what they are, digests as what was signed."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fakes.cluster import AUDIENCE, ISSUER
from fakes.cluster import Cluster as FakeCluster
from spangate.adapters import authority_store
from spangate.adapters.authority_store import REPLAYS_OF_TOKEN_MAX, AuthorityFile
from spangate.authority.kubernetes_token import Attested, Cluster, attest
from spangate.authority.token_addresses import Replay, ShownElsewhere, TokenAddresses, source_address
from spangate.errors import TryAgain
from spangate.model.identity import SpiffeId

NOW = datetime(2026, 11, 27, tzinfo=UTC)
CHECKOUT = SpiffeId.workload("shop.example", "shop", "checkout")
# Of P-256.
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def attested(digest: str = "d1", minutes: float = 60) -> Attested:
    return Attested(CHECKOUT, "pod-1", NOW + timedelta(minutes=minutes), digest)


class Time:
    def __init__(self) -> None:
        self.now = NOW


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(tmp_path: Path, time: Time) -> Iterator[AuthorityFile]:
    with closing(AuthorityFile(tmp_path / "authority.sqlite", lambda: time.now)) as made:
        yield made


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_ipv6_clothes_is_the_same_address(address: ipaddress.IPv4Address) -> None:
    assert source_address(f"::ffff:{address}") == source_address(str(address)) == str(address)


@given(st.ip_addresses(v=6))
def test_every_spelling_of_an_address_is_one(address: ipaddress.IPv6Address) -> None:
    assert source_address(address.exploded) == source_address(address.compressed.upper())


@pytest.mark.parametrize("text", ["", "localhost", "127.0.0.1:80", "1.2.3", "::1 ", "01.2.3.4"])
def test_what_is_no_address_is_nobodys(store: AuthorityFile, text: str) -> None:
    assert source_address(text) is None
    told: list[str] = []
    addresses = TokenAddresses(store, told.append)
    with pytest.raises(ShownElsewhere):
        addresses.check(attested(), text, NOW)
    # And takes no place.
    addresses.check(attested(), "10.0.0.1", NOW)
    assert "an address that is not known" in told[0]


def test_a_token_is_forgotten_when_it_has_ended_and_not_before(store: AuthorityFile, time: Time) -> None:
    ends = NOW + timedelta(minutes=1, milliseconds=500)
    assert store.first_shown("short", "10.0.0.1", ends) == "10.0.0.1"
    time.now = ends - timedelta(milliseconds=1)
    store.first_shown("another", "10.0.0.9", NOW + timedelta(hours=1))
    assert store.first_shown("short", "10.0.0.2", ends) == "10.0.0.1"
    time.now = ends + timedelta(seconds=1)
    store.first_shown("third", "10.0.0.9", NOW + timedelta(hours=1))
    assert store.first_shown("short", "10.0.0.2", ends) == "10.0.0.2"


def test_when_there_are_too_many_no_new_one_is_taken_and_none_is_forgotten(
    store: AuthorityFile, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority_store, "SHOWN_MAX", 2)
    ends = NOW + timedelta(minutes=1)
    for digest in ("one", "two"):
        store.first_shown(digest, "10.0.0.1", ends)
    with pytest.raises(TryAgain, match="no other one is taken"):
        store.first_shown("three", "10.0.0.1", ends)
    assert store.first_shown("one", "10.0.0.2", ends) == "10.0.0.1"
    time.now = ends
    assert store.first_shown("three", "10.0.0.3", ends + timedelta(hours=1)) == "10.0.0.3"


def test_replays_are_written_down_once_for_each_address_and_not_without_end(
    store: AuthorityFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority_store, "REPLAYS_MAX", 2)
    for last in (2, 2, 3, 4):
        store.record_replay(Replay(attested(), "10.0.0.1", f"10.0.0.{last}"), NOW)
    first = (str(CHECKOUT), "pod-1", "10.0.0.1", "10.0.0.2")
    assert store.replayed() == (first, (*first[:3], "10.0.0.3"))
    store.record_replay(Replay(attested("d2"), "10.0.0.1", "10.0.0.5"), NOW + timedelta(days=31))
    assert [address for *_, address in store.replayed()] == ["10.0.0.5"]


def test_one_token_that_is_shown_from_everywhere_does_not_fill_what_is_written_down(store: AuthorityFile) -> None:
    for number in range(REPLAYS_OF_TOKEN_MAX + 5):
        store.record_replay(Replay(attested(), "10.0.0.1", f"fd00::{number:x}"), NOW)
    assert len(store.replayed()) == REPLAYS_OF_TOKEN_MAX
    store.record_replay(Replay(attested("d2"), "10.0.0.1", "10.0.0.5"), NOW)
    assert len(store.replayed()) == REPLAYS_OF_TOKEN_MAX + 1


def test_another_signature_that_holds_is_no_other_token() -> None:
    """Of an ECDSA signature (r, s) there is a twin, (r, n - s), that anybody can make."""
    key = ec.generate_private_key(ec.SECP256R1())
    cluster = FakeCluster()
    claims = cluster.claims()
    token = pyjwt.encode(claims, key, "ES256", headers={"kid": "k"})
    content, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    twin = raw[:32] + (ORDER - int.from_bytes(raw[32:])).to_bytes(32)
    other = f"{content}.{base64.urlsafe_b64encode(twin).rstrip(b'=').decode()}"
    jwk = pyjwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "k", "use": "sig"}
    found = [
        attest(one, Cluster(ISSUER, AUDIENCE), [jwk], trust_domain="shop.example", now=datetime.now(UTC))
        for one in (token, other)
    ]
    assert token != other
    assert found[0].digest == found[1].digest
    again = pyjwt.encode(claims | {"jti": "x"}, key, "ES256", headers={"kid": "k"})
    different = attest(again, Cluster(ISSUER, AUDIENCE), [jwk], trust_domain="shop.example", now=datetime.now(UTC))
    assert different.digest != found[0].digest
