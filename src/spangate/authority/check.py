"""Holds what was signed against what should have been: the certificate is read back from its bytes, as a peer will.

Rules: every property is stated, what must be present and what must be absent; an extension that is not listed is an
error. Bounds are checked twice, against the template and against the constants, so that a wrong template is caught
too. A failure is a defect of ours: BadCertificate, and the certificate never leaves.
Source: SPIFFE X509-SVID, sections 2, 3.1, 3.2, 4.1, 4.3, 4.4; RFC 5280, sections 4.1 and 4.2.
Not here: building and signing (ca.py), what a template may hold (template.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID, SignatureAlgorithmOID

from spangate.authority.request import CURVES_ACCEPTED
from spangate.authority.template import (
    CA_BACKDATE,
    INTERMEDIATE_LIFETIME,
    ROOT_LIFETIME,
    ROOT_PATH_LENGTH,
    SERIAL_BITS_MAX,
    SVID_BACKDATE,
    SVID_LIFETIME_MAX,
    SVID_SUBJECT,
    CaTemplate,
    SvidTemplate,
    key_id,
)
from spangate.errors import Broken

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

# Which extensions a certificate carries, all of them, and whether each is critical.
_SVID_EXTENSIONS = {
    ExtensionOID.BASIC_CONSTRAINTS: True,
    ExtensionOID.KEY_USAGE: True,
    ExtensionOID.EXTENDED_KEY_USAGE: False,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME: True,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
}
_CA_EXTENSIONS = {
    ExtensionOID.BASIC_CONSTRAINTS: True,
    ExtensionOID.KEY_USAGE: True,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME: False,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
}
_SVID_USAGE = frozenset({"digital_signature"})
_CA_USAGE = frozenset({"key_cert_sign", "crl_sign"})
_CA_NAME = re.compile(r"spangate (?:root|intermediate) [1-9][0-9]{0,8} ([0-9a-f]{16})", re.ASCII)


class BadCertificate(Broken):
    """A certificate just signed is not what it should be; it is thrown away."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate that signs leaves, and that its root has signed: checked once, since neither changes."""

    certificate: x509.Certificate

    @classmethod
    def of(cls, certificate: x509.Certificate, root: x509.Certificate) -> Issuer:
        """Raises BadCertificate if `root` did not sign it."""
        _check_signed(certificate, root)
        return cls(certificate)


def check_svid(certificate: x509.Certificate, template: SvidTemplate, issuer: Issuer) -> x509.Certificate:
    """`certificate`, if it is exactly the leaf that `template` asks for, signed by `issuer`; else BadCertificate."""
    _check_common(certificate, template, issuer.certificate)
    _check_extension_set(certificate, _SVID_EXTENSIONS)
    _require(certificate.subject == SVID_SUBJECT, "the subject is not empty")
    constraints = _extension(certificate, x509.BasicConstraints)
    _require(not constraints.ca, "a leaf says CA:TRUE")
    _require(constraints.path_length is None, "a leaf carries a path length")
    _check_usage(certificate, _SVID_USAGE)
    purposes = list(_extension(certificate, x509.ExtendedKeyUsage))
    _require(
        len(purposes) == 2 and set(purposes) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH},
        "the extended key usage is not exactly serverAuth and clientAuth",
    )
    _check_names(certificate, str(template.identity), template.dns_names)
    _require(bool(template.identity.segments), "the SPIFFE ID of a leaf has no path")
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    _require(life <= SVID_LIFETIME_MAX + SVID_BACKDATE, "a leaf lives longer than any may")
    # The issuer may sign only for the trust domain whose name it carries.
    _check_names(issuer.certificate, f"spiffe://{template.identity.trust_domain}", ())
    return certificate


def check_ca(certificate: x509.Certificate, template: CaTemplate, issuer: x509.Certificate) -> x509.Certificate:
    """`certificate`, if it is exactly the signing certificate of `template`; else BadCertificate.

    For a root, `issuer` is the certificate itself.
    """
    _check_common(certificate, template, issuer)
    _check_extension_set(certificate, _CA_EXTENSIONS)
    _require(certificate.subject == template.subject, "the subject is not the asked one")
    _check_ca_name(certificate, issuer)
    constraints = _extension(certificate, x509.BasicConstraints)
    _require(constraints.ca, "a signing certificate says CA:FALSE")
    _require(constraints.path_length == template.path_length, "the path length is not the asked one")
    _check_usage(certificate, _CA_USAGE)
    _check_names(certificate, template.uri, ())
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    life_max = ROOT_LIFETIME if template.path_length == ROOT_PATH_LENGTH else INTERMEDIATE_LIFETIME
    _require(life <= life_max + CA_BACKDATE, "a signing certificate lives longer than any may")
    return certificate


def _check_ca_name(certificate: x509.Certificate, root: x509.Certificate) -> None:
    """The name tells the root: whoever sees only the issuer of a leaf must not take one root for another."""
    key = root.public_key()
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    found = _CA_NAME.fullmatch(names[0]) if len(names) == 1 else None
    _require(
        isinstance(key, ec.EllipticCurvePublicKey) and found is not None and found[1] == key_id(key),
        "its name does not tell its root",
    )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BadCertificate(f"the certificate just signed is wrong: {otherwise}")


def _check_common(certificate: x509.Certificate, template: SvidTemplate | CaTemplate, issuer: x509.Certificate) -> None:
    """What holds for every certificate: version, serial, key, algorithms, issuer, validity."""
    _require(certificate.version is x509.Version.v3, "the version is not 3")
    serial = certificate.serial_number
    _require(0 < serial < 1 << SERIAL_BITS_MAX, "the serial number is not positive or too long")
    _require(serial == template.serial, "the serial number is not the asked one")
    key = certificate.public_key()
    _require(_spki(key) == _spki(template.public_key), "the public key is not the asked one")
    _require(
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES_ACCEPTED),
        "the key type is none that may be signed",
    )
    _require(
        certificate.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
        and isinstance(certificate.signature_hash_algorithm, hashes.SHA256),
        "the signature is not ECDSA with SHA-256",
    )
    _require(certificate.issuer == template.issuer, "the issuer is not the asked one")
    _require(certificate.not_valid_before_utc == template.not_before, "the beginning is not the asked one")
    _require(certificate.not_valid_after_utc == template.not_after, "the end is not the asked one")
    _require(certificate.not_valid_before_utc < certificate.not_valid_after_utc, "it ends before it begins")
    _require(certificate.not_valid_before_utc >= issuer.not_valid_before_utc, "it begins before its issuer")
    _require(certificate.not_valid_after_utc <= issuer.not_valid_after_utc, "it outlives its issuer")
    _check_signed(certificate, issuer)
    subject_key = _extension(certificate, x509.SubjectKeyIdentifier)
    _require(subject_key == x509.SubjectKeyIdentifier.from_public_key(template.public_key), "wrong key identifier")
    issuer_key = _extension(issuer, x509.SubjectKeyIdentifier)
    _require(
        _extension(certificate, x509.AuthorityKeyIdentifier)
        == x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key),
        "the authority key identifier is not the issuer's key",
    )


def _check_signed(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError) as e:
        raise BadCertificate("the certificate just signed is wrong: its issuer did not sign it") from e


def _check_extension_set(certificate: x509.Certificate, expected: Mapping[x509.ObjectIdentifier, bool]) -> None:
    found = {extension.oid: extension.critical for extension in certificate.extensions}
    _require(found == expected, "the extensions, or which of them are critical, are not the listed ones")


def _check_usage(certificate: x509.Certificate, expected: Iterable[str]) -> None:
    usage = _extension(certificate, x509.KeyUsage)
    names = [
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
    ]
    if usage.key_agreement:  # the two below have a meaning, and can be read, only beside keyAgreement
        names += ["encipher_only", "decipher_only"]
    found = {name for name in names if getattr(usage, name)}
    _require(found == set(expected), f"the key usage is {sorted(found)}")


def _check_names(certificate: x509.Certificate, uri: str, dns_names: tuple[str, ...]) -> None:
    """Exactly one URI, exactly the DNS names asked for, and no name of another type."""
    names = list(_extension(certificate, x509.SubjectAlternativeName))
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    hosts = [name.value for name in names if isinstance(name, x509.DNSName)]
    _require(uris == [uri], "the URI SAN is not exactly the asked SPIFFE ID")
    _require(sorted(hosts) == sorted(dns_names), "the DNS SANs are not exactly the asked ones")
    _require(len(names) == len(uris) + len(hosts), "there is a SAN of another type")


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound as e:
        raise BadCertificate(f"the certificate just signed is wrong: no {kind.__name__}") from e
    except (ValueError, x509.DuplicateExtension) as e:
        raise BadCertificate("the certificate just signed is wrong: its extensions cannot be read") from e


def _spki(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
