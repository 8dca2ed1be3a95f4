"""A private key that signs somewhere else: in a security module, or in a cloud's key service.

Rules: to the authority it is a key like any other (cryptography's builders take whoever implements the interface);
it signs over SHA-256, the only digest that the authority uses, and gives nothing else out. Whatever else is asked of it
raises.
Not here: where it signs (pkcs11_keys.py, kms_keys.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class ForeignKey(ec.EllipticCurvePrivateKey):
    """A P-256 key by its public half, and whoever signs a digest of 32 bytes: `sign_digest` gives the signature in DER
    (RFC 3279, section 2.2.3) and may raise SpangateError.
    """

    def __init__(self, name: str, public: ec.EllipticCurvePublicKey, sign_digest: Callable[[bytes], bytes]) -> None:
        self._name = name
        self._public = public
        self._sign_digest = sign_digest

    def __repr__(self) -> str:
        return f"<ForeignKey {self._name}>"

    @property
    def curve(self) -> ec.EllipticCurve:
        """See cryptography."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """See cryptography."""
        return self._public.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """See cryptography."""
        return self._public

    def sign(
        self, data: bytes | bytearray | memoryview, signature_algorithm: ec.EllipticCurveSignatureAlgorithm
    ) -> bytes:
        """See cryptography. ECDSA over SHA-256 only, the digest made here: UnsupportedAlgorithm."""
        algorithm = signature_algorithm.algorithm if isinstance(signature_algorithm, ec.ECDSA) else None
        if not isinstance(algorithm, hashes.SHA256):
            raise UnsupportedAlgorithm(f"the key `{self._name}` signs by ECDSA over SHA-256 only")
        digest = hashes.Hash(hashes.SHA256())
        digest.update(data)
        return self._sign_digest(digest.finalize())

    # Cryptography's interface asks what follows of every key; the arguments have its names and do not matter.

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:  # noqa: ARG002
        """Raises: this key signs."""
        raise UnsupportedAlgorithm(f"the key `{self._name}` signs and does nothing else")

    def private_numbers(self) -> NoReturn:
        """Raises: the key is not here."""
        self._not_here()

    def private_bytes(
        self,
        encoding: serialization.Encoding,  # noqa: ARG002
        format: serialization.PrivateFormat,  # noqa: A002, ARG002
        encryption_algorithm: serialization.KeySerializationEncryption,  # noqa: ARG002
    ) -> NoReturn:
        """Raises: the key is not here."""
        self._not_here()

    def __copy__(self) -> ForeignKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> ForeignKey:
        return self

    def __reduce__(self) -> NoReturn:
        self._not_here()

    def _not_here(self) -> NoReturn:
        raise UnsupportedAlgorithm(f"the key `{self._name}` does not leave the place where it is kept")
