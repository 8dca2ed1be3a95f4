"""Trust bundles of others: exactly the roots that are meant, or nothing."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.mesh_ca import MeshCa, key_pem, pem, spiffe_bundle
from spangate.authority.bundles import BUNDLE_BYTES_MAX, ROOTS_MAX, BadBundle, read_bundle

ONE, OTHER = MeshCa("cluster.local"), MeshCa("cluster.local")
LEAF = ONE.leaf("spiffe://cluster.local/ns/a/sa/b")


def refusal(content: str | bytes) -> str:
    with pytest.raises(BadBundle) as caught:
        read_bundle(content.encode() if isinstance(content, str) else content)
    return str(caught.value)


def test_pem_gives_its_roots_in_their_order_each_once() -> None:
    both = pem(OTHER.certificate, ONE.certificate, OTHER.certificate)
    assert read_bundle(f"# istiod's\n{both}\n".encode()) == (OTHER.certificate, ONE.certificate)


def test_a_spiffe_bundle_gives_the_roots_of_x509_svids_and_leaves_other_keys_alone() -> None:
    other = {"use": "jwt-svid", "kty": "EC", "kid": "1", "x": "AA", "y": "AA"}
    assert read_bundle(spiffe_bundle(ONE, OTHER, more=[other]).encode()) == (ONE.certificate, OTHER.certificate)


@pytest.mark.parametrize("content", ["", "\n", "hello", '{"keys": []}', '{"keys": [{"use": "jwt-svid"}]}'])
def test_an_empty_one_is_none(content: str) -> None:
    assert refusal(content) == "it holds no certificate"


def test_a_private_key_is_refused_and_not_shown() -> None:
    key = key_pem(ONE.key)
    for content in (key, pem(ONE.certificate) + key, key.replace("PRIVATE", "EC PRIVATE")):
        said = refusal(content)
        assert "private key" in said
        assert key.splitlines()[1] not in said
    assert "private key" in refusal('{"keys": [{"use": "x509-svid", "d": "AAAA"}]}')


def test_only_an_authoritys_certificates_are_roots() -> None:
    assert "certificate 2 is not one of an authority" in refusal(pem(ONE.certificate) + LEAF.chain_pem)
    assert "not one of an authority" in refusal(pem(MeshCa("x", is_authority=False).certificate))
    assert "may not sign certificates" in refusal(pem(MeshCa("x", usage=("digital_signature",)).certificate))
    assert read_bundle(pem(MeshCa("x", usage=None).certificate).encode())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pem(ONE.certificate).replace("CERTIFICATE", "CERTIFICATE REQUEST"), "something else"),
        (pem(ONE.certificate).replace("MII", "MIX", 1), "cannot be read"),
        (pem(ONE.certificate)[:-40], "cannot be read"),
        ("{", "JSON cannot be read"),
        ('{"a": 1}', "a list of `keys`"),
        ('{"keys": [1]}', "a list of `keys`"),
        ('{"keys": {}}', "a list of `keys`"),
        ('{"keys": [{"use": "x509-svid"}]}', "exactly one certificate"),
        ('{"keys": [{"use": "x509-svid", "x5c": ["AA", "AA"]}]}', "exactly one certificate"),
        ('{"keys": [{"use": "x509-svid", "x5c": ["AA"]}]}', "cannot be read"),
        ('{"keys": [{"use": "x509-svid", "x5c": ["?"]}]}', "cannot be read"),
        (b"\xff\xfe", "it is no text"),
        (b" " * (BUNDLE_BYTES_MAX + 1), "longer than"),
    ],
)
def test_what_is_half_a_bundle_is_none(content: str | bytes, said: str) -> None:
    assert said in refusal(content)


def test_it_has_a_limit() -> None:
    roots = [MeshCa(f"r{number}").certificate for number in range(ROOTS_MAX + 1)]
    assert len(read_bundle(pem(*roots[:-1]).encode())) == ROOTS_MAX
    assert "more than" in refusal(pem(*roots))


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: json.dumps(text).encode())))
def test_any_content_is_a_bundle_or_bad(content: bytes) -> None:
    with contextlib.suppress(BadBundle):
        assert read_bundle(content)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.integers(0, 600), st.integers(0, 255))
def test_a_byte_that_is_changed_gives_roots_or_bad_bundle(at: int, value: int) -> None:
    content = bytearray(pem(ONE.certificate).encode())
    content[at % len(content)] = value
    with contextlib.suppress(BadBundle):
        assert read_bundle(bytes(content))
