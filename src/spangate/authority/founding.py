"""Roots and intermediates: made with keys of their own in the keeper, checked, and recorded.

Rules: a key is kept before anything is signed with it or for it. A signing certificate that fails its check, or cannot
be recorded, is used for nothing. An intermediate never outlives its root.
Not here: who signs, and when a root is replaced (ca.py, rotator.py).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from spangate.authority.build import signed_ca
from spangate.authority.check import check_ca
from spangate.authority.generations import INTERMEDIATE_PREFIX, ROOT_PREFIX, AuthorityState, Generation
from spangate.authority.keeper import KeyKeeper
from spangate.authority.ledger import Issued, Record
from spangate.authority.template import (
    CA_BACKDATE,
    INTERMEDIATE_LIFETIME,
    INTERMEDIATE_PATH_LENGTH,
    ROOT_LIFETIME,
    ROOT_PATH_LENGTH,
    CaTemplate,
    ca_subject,
)
from spangate.errors import TryAgain

# An intermediate is replaced when it has less than this left: at the next start, or by a rotation.
INTERMEDIATE_RENEWAL = timedelta(days=60)


class Keys(Protocol):
    """Makes what must not be guessed."""

    def new_key(self) -> ec.EllipticCurvePrivateKey:
        """A fresh P-256 key."""

    def new_serial(self) -> int:
        """A fresh serial number: positive, at least 64 random bits, at most 159 bits (RFC 5280, section 4.1.2.2)."""


def _new_root(
    trust_domain: str, number: int, key: ec.EllipticCurvePrivateKey, keys: Keys, now: datetime, record: Record
) -> x509.Certificate:
    """Signed by itself, checked and recorded."""
    subject = ca_subject("root", number, key.public_key())
    template = CaTemplate(
        trust_domain=trust_domain,
        subject=subject,
        issuer=subject,
        public_key=key.public_key(),
        serial=keys.new_serial(),
        not_before=now - CA_BACKDATE,
        not_after=now + ROOT_LIFETIME,
        path_length=ROOT_PATH_LENGTH,
    )
    root = signed_ca(template, key)
    check_ca(root, template, root)
    record(facts("root", template.uri, root))
    return root


def _new_intermediate(
    trust_domain: str,
    number: int,
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    keys: Keys,
    now: datetime,
    record: Record,
) -> x509.Certificate:
    """Signed by the root, checked and recorded. It ends with its root at the latest."""
    template = CaTemplate(
        trust_domain=trust_domain,
        subject=ca_subject("intermediate", number, root_key.public_key()),
        issuer=root.subject,
        public_key=key.public_key(),
        serial=keys.new_serial(),
        # A clock set back a little must not make an intermediate that begins before its root.
        not_before=max(now - CA_BACKDATE, root.not_valid_before_utc),
        not_after=min(now + INTERMEDIATE_LIFETIME, root.not_valid_after_utc),
        path_length=INTERMEDIATE_PATH_LENGTH,
    )
    intermediate = signed_ca(template, root_key)
    check_ca(intermediate, template, root)
    record(facts("intermediate", template.uri, intermediate))
    return intermediate


def new_generation(
    trust_domain: str, number: int, keys: Keys, keeper: KeyKeeper, now: datetime, record: Record
) -> Generation:
    """A root and its intermediate, with keys of their own in the keeper."""
    root_name, root_key = _kept(keeper, f"{ROOT_PREFIX}{number}", keys)
    name, key = _kept(keeper, f"{INTERMEDIATE_PREFIX}{number}", keys)
    root = _new_root(trust_domain, number, root_key, keys, now, record)
    intermediate = _new_intermediate(trust_domain, number, root, root_key, key, keys, now, record)
    return Generation(number, pem(root), root_name, pem(intermediate), name)


def with_new_intermediate(
    state: AuthorityState, keys: Keys, keeper: KeyKeeper, now: datetime, record: Record
) -> AuthorityState:
    signer = state.signer
    if signer.root.not_valid_after_utc <= now + INTERMEDIATE_RENEWAL:
        if signer.root.not_valid_after_utc <= now:
            raise TryAgain(
                f"the authority's root has ended at {signer.root.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
                help="move the keys and the state away to begin with a new root",
            )
        return state  # no longer than its root; rotating the root is what helps
    root_key = keeper.open(signer.root_key)
    name, key = _kept(keeper, f"{INTERMEDIATE_PREFIX}{signer.number}", keys)
    made = _new_intermediate(state.trust_domain, signer.number, signer.root, root_key, key, keys, now, record)
    renewed = replace(signer, intermediate_pem=pem(made), intermediate_key=name)
    return replace(state, generations=tuple(renewed if one is signer else one for one in state.generations))


def _kept(keeper: KeyKeeper, prefix: str, keys: Keys) -> tuple[str, ec.EllipticCurvePrivateKey]:
    """A new key under a name that was never used."""
    name = f"{prefix}-{keys.new_serial() % 2**64:016x}"
    return name, keeper.make(name)


def facts(kind: str, identity: str, certificate: x509.Certificate, dns_names: tuple[str, ...] = ()) -> Issued:
    return Issued(
        kind,
        identity,
        certificate.serial_number,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        dns_names,
    )


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
