"""Authorities as a mesh has them: roots, intermediates, and leaves as istiod signs them; and leaves that nobody should.

Istio's leaves have an empty subject, so their one URI name is critical; roots of all installations share one subject,
`O=cluster.local` or what the trust domain is.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)
LEAF_USAGE = ("digital_signature", "key_encipherment")
CA_USAGE = ("key_cert_sign", "crl_sign")


def key_usage(words: Sequence[str]) -> x509.KeyUsage:
    return x509.KeyUsage(
        **{usage: usage in words for usage in USAGES},
        encipher_only=False,
        decipher_only=False,
    )


def pem(*certificates: x509.Certificate) -> str:
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@dataclass(frozen=True)
class Leaf:
    """A certificate, what is sent with it, and its key."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey

    @property
    def chain_pem(self) -> str:
        return pem(self.certificate, *self.chain)

    @property
    def key_pem(self) -> str:
        return key_pem(self.key)


class MeshCa:
    """A root, or below `issuer` an intermediate."""

    def __init__(
        self,
        organization: str,
        issuer: MeshCa | None = None,
        *,
        key: ec.EllipticCurvePrivateKey | None = None,
        days: int = 10,
        is_authority: bool = True,
        usage: Sequence[str] | None = CA_USAGE,
        key_identifier: bool = True,
        path_length: int | None = None,
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)])
        self.issuer = issuer
        signer = issuer or self
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(signer.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(is_authority, path_length), critical=True)
        )
        if usage is not None:
            builder = builder.add_extension(key_usage(usage), critical=True)
        self._key_identifier = key_identifier
        if key_identifier:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        self.certificate = builder.sign(signer.key, hashes.SHA256())

    @property
    def root(self) -> MeshCa:
        return self if self.issuer is None else self.issuer.root

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What its leaves send after themselves: the intermediates."""
        return () if self.issuer is None else (self.certificate, *self.issuer.chain)

    def leaf(
        self,
        *uris: str,
        begins: timedelta = timedelta(minutes=-2),
        ends: timedelta = timedelta(hours=24),
        is_authority: bool | None = False,
        usage: Sequence[str] | None = LEAF_USAGE,
        purposes: Sequence[x509.ObjectIdentifier] = (
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.CLIENT_AUTH,
        ),
        dns_names: Sequence[str] = (),
    ) -> Leaf:
        """As istiod signs for a workload, unless told otherwise; None leaves an extension out."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
        )
        if usage is not None:
            builder = builder.add_extension(key_usage(usage), critical=True)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if is_authority is not None:
            builder = builder.add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        if self._key_identifier:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
            builder = builder.add_extension(identifier, critical=False)
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        if names or dns_names:
            every = x509.SubjectAlternativeName([*names, *(x509.DNSName(name) for name in dns_names)])
            builder = builder.add_extension(every, critical=True)
        return Leaf(builder.sign(self.key, hashes.SHA256()), self.chain, key)


def spiffe_bundle(*roots: MeshCa, more: Sequence[dict[str, object]] = ()) -> str:
    """A SPIFFE trust bundle, as a federation endpoint gives it."""

    def number(value: int) -> str:
        return base64.urlsafe_b64encode(value.to_bytes(32, "big")).rstrip(b"=").decode()

    keys: list[dict[str, object]] = []
    for root in roots:
        public = root.key.public_key().public_numbers()
        x5c = [base64.b64encode(der(root.certificate)).decode()]
        coordinates = {"x": number(public.x), "y": number(public.y)}
        keys.append({"use": "x509-svid", "kty": "EC", "crv": "P-256", **coordinates, "x5c": x5c})
    return json.dumps({"spiffe_sequence": 1, "spiffe_refresh_hint": 300, "keys": [*keys, *more]})


def replace_file(path: Path, content: str, mode: int = 0o600) -> None:
    """At once, by a rename, as pilot-agent and editors do."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(content)
    temporary.chmod(mode)
    temporary.replace(path)


def write_svid(directory: Path, leaf: Leaf, *roots: MeshCa) -> None:
    """The three files that pilot-agent writes with OUTPUT_CERTS, one after the other."""
    directory.mkdir(exist_ok=True)
    replace_file(directory / "key.pem", leaf.key_pem)
    replace_file(directory / "cert-chain.pem", leaf.chain_pem, 0o644)
    replace_file(directory / "root-cert.pem", pem(*(root.certificate for root in roots)), 0o644)
