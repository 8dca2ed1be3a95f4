"""From where a pod's token is shown: until it ends, only from the address that showed it first.

A pod shows its token again and again, so it cannot be taken once only; but it does so from one address. A token that
was stolen and is shown from elsewhere is refused; so is the pod's own, if the thief was first, and that is an alarm.

Rules: the first address is written down before anything is given for the token, and outlives this process. An address
is compared as a number: the same IPv4 address in IPv6 clothes is the same. One that is not known is nobody's. What was
shown from elsewhere is written down and told.
Not here: whose token it is (kubernetes_token.py), where it is written (adapters/authority_store.py).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from spangate.authority.kubernetes_token import Attested


@dataclass(frozen=True, slots=True)
class Replay:
    """A token that was shown from `address`, and first from `first`."""

    attested: Attested
    first: str
    address: str


class Shown(Protocol):
    """Remembers across restarts which address showed a token first."""

    def first_shown(self, digest: str, address: str, ends: datetime) -> str:
        """The address that showed the token of this digest first: `address`, if none has. Raises SpangateError."""
        ...

    def record_replay(self, replay: Replay, at: datetime) -> None:
        """Raises SpangateError."""
        ...


class ShownElsewhere(Exception):
    """The token was first shown from another address."""


class TokenAddresses:
    """Any thread may use it, if `shown` may be."""

    def __init__(self, shown: Shown, notice: Callable[[str], None]) -> None:
        self._shown = shown
        self._notice = notice

    def check(self, attested: Attested, shown_from: str, now: datetime) -> None:
        """Returns if that token may come from there. Raises ShownElsewhere, SpangateError."""
        address = source_address(shown_from)
        first = "" if address is None else self._shown.first_shown(attested.digest, address, attested.expires_at)
        if address is not None and first == address:
            return
        replay = Replay(attested, first or "nowhere", address or "an address that is not known")
        self._shown.record_replay(replay, now)
        self._notice(
            f"a token of `{attested.identity}` (pod {attested.pod_uid}) was first shown from {replay.first} and now "
            f"from {replay.address}: refused; who of the two is the pod?"
        )
        raise ShownElsewhere


def source_address(text: str) -> str | None:
    """The address in the one spelling that it has; None for what is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
