"""The checker: each way in which a signed certificate can be wrong is found, and a right one passes.

The certificates are built here, by other code than the authority's, right in everything but the one named aspect.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fakes.clock import NOON
from spangate.authority.check import BadCertificate, Issuer, check_ca, check_svid
from spangate.authority.template import (
    SVID_SUBJECT,
    CaTemplate,
    SvidTemplate,
    ca_subject,
)
from spangate.model.identity import SpiffeId

CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")
ROOT_KEY, INTERMEDIATE_KEY, LEAF_KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
ROOT_BEGINS, ROOT_ENDS = NOON - timedelta(days=1), NOON + timedelta(days=1)
LAST_HOUR = ROOT_ENDS - timedelta(minutes=59)
BEGINS, ENDS = NOON - timedelta(seconds=30), NOON + timedelta(hours=1)
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
URI = x509.UniformResourceIdentifier


def usage(*set_bits: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in set_bits for name in USAGES})


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


Extension = tuple[x509.ExtensionType, bool]


ROOT_SUBJECT = ca_subject("root", 1, ROOT_KEY.public_key())
INTERMEDIATE_SUBJECT = ca_subject("intermediate", 1, ROOT_KEY.public_key())


@dataclass(frozen=True)
class Cert:
    """Everything that can be varied; the defaults of `leaf()` and `ca()` below are right."""

    subject: x509.Name
    issuer: x509.Name
    key: ec.EllipticCurvePrivateKey
    issuer_key: ec.EllipticCurvePrivateKey
    serial: int
    begins: datetime
    ends: datetime
    extensions: dict[str, Extension] = field(default_factory=dict)
    digest: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)
    signing_key: ec.EllipticCurvePrivateKey | None = None

    def but(self, name: str, extension: x509.ExtensionType | None, critical: bool | None = None) -> Cert:
        """The same with one extension replaced, added or (None) left out."""
        extensions = dict(self.extensions)
        was_critical = extensions.pop(name)[1] if name in extensions else False
        if extension is not None:
            extensions[name] = (extension, was_critical if critical is None else critical)
        return replace(self, extensions=extensions)

    def built(self) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(self.issuer)
            .public_key(self.key.public_key())
            .serial_number(self.serial)
            .not_valid_before(self.begins)
            .not_valid_after(self.ends)
        )
        for extension, critical in self.extensions.values():
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.signing_key or self.issuer_key, self.digest)  # type: ignore[arg-type]


def key_ids(key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey) -> dict[str, Extension]:
    return {
        "ski": (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        "aki": (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False),
    }


def ca(subject: x509.Name, key: ec.EllipticCurvePrivateKey, serial: int, path_length: int) -> Cert:
    extensions: dict[str, Extension] = {
        "constraints": (x509.BasicConstraints(ca=True, path_length=path_length), True),
        "usage": (usage("key_cert_sign", "crl_sign"), True),
        "names": (x509.SubjectAlternativeName([URI("spiffe://shop.example")]), False),
        **key_ids(key, ROOT_KEY),
    }
    return Cert(subject, ROOT_SUBJECT, key, ROOT_KEY, serial, ROOT_BEGINS, ROOT_ENDS, extensions)


def leaf() -> Cert:
    extensions: dict[str, Extension] = {
        "constraints": (x509.BasicConstraints(ca=False, path_length=None), True),
        "usage": (usage("digital_signature"), True),
        "purposes": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        "names": (x509.SubjectAlternativeName([URI(str(CHECKOUT)), x509.DNSName("localhost")]), True),
        **key_ids(LEAF_KEY, INTERMEDIATE_KEY),
    }
    return Cert(SVID_SUBJECT, INTERMEDIATE_SUBJECT, LEAF_KEY, INTERMEDIATE_KEY, 3, BEGINS, ENDS, extensions)


ROOT, INTERMEDIATE = ca(ROOT_SUBJECT, ROOT_KEY, 1, 1), ca(INTERMEDIATE_SUBJECT, INTERMEDIATE_KEY, 2, 0)
ROOT_CERTIFICATE, INTERMEDIATE_CERTIFICATE = ROOT.built(), INTERMEDIATE.built()
ISSUER = Issuer.of(INTERMEDIATE_CERTIFICATE, ROOT_CERTIFICATE)
SVID_TEMPLATE = SvidTemplate(
    CHECKOUT, ("localhost",), INTERMEDIATE_SUBJECT, LEAF_KEY.public_key(), 3, not_before=BEGINS, not_after=ENDS
)
INTERMEDIATE_TEMPLATE = CaTemplate(
    trust_domain="shop.example",
    subject=INTERMEDIATE_SUBJECT,
    issuer=ROOT_SUBJECT,
    public_key=INTERMEDIATE_KEY.public_key(),
    serial=2,
    not_before=ROOT_BEGINS,
    not_after=ROOT_ENDS,
    path_length=0,
)
ROOT_TEMPLATE = replace(
    INTERMEDIATE_TEMPLATE, subject=ROOT_SUBJECT, public_key=ROOT_KEY.public_key(), serial=1, path_length=1
)


def sans(*names: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


ME, HOST = URI(str(CHECKOUT)), x509.DNSName("localhost")
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
ANOTHER_KEY_ID = x509.SubjectKeyIdentifier.from_public_key(OTHER_KEY.public_key())
WRONG_LEAVES: dict[str, tuple[Callable[[Cert], Cert], str]] = {
    "says it is a CA": (lambda c: c.but("constraints", x509.BasicConstraints(True, None)), "CA:TRUE"),
    "constraints not critical": (lambda c: c.but("constraints", c.extensions["constraints"][0], False), "extensions"),
    "no constraints": (lambda c: c.but("constraints", None), "extensions"),
    "signs certificates": (lambda c: c.but("usage", usage("digital_signature", "key_cert_sign")), "key usage"),
    "signs revocation lists": (lambda c: c.but("usage", usage("digital_signature", "crl_sign")), "key usage"),
    "agrees on keys": (lambda c: c.but("usage", usage("digital_signature", "key_agreement")), "key usage"),
    "signs nothing": (lambda c: c.but("usage", usage("key_encipherment")), "key usage"),
    "usage not critical": (lambda c: c.but("usage", c.extensions["usage"][0], False), "extensions"),
    "no usage": (lambda c: c.but("usage", None), "extensions"),
    "server only": (lambda c: c.but("purposes", x509.ExtendedKeyUsage([SERVER])), "extended key usage"),
    "signs code too": (
        lambda c: c.but("purposes", x509.ExtendedKeyUsage([SERVER, CLIENT, ExtendedKeyUsageOID.CODE_SIGNING])),
        "extended key usage",
    ),
    "any purpose": (
        lambda c: c.but("purposes", x509.ExtendedKeyUsage([SERVER, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])),
        "extended key usage",
    ),
    "no purposes": (lambda c: c.but("purposes", None), "extensions"),
    "another identity": (
        lambda c: c.but("names", sans(URI("spiffe://shop.example/ns/shop/sa/admin"), HOST)),
        "URI SAN",
    ),
    "identity of another case": (
        lambda c: c.but("names", sans(URI("spiffe://shop.example/ns/shop/sa/Checkout"), HOST)),
        "URI SAN",
    ),
    "two identities": (
        lambda c: c.but("names", sans(ME, URI("spiffe://shop.example/ns/shop/sa/admin"), HOST)),
        "URI SAN",
    ),
    "the identity twice": (lambda c: c.but("names", sans(ME, ME, HOST)), "URI SAN"),
    "no identity": (lambda c: c.but("names", sans(HOST)), "URI SAN"),
    "no asked host": (lambda c: c.but("names", sans(ME)), "DNS SANs"),
    "a host nobody asked for": (lambda c: c.but("names", sans(ME, HOST, x509.DNSName("bank.example"))), "DNS SANs"),
    "a mail address": (lambda c: c.but("names", sans(ME, HOST, x509.RFC822Name("a@b.example"))), "another type"),
    "a registered id": (
        lambda c: c.but("names", sans(ME, HOST, x509.RegisteredID(x509.ObjectIdentifier("1.2.3")))),
        "another type",
    ),
    "names not critical": (lambda c: c.but("names", c.extensions["names"][0], False), "extensions"),
    "no names": (lambda c: c.but("names", None), "extensions"),
    "a policy nobody asked for": (lambda c: c.but("x", x509.OCSPNoCheck()), "extensions"),
    "an unknown extension": (
        lambda c: c.but("x", x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")),
        "extensions",
    ),
    "a subject": (lambda c: replace(c, subject=named("admin")), "subject is not empty"),
    "another issuer": (lambda c: replace(c, issuer=named("elsewhere")), "issuer"),
    "another serial number": (lambda c: replace(c, serial=4), "serial number is not the asked"),
    "another key": (
        lambda c: replace(c, key=OTHER_KEY).but("ski", ANOTHER_KEY_ID),
        "public key is not the asked",
    ),
    "signed with SHA-384": (lambda c: replace(c, digest=hashes.SHA384()), "ECDSA with SHA-256"),
    "signed by another key": (lambda c: replace(c, signing_key=OTHER_KEY), "did not sign"),
    "signed by itself": (lambda c: replace(c, signing_key=LEAF_KEY), "did not sign"),
    "begins earlier": (lambda c: replace(c, begins=BEGINS - timedelta(seconds=1)), "beginning"),
    "begins later": (lambda c: replace(c, begins=BEGINS + timedelta(seconds=1)), "beginning"),
    "ends later": (lambda c: replace(c, ends=ENDS + timedelta(seconds=1)), "end is not"),
    "another key identifier": (
        lambda c: c.but("ski", x509.SubjectKeyIdentifier(b"x" * 20)),
        "key identifier",
    ),
    "another issuer's key identifier": (
        lambda c: c.but("aki", x509.AuthorityKeyIdentifier(b"x" * 20, None, None)),
        "authority key identifier",
    ),
}


def test_a_right_leaf_passes() -> None:
    right = leaf().built()
    assert check_svid(right, SVID_TEMPLATE, ISSUER) is right


@pytest.mark.parametrize("name", WRONG_LEAVES)
def test_a_wrong_leaf_is_found(name: str) -> None:
    change, sentence = WRONG_LEAVES[name]
    with pytest.raises(BadCertificate, match=sentence):
        check_svid(change(leaf()).built(), SVID_TEMPLATE, ISSUER)


WRONG_TEMPLATES: dict[str, tuple[SvidTemplate, Cert, str]] = {
    "a life of a day": (
        replace(SVID_TEMPLATE, not_after=NOON + timedelta(hours=24)),
        replace(leaf(), ends=NOON + timedelta(hours=24)),
        "lives longer than any may",
    ),
    "an end beyond its issuer's": (
        replace(SVID_TEMPLATE, not_before=LAST_HOUR, not_after=ROOT_ENDS + timedelta(seconds=1)),
        replace(leaf(), begins=LAST_HOUR, ends=ROOT_ENDS + timedelta(seconds=1)),
        "outlives its issuer",
    ),
    "a beginning before its issuer's": (
        replace(SVID_TEMPLATE, not_before=ROOT_BEGINS - timedelta(seconds=1), not_after=ROOT_BEGINS),
        replace(leaf(), begins=ROOT_BEGINS - timedelta(seconds=1), ends=ROOT_BEGINS),
        "begins before its issuer",
    ),
    "an identity without a path": (
        replace(SVID_TEMPLATE, identity=SpiffeId("shop.example", ())),
        leaf().but("names", sans(URI("spiffe://shop.example/"), HOST)),
        "no path",
    ),
    "an identity of another trust domain": (
        replace(SVID_TEMPLATE, identity=SpiffeId.parse("spiffe://bank.example/a")),
        leaf().but("names", sans(URI("spiffe://bank.example/a"), HOST)),
        "URI SAN",
    ),
}


@pytest.mark.parametrize("name", WRONG_TEMPLATES)
def test_a_wrong_template_is_found_although_the_certificate_obeys_it(name: str) -> None:
    template, certificate, sentence = WRONG_TEMPLATES[name]
    with pytest.raises(BadCertificate, match=sentence):
        check_svid(certificate.built(), template, ISSUER)


def test_a_serial_number_that_is_not_positive_is_found() -> None:
    # No builder makes one, so the byte is set by hand: version 3, then the serial number.
    version, three, zero = b"\xa0\x03\x02\x01\x02", b"\x02\x01\x03", b"\x02\x01\x00"
    der = leaf().built().public_bytes(serialization.Encoding.DER)
    assert der.count(version + three) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography says that it will refuse such certificates one day
        certificate = x509.load_der_x509_certificate(der.replace(version + three, version + zero))
        with pytest.raises(BadCertificate, match="serial number is not positive"):
            check_svid(certificate, SVID_TEMPLATE, ISSUER)


def test_a_key_of_a_curve_nobody_may_use_is_found_although_the_template_has_it() -> None:
    key = ec.generate_private_key(ec.SECP256K1())
    certificate = replace(leaf(), key=key, extensions=leaf().extensions | key_ids(key, INTERMEDIATE_KEY))
    with pytest.raises(BadCertificate, match="key type"):
        check_svid(
            certificate.built(),
            replace(SVID_TEMPLATE, public_key=key.public_key()),
            ISSUER,
        )


def test_an_issuer_that_the_root_did_not_sign_is_none() -> None:
    stranger = replace(INTERMEDIATE, signing_key=OTHER_KEY).built()
    with pytest.raises(BadCertificate, match="did not sign"):
        Issuer.of(stranger, ROOT_CERTIFICATE)


def test_right_signing_certificates_pass() -> None:
    assert check_ca(ROOT_CERTIFICATE, ROOT_TEMPLATE, ROOT_CERTIFICATE) is ROOT_CERTIFICATE
    assert check_ca(INTERMEDIATE_CERTIFICATE, INTERMEDIATE_TEMPLATE, ROOT_CERTIFICATE) is INTERMEDIATE_CERTIFICATE


WRONG_CAS: dict[str, tuple[Callable[[Cert], Cert], str]] = {
    "is no CA": (lambda c: c.but("constraints", x509.BasicConstraints(False, None)), "CA:FALSE"),
    "an unbounded path": (lambda c: c.but("constraints", x509.BasicConstraints(True, None)), "path length"),
    "a longer path": (lambda c: c.but("constraints", x509.BasicConstraints(True, 1)), "path length"),
    "may authenticate": (
        lambda c: c.but("usage", usage("key_cert_sign", "crl_sign", "digital_signature")),
        "key usage",
    ),
    "may not sign": (lambda c: c.but("usage", usage("crl_sign")), "key usage"),
    "a workload's identity": (lambda c: c.but("names", sans(ME)), "URI SAN"),
    "another trust domain": (lambda c: c.but("names", sans(URI("spiffe://bank.example"))), "URI SAN"),
    "a host": (lambda c: c.but("names", sans(URI("spiffe://shop.example"), HOST)), "DNS SANs"),
    "a purpose": (lambda c: c.but("purposes", x509.ExtendedKeyUsage([SERVER])), "extensions"),
    "another subject": (lambda c: replace(c, subject=ROOT_SUBJECT), "subject is not the asked"),
    "signed by itself": (lambda c: replace(c, signing_key=INTERMEDIATE_KEY), "did not sign"),
    "outlives the root": (lambda c: replace(c, ends=ROOT_ENDS + timedelta(seconds=1)), "end is not"),
}


@pytest.mark.parametrize("name", WRONG_CAS)
def test_a_wrong_signing_certificate_is_found(name: str) -> None:
    change, sentence = WRONG_CAS[name]
    with pytest.raises(BadCertificate, match=sentence):
        check_ca(change(INTERMEDIATE).built(), INTERMEDIATE_TEMPLATE, ROOT_CERTIFICATE)


def test_a_signing_certificate_of_ten_years_is_found_although_the_template_asks_for_it() -> None:
    ends = NOON + timedelta(days=3650)
    root = replace(ROOT, ends=ends).built()
    with pytest.raises(BadCertificate, match="lives longer than any may"):
        check_ca(root, replace(ROOT_TEMPLATE, not_after=ends), root)
