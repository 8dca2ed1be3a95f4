"""Istio's `cacerts`: the secret of istiod's own authority, checked, and the secrets of a rotation of its root.

istiod reads ca-cert.pem and ca-key.pem (who signs), cert-chain.pem (from ca-cert up), root-cert.pem (whom the mesh
trusts). It takes a changed root-cert.pem only with ISTIO_MULTIROOT_MESH=true, and only if the bytes of the old file are
contained in those of the new one, or the other way round (istio/pilot/pkg/bootstrap/istio_ca.go, handleEvent). What it
does not look at, and what breaks a mesh: whether those who hold certificates of before trust those of after.

Rules: a secret that is not whole is an error, never repaired. A step is legal if istiod takes it, if who signs after it
is trusted by everybody before it, and who signed before it is trusted by everybody after it. Private keys appear in no
message or `repr`.
Not here: files (adapters/istio_files.py), the rotation of Spangate's own authority (rotation.py).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from spangate.authority.generations import fingerprint, signed_by
from spangate.errors import YourFault

CA_CERT, CA_KEY, ROOT_CERT, CERT_CHAIN = "ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"
FILES = (CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT)
# Google's trust store takes as many; a mesh whose workloads reach Google by X.509 federation has one there.
ANCHORS_MAX = 3
# A chain of PEM certificates is some kilobytes; a secret holds one megabyte in all.
FILE_CHARACTERS_MAX = 256 * 1024
CHAIN_MAX = 8
# Long enough to rotate in peace, short enough that it is done again: an intermediate is renewed within it.
ROOT_LIFETIME = timedelta(days=5 * 365)
CA_LIFETIME = timedelta(days=2 * 365)
_BACKDATE = timedelta(minutes=1)
# What istiod needs before a changed root does anything.
ISTIOD_ENVIRONMENT = {"ISTIO_MULTIROOT_MESH": "true"}
PROXY_METADATA = {"PROXY_CONFIG_XDS_AGENT": "true"}

CaKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class BadSecret(YourFault):
    """A `cacerts` is not whole, or a step is not one that a mesh survives; the message says why."""


@dataclass(frozen=True, slots=True)
class CaCerts:
    """A checked secret: its four texts, and what they say."""

    files: Mapping[str, str] = field(repr=False)
    ca: x509.Certificate
    key: CaKey = field(repr=False)
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]
    # Those of `roots` that `ca` leads to.
    under: frozenset[str]

    @property
    def trusted(self) -> dict[str, x509.Certificate]:
        """The roots by their fingerprints."""
        return {fingerprint(root): root for root in self.roots}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a rotation: `name` is a folder's, `purpose` and `wait` are for people."""

    name: str
    purpose: str
    wait: str
    secret: CaCerts


def read_cacerts(files: Mapping[str, str], now: datetime) -> CaCerts:
    """The secret, if it is whole at the moment `now`. Raises BadSecret."""
    missing = [name for name in FILES if not files.get(name, "").strip()]
    if missing:
        raise BadSecret(f"the secret has no `{missing[0]}`", help=f"it needs {', '.join(FILES)}")
    for name in FILES:
        if len(files[name]) > FILE_CHARACTERS_MAX:
            raise BadSecret(f"`{name}` is longer than {FILE_CHARACTERS_MAX} characters")
    (ca,) = _certificates(files, CA_CERT, most=1)
    roots = _certificates(files, ROOT_CERT, most=ANCHORS_MAX)
    chain = _certificates(files, CERT_CHAIN, most=CHAIN_MAX)
    key = _key(files[CA_KEY])
    if key.public_key() != ca.public_key():
        raise BadSecret(f"`{CA_KEY}` is not the key of `{CA_CERT}`")
    if len({fingerprint(root) for root in roots}) != len(roots):
        raise BadSecret(f"a root stands twice in `{ROOT_CERT}`")
    if chain[0] != ca:
        raise BadSecret(f"`{CERT_CHAIN}` does not begin with `{CA_CERT}`")
    for name, found in ((CA_CERT, (ca,)), (CERT_CHAIN, chain), (ROOT_CERT, roots)):
        for certificate in found:
            _check_ca(name, certificate, now)
    for root in roots:
        if not signed_by(root, root):
            raise BadSecret(f"`{ROOT_CERT}` holds a certificate that is no root: {_name(root)}")
    under = frozenset(_roots_above(ca, chain, roots))
    if not under:
        raise BadSecret(f"`{CA_CERT}` leads to no root of `{ROOT_CERT}`", help="the chain between them is broken")
    return CaCerts(dict(files), ca, key, chain, roots, under)


def check_step(before: CaCerts, after: CaCerts) -> None:
    """Raises BadSecret if a mesh that runs with `before` would be hurt by `after`, or istiod would not take it."""
    old, new = before.trusted, after.trusted
    if not (old.keys() <= new.keys() or new.keys() <= old.keys()):
        raise BadSecret(
            "a root is added and another one is removed in one step: istiod takes no such change",
            help="first trust both roots, then change who signs, then remove the old root",
        )
    if not (before.files[ROOT_CERT] in after.files[ROOT_CERT] or after.files[ROOT_CERT] in before.files[ROOT_CERT]):
        raise BadSecret(
            f"istiod compares bytes: neither `{ROOT_CERT}` contains the other one as it is written",
            help="append the new root to the old file, and remove what was before it later, changing nothing else",
        )
    if not after.under & old.keys():
        raise BadSecret(
            "the mesh does not trust the root of the new `ca-cert.pem` yet",
            help="first add that root to `root-cert.pem`, and wait until every proxy has it",
        )
    if not before.under & new.keys():
        raise BadSecret(
            "the root of the certificates that are in use would not be trusted any more",
            help="first let the new authority sign, and wait until every certificate has been replaced",
        )


def rotation_steps(current: CaCerts, new: CaCerts, now: datetime) -> tuple[Step, ...]:
    """The secrets from `current` to `new`, each checked against the one before. Raises BadSecret."""
    added = [root for root in new.roots if fingerprint(root) not in current.trusted]
    if not added:
        raise BadSecret("the new secret has no root that is not trusted already: there is nothing to rotate")
    if len(added) != len(new.roots):
        raise BadSecret("the new secret keeps a root of the current one; it should hold the new root alone")
    both = _lines(current.files[ROOT_CERT]) + new.files[ROOT_CERT]
    if len(current.roots) + len(added) > ANCHORS_MAX:
        raise BadSecret(
            f"more than {ANCHORS_MAX} roots would be trusted at once", help="finish the rotation before this one first"
        )
    # Whoever verifies a chain of the old root goes on finding it: nothing but the trusted roots changes.
    trust = read_cacerts({**current.files, ROOT_CERT: both}, now)
    sign = read_cacerts({**new.files, ROOT_CERT: both}, now)
    found = (
        Step(
            "1-trust-both",
            "every proxy comes to trust the new root; the old authority goes on signing",
            "until every proxy, gateway, ztunnel and trust store outside the mesh has both roots",
            trust,
        ),
        Step(
            "2-new-root-signs",
            "the new authority signs; both roots are trusted",
            "until every certificate of before has been replaced: 24 h by default, or restart everything",
            sign,
        ),
        Step(
            "3-old-root-retired",
            "the new root alone is trusted",
            "nothing; connections that were opened before live on until they are closed",
            new,
        ),
    )
    before = current
    for step in found:
        check_step(before, step.secret)
        before = step.secret
    return found


def new_cacerts(
    current: CaCerts, keys: tuple[CaKey, CaKey], serials: tuple[int, int], now: datetime
) -> tuple[CaCerts, CaKey]:
    """A new root and an authority under it, named after the current one's organisation; and the root's key.

    `keys`: the root's and the authority's, `serials` too.
    """
    root_key, key = keys
    begins = now.replace(microsecond=0) - _BACKDATE
    root_name, name = (_subject(current.ca, role, root_key) for role in ("Root CA", "Intermediate CA"))
    root = _new_ca(root_name, root_name, root_key, root_key, serials[0], begins, now + ROOT_LIFETIME, None)
    # Issues leaves only, as istiod does.
    ca = _new_ca(name, root_name, key, root_key, serials[1], begins, now + CA_LIFETIME, 0)
    files = {
        CA_CERT: _pem(ca),
        CA_KEY: private_pem(key),
        CERT_CHAIN: _pem(ca) + _pem(root),
        ROOT_CERT: _pem(root),
    }
    return read_cacerts(files, now), root_key


def manifest(secret: CaCerts, namespace: str = "istio-system") -> str:
    """The Secret for `kubectl apply`. It holds the private key."""
    lines = ["apiVersion: v1", "kind: Secret", "metadata:", "  name: cacerts", f"  namespace: {namespace}"]
    lines += ["type: Opaque", "data:"]
    for name in FILES:
        lines.append(f"  {name}: {base64.b64encode(secret.files[name].encode()).decode('ascii')}")
    return "\n".join(lines) + "\n"


def private_pem(key: CaKey) -> str:
    """The private key in PEM (PKCS #8, not encrypted), as istiod reads it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


def _certificates(files: Mapping[str, str], name: str, *, most: int) -> tuple[x509.Certificate, ...]:
    try:
        found = tuple(x509.load_pem_x509_certificates(files[name].encode("ascii")))
    except ValueError:
        raise BadSecret(f"`{name}` cannot be read: it is to hold certificates in PEM") from None
    if len(found) > most:
        raise BadSecret(f"`{name}` holds {len(found)} certificates; there may be {most}")
    return found


def _key(text: str) -> CaKey:
    try:
        key = serialization.load_pem_private_key(text.encode("ascii"), None)
    except (ValueError, TypeError):
        raise BadSecret(f"`{CA_KEY}` cannot be read: it is to hold a private key in PEM, not encrypted") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise BadSecret(f"`{CA_KEY}` is neither an RSA nor an elliptic curve key")
    return key


def _check_ca(file: str, certificate: x509.Certificate, now: datetime) -> None:
    where = f"in `{file}`, {_name(certificate)}"
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise BadSecret(f"{where} does not say CA:TRUE") from None
    except ValueError:
        raise BadSecret(f"{where} has extensions that cannot be read") from None
    if not constraints.ca:
        raise BadSecret(f"{where} says CA:FALSE")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        usage = None  # then every use is allowed (RFC 5280, section 4.2.1.3)
    if usage is not None and not usage.key_cert_sign:
        raise BadSecret(f"{where} may not sign certificates (key usage)")
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        raise BadSecret(f"{where} is good from {begins:%Y-%m-%dT%H:%M:%SZ} until {ends:%Y-%m-%dT%H:%M:%SZ}, not now")


def _roots_above(
    ca: x509.Certificate, chain: Iterable[x509.Certificate], roots: tuple[x509.Certificate, ...]
) -> set[str]:
    """The roots that `ca` leads to, by way of `chain`. A path is never longer than the chain."""
    between, reached = list(chain), [ca]
    for _ in range(CHAIN_MAX):
        more = [one for one in between if one not in reached and any(signed_by(low, one) for low in reached)]
        if not more:
            break
        reached += more
    return {fingerprint(root) for root in roots if any(low == root or signed_by(low, root) for low in reached)}


def _new_ca(
    subject: x509.Name,
    issuer: x509.Name,
    key: CaKey,
    issuer_key: CaKey,
    serial: int,
    begins: datetime,
    ends: datetime,
    path_length: int | None,
) -> x509.Certificate:
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(begins)
        .not_valid_after(ends.replace(microsecond=0))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_id, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _subject(current: x509.Certificate, role: str, root_key: CaKey) -> x509.Name:
    """Roots that differ have names that differ, or chains could be built to the wrong one."""
    organisations = current.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    organisation = str(organisations[0].value) if organisations else "Istio"
    identifier = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()).digest.hex()[:16]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{role} {identifier}"),
        ]
    )


def _name(certificate: x509.Certificate) -> str:
    return f"`{certificate.subject.rfc4514_string()}`"


def _lines(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
