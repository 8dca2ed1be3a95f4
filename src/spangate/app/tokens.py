"""`spangate token` and `spangate jwks`: tokens from the authority of a running `up`, and the keys that verify them.

Rules: a token goes to whoever asked and nowhere else: no file, no log.
Not here: rendering (cli/), signing (authority/jwt_svid.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spangate.adapters.keys import SystemKeys
from spangate.adapters.state import StateDirectory
from spangate.adapters.svid_client import SvidClient
from spangate.app.identities import identity_named


@dataclass(frozen=True, slots=True)
class Token:
    """A JWT-SVID, and when it ends (RFC 3339)."""

    token: str = field(repr=False)
    expires_at: str


def token_for(intent: Path, identity: str, audiences: Sequence[str]) -> Token:
    """A token for an identity: a name of the intent, `namespace/service-account`, or a SPIFFE ID. SpangateError."""
    running = StateDirectory(intent).running()
    named = identity_named(identity, intent, running.trust_domain)
    return Token(*SvidClient(Path(running.authority_socket), SystemKeys()).token(named, audiences))


def public_keys(intent: Path) -> Mapping[str, Any]:
    """The JWK set of the running authority. Raises SpangateError."""
    running = StateDirectory(intent).running()
    return SvidClient(Path(running.authority_socket), SystemKeys()).keys()
