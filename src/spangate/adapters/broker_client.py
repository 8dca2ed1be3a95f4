"""The asker's side of the broker's door: a TokenSource over its Unix socket.

Rules: a token is taken for the identity that was asked for, and kept nowhere: the broker remembers.
Not here: the door (broker_door.py), getting tokens (token_broker.py).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from spangate.adapters.svid_client import Door, ask
from spangate.adapters.token_broker import WAIT_SECONDS_MAX
from spangate.adapters.unix_server import check_socket_path
from spangate.broker.token import AccessToken
from spangate.errors import PeersFault
from spangate.model.identity import SpiffeId

# As long as the broker itself lets anybody wait, and a little.
TIMEOUT_SECONDS = WAIT_SECONDS_MAX + 2.0


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""


class BrokerClient:
    """Asks the broker that listens at what `path` says at that moment. Any thread may use it."""

    def __init__(self, path: Callable[[], Path], clock: Clock, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._path = path
        self._clock = clock
        self._timeout_seconds = timeout_seconds

    def token(self, identity: SpiffeId) -> AccessToken:
        """As TokenSource."""
        door = Door(check_socket_path(self._path()), "broker", self._timeout_seconds)
        answer = ask(door, "POST", "/token", {"identity": str(identity)})
        text, seconds = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(text, str) or not text or not isinstance(seconds, int) or isinstance(seconds, bool):
            raise PeersFault("the broker's answer is no token")
        return AccessToken(text, identity, self._clock.now() + timedelta(seconds=seconds))
