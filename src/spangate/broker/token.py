"""An access token in memory, and the port by which others get one.

Rules: a token belongs to exactly one identity. Its text appears in no log, message, file or `repr`.
Not here: getting one (exchange, impersonation), keeping it fresh.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from spangate.model.identity import SpiffeId


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A bearer token for Google's APIs that `identity` alone may use. `expires_at`: aware, UTC."""

    text: str = field(repr=False)
    identity: SpiffeId
    expires_at: datetime


class TokenSource(Protocol):
    """Gives tokens by identity. Any thread may use it."""

    def token(self, identity: SpiffeId) -> AccessToken:
        """A token that is valid now.

        Raises YourFault or PeersFault with the link of the chain that is wrong and the command that shows it, TryAgain
        when Google says so.
        """
        ...
