"""Signing requests: only the key is taken, and only a good one."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from spangate.adapters.keys import request_pem
from spangate.authority.request import CSR_CHARACTERS_MAX, BadRequest, read_request


def csr(key: CertificateIssuerPrivateKeyTypes, digest: hashes.HashAlgorithm | None = hashes.SHA256()) -> str:  # noqa: B008
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM).decode()  # type: ignore[arg-type]


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_p256_and_p384_are_accepted(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    assert read_request(csr(key)) == key.public_key()


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256K1()),
        ec.generate_private_key(ec.SECP224R1()),
        ec.generate_private_key(ec.SECP521R1()),
        dsa.generate_private_key(1024),
    ],
    ids=["rsa", "ed25519", "secp256k1", "p224", "p521", "dsa"],
)
def test_every_other_key_is_refused(key: CertificateIssuerPrivateKeyTypes) -> None:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    with pytest.raises(BadRequest, match="neither P-256 nor P-384"):
        read_request(csr(key, digest))


def test_a_signature_with_a_weak_hash_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(BadRequest, match="weaker than SHA-256"):
        read_request(csr(key, hashes.SHA224()))


def test_a_request_not_signed_by_its_own_key_is_refused() -> None:
    mine, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    stolen = base64.b64decode("".join(csr(mine).splitlines()[1:-1]))
    # The stolen key in place of our own: what somebody would send who wants a certificate for a key that is not theirs.
    ours, theirs = (
        key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        for key in (mine, other)
    )
    assert ours in stolen
    forged = base64.encodebytes(stolen.replace(ours, theirs)).decode()
    with pytest.raises(BadRequest, match="signature of the signing request is wrong"):
        read_request(f"-----BEGIN CERTIFICATE REQUEST-----\n{forged}-----END CERTIFICATE REQUEST-----\n")


def test_a_request_whose_key_is_no_point_of_the_curve_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    der = base64.b64decode("".join(csr(key).splitlines()[1:-1]))
    forged = base64.encodebytes(der.replace(point, b"\x04" + b"\x01" * 64)).decode()
    with pytest.raises(BadRequest):
        read_request(f"-----BEGIN CERTIFICATE REQUEST-----\n{forged}-----END CERTIFICATE REQUEST-----\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        "\ud800",
        "ü",
        "\x00",
    ],
)
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="not a PEM PKCS #10 request"):
        read_request(text)


def test_a_request_that_is_too_long_is_refused_unread() -> None:
    good = request_pem(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(BadRequest, match=f"longer than {CSR_CHARACTERS_MAX} characters"):
        read_request(good + " " * CSR_CHARACTERS_MAX)
