"""What the authority's doors say of what others are verified by, and how an asker reads it.

    {"roots": {"<trust domain>": "<PEM>", ...}, "keys": <JWK set>}

Roots are of all trust domains; the public keys of tokens are the authority's own, and so of its trust domain.

Rules: an asker takes nothing of an answer in which anything is wrong, or its own trust domain missing.
Not here: which roots these are (authority/federation.py), the doors (svid_door.py, attest_door.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spangate.authority.bundles import BadBundle, read_bundle
from spangate.authority.workload_api import Bundles
from spangate.errors import PeersFault
from spangate.model.identity import BadSpiffeId, check_trust_domain

# All roots that there may be (trust_files.py), in PEM, with some room.
BUNDLES_BYTES_MAX = 4 * 1024 * 1024


def bundles_answer(roots: Mapping[str, str], keys: Mapping[str, object]) -> dict[str, object]:
    """The answer. `keys`: a JWK set."""
    return {"roots": dict(roots), "keys": keys}


def read_bundles(answer: Mapping[str, Any], trust_domain: str) -> Bundles:
    """What it says, for a workload of `trust_domain`. Raises PeersFault."""
    keys = answer.get("keys")
    found = keys.get("keys") if isinstance(keys, dict) else None
    if not isinstance(found, list) or not all(isinstance(key, dict) for key in found):
        raise PeersFault("the authority's answer has no `keys`")
    roots = answer.get("roots")
    if not isinstance(roots, dict) or trust_domain not in roots:
        raise PeersFault("the authority's answer has no roots of its own trust domain")
    for name, pem in roots.items():
        try:
            check_trust_domain(name)
            read_bundle(pem.encode("ascii") if isinstance(pem, str) else b"")
        except (BadSpiffeId, BadBundle, UnicodeEncodeError) as error:
            raise PeersFault("the authority's answer has roots that cannot be used") from error
    # SPIFFE's word for what such keys are for; a JWK set has another.
    jwks = {"keys": [{**key, "use": "jwt-svid"} for key in found]}
    return Bundles(roots, {trust_domain: jwks})
