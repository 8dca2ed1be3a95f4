"""What the gateway meets of certificates under a root that is on its way out: a counter of its filter, read and judged.

Rules: the counter only grows while an Envoy lives; another number than before means that one more was met, or that the
Envoy is another one, which then has met as many as it says. Nobody is believed who has not told lately (gate.QUIET).
Not here: counting (dataplane/lua/peer.lua), who tells (app/gate_parts.py).
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from spangate.adapters.svid_client import UnixConnection
from spangate.authority.gate import Usage
from spangate.errors import PeersFault, TryAgain

COUNTER = "spangate_leaving"
_TIMEOUT_SECONDS = 2.0
_ANSWER_BYTES_MAX = 64 * 1024


class GatewayUsage:
    """The authority's side: what it was told. One thread tells, any may ask."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._count: int | None = None
        self._usage = Usage(None, None)

    def told(self, count: int) -> None:
        """The gateway's counter stands there now."""
        now = self._now()
        met = count != self._count and not (self._count is None and count == 0)
        self._count = count
        self._usage = Usage(now, now if met else self._usage.used)

    def usage(self) -> Usage:
        """For gate.waits."""
        return self._usage


def leaving_count(admin_socket: Path) -> int:
    """The gateway's side: its counter, asked of Envoy's admin interface. Raises TryAgain, PeersFault."""
    connection = UnixConnection(admin_socket, _TIMEOUT_SECONDS)
    try:
        connection.request("GET", f"/stats?filter={COUNTER}&format=json")
        content = connection.getresponse().read(_ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise TryAgain(f"the gateway does not tell what it meets: {error}") from error
    finally:
        connection.close()
    try:
        found = [int(one["value"]) for one in json.loads(content)["stats"] if "value" in one]
    except (ValueError, KeyError, TypeError) as error:
        raise PeersFault("the gateway's counters cannot be read") from error
    return sum(found)
