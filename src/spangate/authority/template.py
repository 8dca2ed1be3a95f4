"""What a certificate of ours must look like: the templates that ca.py signs and check.py holds the result against.

Rules (SPIFFE X509-SVID):
- section 2: exactly one URI SAN, which is the SPIFFE ID; DNS SANs may stand beside it;
- section 3.1: a leaf's SPIFFE ID has a path; its subject may be empty, and then the SAN extension is critical
  (RFC 5280, section 4.2.1.6). Ours is empty, as Istio's is: nothing but the SPIFFE ID names a workload;
- section 3.2: a signing certificate carries the trust domain's SPIFFE ID, without a path;
- section 4.1: `cA` is true for signing certificates and false for leaves;
- section 4.3: key usage is critical: leaves sign (`digitalSignature`) and nothing else, signing certificates set
  `keyCertSign` and may set `cRLSign`;
- section 4.4: leaves carry both `serverAuth` and `clientAuth`.
Of our own: the subject of a signing certificate names its generation and its root's key.
Not here: signing (ca.py), holding a signed certificate against its template (check.py).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from spangate.errors import YourFault
from spangate.model.identity import SpiffeId

# One hour: a stolen certificate is worth little, and an authority that is away for half of that is not noticed.
SVID_LIFETIME_MAX = timedelta(hours=1)
# Certificates begin in the past, so that a peer whose clock is this far behind ours accepts them at once.
SVID_BACKDATE = timedelta(seconds=30)
# Further back than any leaf, so that no leaf begins before its issuer.
CA_BACKDATE = timedelta(seconds=60)
# An intermediate is replaced long before this; a root by rotation, which five years leave time to prepare.
INTERMEDIATE_LIFETIME = timedelta(days=365)
ROOT_LIFETIME = timedelta(days=5 * 365)

# root -> intermediate -> leaf: one signing certificate below the root, none below the intermediate.
ROOT_PATH_LENGTH = 1
INTERMEDIATE_PATH_LENGTH = 0

# 159 bits at most, positive: 20 octets with a clear sign bit (RFC 5280, section 4.1.2.2).
SERIAL_BITS_MAX = 159

# 64 bits tell the roots of one trust domain apart; a name has room for 64 characters (RFC 5280, ub-common-name).
KEY_ID_HEX_DIGITS = 16
CA_ORGANIZATION = "spangate"

DNS_NAMES_MAX = 8
DNS_NAME_CHARACTERS_MAX = 253
_DNS_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The last label must hold a letter: `127.0.0.1` is an address, not a name, and would mean something else in a SAN.
_DNS_NAME = re.compile(rf"(?:{_DNS_LABEL}\.)*(?![0-9]+\Z){_DNS_LABEL}", re.ASCII)


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """What tells keys apart in names: the first half of a SHA-256 over the public key, in hex."""
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()[:KEY_ID_HEX_DIGITS]


def ca_subject(role: str, number: int, root_key: ec.EllipticCurvePublicKey) -> x509.Name:
    """The subject of a signing certificate: `role` is `root` or `intermediate`, `number` its generation.

    No two roots share a name, so that the issuer of a leaf tells which root it stands under. The trust domain is not in
    it: it may be longer than a name may.
    """
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, CA_ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, f"spangate {role} {number} {key_id(root_key)}"),
        ]
    )


SVID_SUBJECT = x509.Name([])


@dataclass(frozen=True, slots=True)
class CaTemplate:
    """A signing certificate to be: root (its own issuer) or intermediate. Times are aware, in whole seconds."""

    trust_domain: str
    subject: x509.Name
    issuer: x509.Name
    public_key: ec.EllipticCurvePublicKey
    serial: int
    not_before: datetime
    not_after: datetime
    path_length: int

    @property
    def uri(self) -> str:
        """The SPIFFE ID of a signing certificate: the trust domain alone (X509-SVID, section 3.2)."""
        return f"spiffe://{self.trust_domain}"


@dataclass(frozen=True, slots=True)
class SvidTemplate:
    """A leaf to be. `dns_names` are lower case and distinct. Times are aware, in whole seconds."""

    identity: SpiffeId
    dns_names: tuple[str, ...]
    issuer: x509.Name
    public_key: ec.EllipticCurvePublicKey
    serial: int
    not_before: datetime
    not_after: datetime


def check_dns_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """`names`, if each is one exact host name (no wildcard, no address) and none stands twice; else YourFault."""
    if len(names) > DNS_NAMES_MAX:
        raise YourFault(f"more than {DNS_NAMES_MAX} DNS names asked for one certificate")
    if len(set(names)) != len(names):
        raise YourFault("a DNS name is asked twice for one certificate")
    for name in names:
        if len(name) > DNS_NAME_CHARACTERS_MAX or not _DNS_NAME.fullmatch(name):
            raise YourFault(f"`{name[:DNS_NAME_CHARACTERS_MAX]}` is not a lower-case DNS name")
    return names
