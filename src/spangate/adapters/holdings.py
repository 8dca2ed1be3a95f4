"""What an Envoy holds, in the authority's terms: the roots that it trusts, and the root over its certificate.

Rules: read from what is in use, never from what was sent. What cannot be read is held by nobody, which keeps a rotation
waiting.
Not here: how it is known what is in use (sds_door.py), who is told (peer_reports.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from spangate.adapters.sds_door import InUse
from spangate.authority.generations import fingerprint, signed_by


@dataclass(frozen=True, slots=True)
class Holding:
    """Fingerprints of roots: those trusted, and the one over the certificate in use (empty without one)."""

    trusts: frozenset[str]
    uses: str


def holding(in_use: InUse) -> Holding:
    """What that is."""
    trusts: frozenset[str] = frozenset()
    uses = ""
    if in_use.bundle is not None:
        trusts = frozenset(fingerprint(root) for root in _read(in_use.bundle.roots_pem))
    if in_use.certificate is not None:
        chain, roots = _read(in_use.certificate.chain_pem), _read(in_use.certificate.roots_pem)
        uses = next((fingerprint(root) for root in roots if chain and signed_by(chain[-1], root)), "")
    return Holding(trusts, uses)


def leads_to(chain_pem: str, bundle_pem: str) -> bool:
    """Whether a chain's last certificate is signed by a root of the bundle."""
    chain, roots = _read(chain_pem), _read(bundle_pem)
    return bool(chain) and any(signed_by(chain[-1], root) for root in roots)


def _read(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode("ascii"))
    except ValueError:
        return []
