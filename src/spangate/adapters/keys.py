"""Private keys, signing requests and serial numbers from the system's randomness.

Rules: keys are made here, used in memory and never written to disk.
Not here: what is signed (authority/).
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class SystemKeys:
    """Keys and serial numbers from the system's randomness (through pyca/cryptography)."""

    def new_key(self) -> ec.EllipticCurvePrivateKey:
        """A fresh P-256 key."""
        return ec.generate_private_key(ec.SECP256R1())

    def new_serial(self) -> int:
        """A fresh serial number: positive, 159 random bits."""
        return x509.random_serial_number()


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """The private key in PEM (PKCS #8, not encrypted), for Envoy's SDS: over a Unix socket, never into a file."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


def request_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """A signing request that proves possession of `key` and asks for nothing: the authority decides the names."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")
