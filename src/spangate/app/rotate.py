"""`spangate rotate`: begins a rotation of a running `up`'s root, watches it, turns it back, confirms what hands did.

Rules: the authority's process does the work, and goes on with it whether or not anybody watches.
Not here: rendering (cli/rotate.py), when a step is taken (authority/rotator.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spangate.adapters.keys import SystemKeys
from spangate.adapters.peer_client import rotate, rotation
from spangate.adapters.state import Running, StateDirectory
from spangate.adapters.svid_client import SvidClient
from spangate.errors import TryAgain

STEADY = "STEADY"
LOOK_SECONDS = 0.5
# The authority is started again within seconds when it dies; whoever watches does not give up for that.
AWAY_SECONDS_MAX = 30.0


def running_at(intent: Path) -> Running:
    """What runs beside the intent file. Raises TryAgain."""
    return StateDirectory(intent).running()


def status(running: Running) -> Mapping[str, Any]:
    """Where the rotation stands. Raises SpangateError."""
    return rotation(_client(running))


def begin(running: Running) -> Mapping[str, Any]:
    """Begins one, or finds one under way, which goes on. Raises SpangateError."""
    found = status(running)
    return rotate(_client(running), "begin") if found.get("phase") == STEADY else found


def abandon(running: Running) -> Mapping[str, Any]:
    """Turns back. Raises SpangateError."""
    return rotate(_client(running), "abandon")


def confirm(running: Running, store: str) -> Mapping[str, Any]:
    """Somebody has changed this trust store. Raises SpangateError."""
    return rotate(_client(running), "confirm", store)


def watch(running: Running, shown: Callable[[Mapping[str, Any]], None]) -> Mapping[str, Any]:
    """Until no rotation is under way; `shown` gets what there is to see. Raises SpangateError."""
    away_since = None
    while True:
        try:
            found = status(running)
        except TryAgain:
            now = time.monotonic()
            away_since = away_since or now
            if now - away_since > AWAY_SECONDS_MAX:
                raise
        else:
            away_since = None
            shown(found)
            if found.get("phase") == STEADY:
                return found
        time.sleep(LOOK_SECONDS)


def _client(running: Running) -> SvidClient:
    return SvidClient(Path(running.authority_socket), SystemKeys())
