"""Which identity a process of this machine has: the one whose selectors all fit what the kernel says of it.

Rules: a process has one identity at most. Where several fit, because a name and a number turn out to be one user, it
gets none, and the operator is told which. A user or group whose name is not known here fits nobody; neither does the
number that the kernel shows for "not known here", or an executable that the kernel does not show.
Not here: what the kernel says (adapters/unix_peers.py), the words of the intent (intent/).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from spangate.errors import YourFault
from spangate.model.identity import SpiffeId
from spangate.model.unix import OVERFLOW_ID, UnixPeer, UnixSelectors, account_id


class Accounts(Protocol):
    """The users and groups of this machine."""

    def user_id(self, name: str) -> int | None:
        """The number of a user, None if there is none of that name."""
        ...

    def group_id(self, name: str) -> int | None:
        """The number of a group, None if there is none of that name."""
        ...


class SeveralFit(YourFault):
    """The selectors of more than one identity fit; the process gets none."""


def attest(peer: UnixPeer, selectors: Mapping[SpiffeId, UnixSelectors], accounts: Accounts) -> SpiffeId | None:
    """The identity of `peer`, None if it has none. Raises SeveralFit."""
    found = [identity for identity, wanted in selectors.items() if _fits(peer, wanted, accounts)]
    if len(found) > 1:
        names = " and ".join(f"`{identity}`" for identity in sorted(found)[:2])
        raise SeveralFit(
            f"a process of user {peer.uid}, group {peer.gid} fits {names}, and is given none of them",
            help="make their `unix` differ in a user, group or executable that both name",
        )
    return found[0] if found else None


def _fits(peer: UnixPeer, wanted: UnixSelectors, accounts: Accounts) -> bool:
    asked = False
    if wanted.user is not None:
        asked = True
        if not _is(peer.uid, wanted.user, accounts.user_id):
            return False
    if wanted.group is not None:
        asked = True
        if not _is(peer.gid, wanted.group, accounts.group_id):
            return False
    if wanted.executable is not None and peer.executable != wanted.executable:
        return False
    return asked


def _is(number: int, wanted: str, look_up: Callable[[str], int | None]) -> bool:
    if number == OVERFLOW_ID:
        return False
    written = account_id(wanted)
    return number == (look_up(wanted) if written is None else written)
