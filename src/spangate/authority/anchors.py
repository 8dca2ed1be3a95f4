"""Trust anchors that are good for the names of their own trust domain only, for one verifier of several domains.

A verifier with one list of roots believes each of them about every name: the root of trust domain B could sign a
workload of trust domain A. So each root is restated: the same name, key and extensions, and in addition a critical name
constraint to the URIs of its own trust domain and its aliases (RFC 5280, section 4.2.1.10). The restated certificate is
signed by a key that is thrown away: of a trust anchor, name and key count, not the signature (RFC 5280, section 6.1).

Rules: a root that stands for several trust domains is restated once, with all their names. What cannot be restated
without losing a restriction, or told apart from another root, is refused. With one bundle only there is nothing to keep
apart, and the roots stay what they are.
Not here: reading bundles (bundles.py), Envoy (adapters/sds_door.py), what was tried (docs/decisions/0029).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from spangate.authority.founding import Keys
from spangate.errors import YourFault

_Name = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class DomainBundle:
    """The roots of one trust domain, and the names that they may sign: the domain's own and its aliases."""

    names: tuple[str, ...]
    roots: tuple[x509.Certificate, ...]


def anchors_pem(bundles: Sequence[DomainBundle], keys: Keys) -> str:
    """The trust anchors of one verifier, in PEM. Raises YourFault for roots that cannot be kept apart."""
    if len(bundles) == 1:
        return pem_of(bundles[0].roots)
    names: dict[_Name, set[str]] = {}
    newest: dict[_Name, x509.Certificate] = {}
    for bundle in bundles:
        for root in bundle.roots:
            key = _name_and_key(root)
            names.setdefault(key, set()).update(bundle.names)
            # One name and key in several certificates: a root that has been renewed.
            if key not in newest or root.not_valid_after_utc > newest[key].not_valid_after_utc:
                newest[key] = root
    _check_apart(newest)
    return pem_of(_restated(root, sorted(names[key]), keys) for key, root in newest.items())


def _name_and_key(root: x509.Certificate) -> _Name:
    public = root.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return root.subject.public_bytes(), public


def _check_apart(roots: Mapping[_Name, x509.Certificate]) -> None:
    """Of several roots of one name, verifiers find the right one by its key identifier, and look no further."""
    subjects = [subject for subject, _ in roots]
    for (subject, _), root in roots.items():
        if subjects.count(subject) > 1 and not _has(root, x509.SubjectKeyIdentifier):
            raise YourFault(
                f"two roots have the name `{root.subject.rfc4514_string()}`, and one has no subject key identifier",
                help="without it, a verifier may take one for the other; make that root anew with the extension",
            )


def _restated(root: x509.Certificate, names: Iterable[str], keys: Keys) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(root.subject)
        .issuer_name(root.subject)
        .public_key(root.public_key())
        .serial_number(keys.new_serial())
        .not_valid_before(root.not_valid_before_utc)
        .not_valid_after(root.not_valid_after_utc)
    )
    for extension in root.extensions:
        # The issuer is another one now, and so are the constraints.
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier | x509.NameConstraints):
            builder = builder.add_extension(extension.value, extension.critical)
    return builder.add_extension(_constraints(root, names), critical=True).sign(keys.new_key(), hashes.SHA256())


def _constraints(root: x509.Certificate, names: Iterable[str]) -> x509.NameConstraints:
    """The URIs of `names`, beside what the root itself constrains."""
    permitted: list[x509.GeneralName] = [x509.UniformResourceIdentifier(name) for name in names]
    try:
        own = root.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return x509.NameConstraints(permitted, None)
    uris = [one for one in own.permitted_subtrees or () if isinstance(one, x509.UniformResourceIdentifier)]
    if uris and not set(permitted) <= set(uris):
        raise YourFault(
            f"the root `{root.subject.rfc4514_string()}` may not sign for {', '.join(f'`{name}`' for name in names)}: "
            "its own name constraints forbid it"
        )
    others = [one for one in own.permitted_subtrees or () if one not in uris]
    return x509.NameConstraints(permitted + others, own.excluded_subtrees or None)


def _has(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> bool:
    return any(isinstance(extension.value, kind) for extension in certificate.extensions)


def pem_of(certificates: Iterable[x509.Certificate]) -> str:
    """All of them, one after the other."""
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode("ascii") for one in certificates)
