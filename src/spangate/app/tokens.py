"""`spangate token` and `spangate jwks`: tokens from the authority of a running `up`, and the keys that verify them.

Rules: a token goes to whoever asked and nowhere else: no file, no log.
Not here: rendering (cli/), signing (authority/jwt_svid.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from spangate.adapters.keys import SystemKeys
from spangate.adapters.state import StateDirectory
from spangate.adapters.svid_client import SvidClient
from spangate.adapters.token_broker import SUBJECT_TOKEN_SECONDS
from spangate.app.identities import identity_named
from spangate.compiler import executable_response
from spangate.errors import SpangateError


@dataclass(frozen=True, slots=True)
class Token:
    """A JWT-SVID, and when it ends (RFC 3339)."""

    token: str = field(repr=False)
    expires_at: str


def token_for(intent: Path, identity: str, audiences: Sequence[str], lifetime_seconds: int | None = None) -> Token:
    """A token for an identity: a name of the intent, `namespace/service-account`, or a SPIFFE ID. SpangateError."""
    running = StateDirectory(intent).running()
    named = identity_named(identity, intent, running.trust_domain)
    authority = SvidClient(Path(running.authority_socket), SystemKeys())
    return Token(*authority.token(named, audiences, lifetime_seconds))


def token_for_library(
    intent: Path, identity: str, audiences: Sequence[str], environment: Mapping[str, str]
) -> Mapping[str, Any]:
    """Google's executable response for the library that set `environment`: a token, or why there is none."""
    if len(audiences) != 1:
        return executable_response.failure("AUDIENCE", "a library's token has exactly one audience")
    problem = executable_response.problem_with(environment, audiences[0])
    if problem is not None:
        return executable_response.failure("REFUSED", problem)
    try:
        found = token_for(intent, identity, audiences, SUBJECT_TOKEN_SECONDS)
    except SpangateError as error:
        return executable_response.failure("NO_TOKEN", error.message + (f"; {error.help}" if error.help else ""))
    return executable_response.success(
        found.token, environment, int(datetime.fromisoformat(found.expires_at).timestamp())
    )


def public_keys(intent: Path) -> Mapping[str, Any]:
    """The JWK set of the running authority. Raises SpangateError."""
    running = StateDirectory(intent).running()
    return SvidClient(Path(running.authority_socket), SystemKeys()).keys()
