"""Subject tokens that are certificates (`mtls`): the chain that Google's X.509 federation takes, and its claims.

Rules (Google's page "Workload Identity Federation with X.509 certificates"): `subject_token` is a JSON list of DER in
base64, the leaf first, and the leaf is the certificate of the TLS connection. A chain has at most five certificates,
root and leaf included; keys are RSA of 2048 to 4096 bits or on P-256 or P-384; a leaf lives 390 days at most and is no
CA. Path building is cryptography's (RFC 5280, name constraints included).
Stricter than documented, on purpose: one URI in the SAN at most (Google reads the first), no control characters in
names.
Not here: the TLS handshake (adapters/), what claims become (mapping.py).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from spangate.standin import answers
from spangate.standin.config import CERTIFICATE_BYTES_MAX, INTERMEDIATES_MAX, TrustStore

CHAIN_MAX = 5
LEAF_LIFETIME_MAX = timedelta(days=390)
RSA_BITS = range(2048, 4097)
_CURVES = (ec.SECP256R1, ec.SECP384R1)
# "name constraints allowed during validation of root and intermediate certificates".
NAME_CONSTRAINTS_MAX = 10
# The leaf, and as many others as a provider may have.
CERTIFICATES_MAX = 1 + INTERMEDIATES_MAX
_NO_CERTIFICATE = "an entry is not a certificate (DER in base64)"
_ATTRIBUTES = {"cn": NameOID.COMMON_NAME, "o": NameOID.ORGANIZATION_NAME, "ou": NameOID.ORGANIZATIONAL_UNIT_NAME}


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate in base64 without padding, 43 characters, as `bindCertFingerprint` has it."""
    return base64.b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode("ascii")


def verify_certificates(
    text: str, trust: TrustStore, shown: bytes | None, now: datetime
) -> tuple[Mapping[str, Any], datetime]:
    """The leaf's claims and its end. `shown`: the certificate of the TLS connection. Raises Refused."""
    if shown is None:
        raise answers.bad_certificate("the connection shows no client certificate")
    chain = _read(text)
    leaf = chain[0]
    if leaf.public_bytes(Encoding.DER) != shown:
        raise answers.bad_certificate("the first certificate is not that of the connection")
    try:
        claims = _claims(leaf)
        _check_leaf(leaf)
        _check_path(leaf, chain[1:], trust, now)
    except (ValueError, x509.DuplicateExtension):
        # What cryptography reads only when it is looked at: names, extensions, keys.
        raise answers.bad_certificate("a certificate cannot be read") from None
    return claims, leaf.not_valid_after_utc


def _read(text: str) -> list[x509.Certificate]:
    if len(text) > CERTIFICATES_MAX * CERTIFICATE_BYTES_MAX * 4 // 3:
        raise answers.bad_certificate("it is too long")
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list) or not 0 < len(items) <= CERTIFICATES_MAX:
        raise answers.bad_certificate(f"it is not a JSON list of 1 to {CERTIFICATES_MAX} certificates")
    return [_certificate(item) for item in items]


def _certificate(item: object) -> x509.Certificate:
    if not isinstance(item, str):
        raise answers.bad_certificate(_NO_CERTIFICATE)
    try:
        der = base64.b64decode(item, validate=True)
        if len(der) > CERTIFICATE_BYTES_MAX:
            raise answers.bad_certificate(f"a certificate is longer than {CERTIFICATE_BYTES_MAX} bytes")
        return x509.load_der_x509_certificate(der)
    except (ValueError, binascii.Error):
        raise answers.bad_certificate(_NO_CERTIFICATE) from None


def _check_leaf(leaf: x509.Certificate) -> None:
    if _is_ca(leaf):
        raise answers.bad_certificate("the first certificate is a CA's")
    if leaf.not_valid_after_utc - leaf.not_valid_before_utc > LEAF_LIFETIME_MAX:
        raise answers.bad_certificate(f"the first certificate lives longer than {LEAF_LIFETIME_MAX.days} days")


def _check_path(leaf: x509.Certificate, others: list[x509.Certificate], trust: TrustStore, now: datetime) -> None:
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise answers.bad_certificate("the first certificate has ended, or not begun")
    verifier = (
        PolicyBuilder()
        .store(Store(list(trust.anchors)))
        .time(now.replace(tzinfo=None))
        # Counted without the leaf and the root.
        .max_chain_depth(CHAIN_MAX - 2)
        .extension_policies(ca_policy=_CA, ee_policy=_LEAF)
        .build_client_verifier()
    )
    try:
        found = verifier.verify(leaf, [*others, *trust.intermediates]).chain
    except VerificationError as error:
        text = str(error)
        if "depth" in text:
            raise answers.bad_certificate(f"the chain has more than {CHAIN_MAX} certificates") from None
        raise answers.bad_certificate("no chain leads to a trust anchor") from None
    if len(found) > CHAIN_MAX:
        raise answers.bad_certificate(f"the chain has more than {CHAIN_MAX} certificates")
    for one in found:
        _check_key(one)
    if sum(map(_constraints, found[1:])) > NAME_CONSTRAINTS_MAX:
        raise answers.bad_certificate(f"the chain has more than {NAME_CONSTRAINTS_MAX} name constraints")


def _constraints(certificate: x509.Certificate) -> int:
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return 0
    return len(found.permitted_subtrees or ()) + len(found.excluded_subtrees or ())


def _check_key(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in RSA_BITS:
        return
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return
    raise answers.bad_certificate("a key is neither RSA of 2048 to 4096 bits nor on P-256 or P-384")


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return True
    except x509.ExtensionNotFound:
        pass
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return False


def _claims(leaf: x509.Certificate) -> Mapping[str, Any]:
    """What expressions see as `assertion`. Members that the certificate has not are absent."""
    uris, hosts = _names(leaf)
    if len(uris) > 1:
        raise answers.bad_certificate("the first certificate has more than one URI in its SAN")
    for one in (*uris, *hosts):
        if not one.isascii() or not one.isprintable():
            raise answers.bad_certificate("a name in the SAN has a character that no name has")
    san = {key: values[0] for key, values in (("uri", uris), ("dns", hosts)) if values}
    return {
        "serialNumberHex": f"{leaf.serial_number:x}",
        "subject": {"dn": _dn(leaf.subject)},
        "issuer": {"dn": _dn(leaf.issuer)},
        "san": san,
        "sha256Fingerprint": base64.b64encode(hashlib.sha256(leaf.public_bytes(Encoding.DER)).digest()).decode(),
    }


def _names(leaf: x509.Certificate) -> tuple[list[str], list[str]]:
    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], []
    return san.get_values_for_type(x509.UniformResourceIdentifier), san.get_values_for_type(x509.DNSName)


def _dn(name: x509.Name) -> dict[str, str]:
    """The first of each."""
    found: dict[str, str] = {}
    for key, oid in _ATTRIBUTES.items():
        values = name.get_attributes_for_oid(oid)
        if values:
            found[key] = str(values[0].value)
    return found


# RFC 5280 for what signs; for the leaf only what the documents ask for.
_CA = ExtensionPolicy.webpki_defaults_ca()
_LEAF = ExtensionPolicy.permit_all()
