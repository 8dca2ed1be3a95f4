"""From template to signed certificate: what stands in each kind, and nothing else.

Rules: this builds, check.py judges; neither asks the other what is right.
Not here: what a template may hold (template.py), who may have which certificate (ca.py).
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from spangate.authority.template import SVID_SUBJECT, CaTemplate, SvidTemplate


def signed_ca(template: CaTemplate, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """A signing certificate, signed with the issuer's `key`."""
    return _sign(_build_ca(template, key.public_key()), key)


def signed_svid(template: SvidTemplate, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """A leaf, signed with the issuer's `key`."""
    return _sign(_build_svid(template, key.public_key()), key)


def _build_ca(template: CaTemplate, issuer_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    builder = _build(template, template.subject, issuer_key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=template.path_length), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return builder.add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(template.uri)]), critical=False
    )


def _build_svid(template: SvidTemplate, issuer_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(template.identity))]
    names += [x509.DNSName(name) for name in template.dns_names]
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = _build(template, SVID_SUBJECT, issuer_key)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=True)


def _build(
    template: SvidTemplate | CaTemplate, subject: x509.Name, issuer_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """What every certificate has."""
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(template.issuer)
        .public_key(template.public_key)
        .serial_number(template.serial)
        .not_valid_before(template.not_before)
        .not_valid_after(template.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(template.public_key), critical=False)
        .add_extension(issuer_id, critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Signed, and read back from its bytes: the check must see what a peer will see."""
    certificate = builder.sign(key, hashes.SHA256())
    return x509.load_der_x509_certificate(certificate.public_bytes(serialization.Encoding.DER))
