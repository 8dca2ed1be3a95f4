"""A certificate signing request (PKCS #10, RFC 2986), read for the one thing we take from it: the public key.

Rules: the signature must be right, so that the asker holds the private key; the key must be one that Envoy speaks and
that is not weak. Subject, SANs and every other extension that the request asks for are ignored: who somebody is comes
from the caller's authorisation, never from what the caller writes about itself.
Not here: whether the caller may have the identity (the door in adapters/), signing (ca.py).
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from spangate.errors import YourFault

# A P-384 request with a handful of extensions is below 2 KiB.
CSR_CHARACTERS_MAX = 16 * 1024

# Elliptic curves only: fast to make for each start of each workload. Envoy loads RSA and NIST curves, not Ed25519.
CURVES_ACCEPTED = (ec.SECP256R1, ec.SECP384R1)
HASHES_ACCEPTED = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


class BadRequest(YourFault):
    """The signing request cannot be used; the message says why."""


def read_request(csr_pem: str) -> ec.EllipticCurvePublicKey:
    """The public key that the request proves possession of, or BadRequest."""
    if len(csr_pem) > CSR_CHARACTERS_MAX:
        raise BadRequest(f"the signing request is longer than {CSR_CHARACTERS_MAX} characters")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode("ascii"))
        public_key = request.public_key()
        digest = request.signature_hash_algorithm
        # cryptography raises for some signatures that cannot be right and answers False for the others.
        signed = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise BadRequest("the signing request is not a PEM PKCS #10 request of a supported kind") from e
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, CURVES_ACCEPTED):
        raise BadRequest("the key of the signing request is neither P-256 nor P-384")
    if not isinstance(digest, HASHES_ACCEPTED):
        raise BadRequest("the signing request is signed with a hash weaker than SHA-256")
    if not signed:
        raise BadRequest("the signature of the signing request is wrong")
    return public_key
