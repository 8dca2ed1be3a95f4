"""The filter takes a verified certificate for a workload's exactly if it is no authority's, and reads no nonsense."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.checkpoint import FakeCheckpoint
from fakes.envoy import Tls, Worker
from fakes.mesh_ca import USAGES, MeshCa, der
from fakes.spanner_oracle import SPANNER

NAME = "spiffe://shop.example/ns/shop/sa/checkout"
CA = MeshCa("cluster.local")


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker()


def refusal(worker: Worker, pem: str) -> bytes:
    worker.now_ms += 1000
    stream = worker.send(SPANNER + b"CreateSession", b"", FakeCheckpoint(), tls=Tls(pem=pem))
    assert stream.answered is not None
    return stream.answered[b"grpc-message"]


def is_taken(worker: Worker, pem: str) -> bool:
    """Whether the filter gets as far as the body, which is wanting."""
    return b"is an authority's" not in refusal(worker, pem)


@settings(max_examples=60, deadline=None)
@given(
    is_authority=st.sampled_from([None, False, True]),
    usage=st.one_of(st.none(), st.lists(st.sampled_from(USAGES), min_size=1, unique=True)),
    names=st.lists(st.text("ab", min_size=1, max_size=60), max_size=8),
)
def test_it_agrees_with_a_real_reader_of_certificates(
    worker: Worker, is_authority: bool | None, usage: Sequence[str] | None, names: list[str]
) -> None:
    leaf = CA.leaf(NAME, is_authority=is_authority, usage=usage, dns_names=names)
    signs = bool(is_authority) or not {"key_cert_sign", "crl_sign"}.isdisjoint(usage or ())
    assert is_taken(worker, leaf.chain_pem) is not signs


def test_an_authority_is_told_that_it_speaks_for_no_workload(worker: Worker) -> None:
    said = refusal(worker, MeshCa("shop", CA).leaf(NAME, is_authority=True).chain_pem)
    assert f"the client certificate of {NAME} is an authority's".encode() in said


ONE = CA.leaf(NAME, is_authority=True)


@settings(max_examples=300, deadline=None)
@given(
    at=st.integers(0, len(der(ONE.certificate)) - 1),
    value=st.integers(0, 255),
    cut=st.integers(0, len(der(ONE.certificate))),
)
def test_a_certificate_that_is_read_otherwise_is_never_taken_for_a_leaf(
    worker: Worker, at: int, value: int, cut: int
) -> None:
    """Whatever became of an authority's certificate: if it is taken, a real reader says that it is a leaf now."""
    content = bytearray(der(ONE.certificate))
    content[at] = value
    for changed in (bytes(content), bytes(content[:cut])):
        if is_taken(worker, as_pem(changed)):
            assert not says_authority(changed)


@pytest.mark.parametrize("pem", ["", "x", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "%", "\0"])
def test_what_is_no_certificate_is_no_leaf(worker: Worker, pem: str) -> None:
    assert not is_taken(worker, pem)


def as_pem(content: bytes) -> str:
    lines = base64.encodebytes(content).decode()
    return f"-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n"


def says_authority(content: bytes) -> bool:
    """What a real reader says; one that cannot read it says nothing, and Envoy would not have verified it."""
    try:
        extensions = x509.load_der_x509_certificate(content).extensions
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except Exception:  # noqa: BLE001 - as many kinds as there are ways to be no certificate
        return False
