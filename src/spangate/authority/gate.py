"""The gates of a rotation: for whom the next step has to wait, and why.

Rules: what counts is what was seen, not what was sent, and silence is never taken for consent.
- Before the new root signs: every peer that is heard has been seen to trust it; whoever holds a certificate and is not
  heard counts until that has ended; whoever holds one and never reports has at least been given the new root with it;
  those who read the published bundle have had the time to look again.
- Before a root is retired: every peer that is heard uses a certificate under the signer, no certificate under the other
  root can still be in use, and the gateway has met none for a while.
- Before a rotation is over: no peer that is heard trusts a root that was let go.
The required peers have to be heard before every step: without them nothing has been measured.
Not here: who is known (peers.py), what was issued (ledger.py), taking the step (rotator.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from spangate.authority.generations import AuthorityState
from spangate.authority.ledger import Held
from spangate.authority.peers import Seen
from spangate.authority.rotation import REPLACING, Phase

# The gateway drains a connection under a root on its way out with the next request, so this long without one means that
# whoever sends requests has connected anew. Idle connections are refused later: their certificate is.
QUIET = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Wait:
    """`who` is waited for, `why` says for what; `until` when it ends by itself, if it does (aware, UTC)."""

    who: str
    why: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What the gateway tells of requests over certificates under the root that is on its way out.

    `asked`: when it last told; `used`: when it last met one. None: never in this phase.
    """

    asked: datetime | None
    used: datetime | None


def waits(
    state: AuthorityState,
    seen: Iterable[Seen],
    held: Iterable[Held],
    now: datetime,
    *,
    required: Iterable[str] = (),
    stores: Iterable[str] = (),
    usage: Usage | None = None,
    readers_until: datetime | None = None,
) -> tuple[Wait, ...]:
    """Everybody whom the next step waits for; nobody in STEADY.

    `required`: instances that must be heard. `stores`: trust stores elsewhere that somebody changes by hand.
    `readers_until`: see bundle_readers.py.
    """
    if state.phase is Phase.STEADY:
        return ()
    peers = {one.instance: one for one in seen}
    found = [
        Wait(name, "has not been heard of, and nothing can be concluded without it")
        for name in required
        if name not in peers or not peers[name].connected(now)
    ]
    if state.phase is Phase.NEW_ROOT_TRUSTED:
        found += _without_new_root(state, peers, held, now)
        if readers_until is not None and now < readers_until:
            yet = "have not all had the time to look again since the new root is there"
            found.append(Wait("readers of the published bundle", yet, readers_until))
    elif state.phase in REPLACING:
        found += _with_leaving_root(state, peers, held, now)
        found += _met_by_gateway(usage, state.since, now)
    else:
        found += _with_other_roots(state, peers, now)
    if state.phase not in REPLACING:
        found += [
            Wait(name, "somebody has to change this trust store, and to say so: `spangate rotate --confirm`")
            for name in stores
            if name not in state.confirmed
        ]
    return tuple(found)


def _without_new_root(
    state: AuthorityState, peers: dict[str, Seen], held: Iterable[Held], now: datetime
) -> Iterator[Wait]:
    new = state.newest.fingerprint
    for peer in peers.values():
        if new not in peer.trusts and peer.connected(now):
            yield Wait(_name(peer), "has not been seen to trust the new root")
    for one in held:
        holder = peers.get(one.holder)
        if not one.holder:
            if one.revision < state.staged:
                yield Wait(_holder(one), "never reports; its certificate is older than the new root", one.until)
        elif holder is None or (new not in holder.trusts and not holder.connected(now)):
            yield Wait(_holder(one, holder), "is silent, and its certificate has not ended", one.until)


def _with_leaving_root(
    state: AuthorityState, peers: dict[str, Seen], held: Iterable[Held], now: datetime
) -> Iterator[Wait]:
    named = set()
    ours = {one.fingerprint for one in state.generations} | {one.fingerprint for one in state.let_go}
    for peer in peers.values():
        if peer.uses in ours and peer.uses != state.signer.fingerprint and peer.connected(now):
            named.add(peer.instance)
            yield Wait(_name(peer), "still uses a certificate under the root that is to go")
    for one in held:
        if one.generation == state.signing or one.holder in named:
            continue
        holder = peers.get(one.holder)
        silent = "is silent" if one.holder else "never reports"
        why = "has not been seen to have replaced its certificate" if holder and holder.connected(now) else silent
        yield Wait(_holder(one, holder), f"{why}; a certificate under the root that is to go has not ended", one.until)


def _met_by_gateway(usage: Usage | None, since: datetime, now: datetime) -> Iterator[Wait]:
    if usage is None:
        return
    # Nothing met before the phase has lasted that long says little: nobody may have sent anything yet.
    quiet_from = since if usage.used is None else max(since, usage.used)
    if usage.asked is None or now - usage.asked > QUIET:
        yield Wait("gateway", "has not told which certificates it meets")
    elif usage.asked - quiet_from < QUIET:
        yield Wait("gateway", "has to serve nobody under the root that is to go for a while", quiet_from + QUIET)


def _with_other_roots(state: AuthorityState, peers: dict[str, Seen], now: datetime) -> Iterator[Wait]:
    gone = {one.fingerprint for one in state.let_go}
    for peer in peers.values():
        if peer.connected(now) and peer.trusts & gone:
            yield Wait(_name(peer), "still trusts the root that is gone")


def _name(peer: Seen) -> str:
    return f"{peer.kind} {peer.identity} ({_short(peer.instance)})"


def _short(instance: str) -> str:
    """What it belongs to, whole, and as much of its own name as tells it from others there."""
    of, colon, own = instance.rpartition(":")
    return of + colon + own[:8]


def _holder(one: Held, peer: Seen | None = None) -> str:
    if peer is not None:
        return _name(peer)
    return f"{one.identity} ({_short(one.holder)})" if one.holder else one.identity
