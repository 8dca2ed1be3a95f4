"""Certificates of any shape, good and bad, for whoever has to refuse the bad ones."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SUBJECT_URI = "spiffe://shop.example/ns/shop/sa/checkout"
EVERYTHING_BUT_SIGNING = {
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "encipher_only": False,
    "decipher_only": False,
}


@dataclass
class Held:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def key_pem(self) -> str:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def write(self, directory: Path, *others: Held) -> tuple[Path, Path]:
        """Chain and key as files."""
        chain, key = directory / "chain.pem", directory / "key.pem"
        chain.write_text("".join(one.pem for one in (self, *others)))
        key.write_text(self.key_pem())
        return chain, key


def authority(
    name: str,
    issuer: Held | None = None,
    *,
    key: Any = None,
    now: datetime | None = None,
    permitted: Sequence[x509.GeneralName] = (),
) -> Held:
    """A root, or a CA below `issuer`; `permitted`: its name constraints."""
    usage = x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **EVERYTHING_BUT_SIGNING)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (usage, True),
    ]
    if permitted:
        extensions.append((x509.NameConstraints(list(permitted), None), True))
    return _signed(name, issuer, key or ec.generate_private_key(ec.SECP256R1()), extensions, timedelta(days=3650), now)


def leaf(
    issuer: Held,
    uris: Sequence[str] = (SUBJECT_URI,),
    dns: Sequence[str] = (),
    *,
    name: str = "",
    key: Any = None,
    life: timedelta = timedelta(days=1),
    ca: bool = False,
    signs: bool = False,
    now: datetime | None = None,
) -> Held:
    """A workload's certificate, as bad as wished."""
    usage = x509.KeyUsage(digital_signature=True, key_cert_sign=signs, crl_sign=False, **EVERYTHING_BUT_SIGNING)
    names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=ca, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
    ]
    if names:
        extensions.append((x509.SubjectAlternativeName(names), not name))
    return _signed(name, issuer, key or ec.generate_private_key(ec.SECP256R1()), extensions, life, now)


def _signed(
    name: str,
    issuer: Held | None,
    key: Any,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    life: timedelta,
    now: datetime | None,
) -> Held:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    by, by_key = (issuer.certificate.subject, issuer.key) if issuer else (subject, key)
    begins = (now or datetime.now(UTC)) - timedelta(minutes=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by_key.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return Held(builder.sign(by_key, hashes.SHA256()), key)


def subject_token(*chain: Held) -> str:
    """As `subject_token` of type mtls: DER in base64, the leaf first."""
    return json.dumps([base64.b64encode(one.der).decode() for one in chain])
