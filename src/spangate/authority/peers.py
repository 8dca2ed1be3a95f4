"""Who holds certificates or trust bundles, and what each has been seen to hold: what the gates of a rotation measure.

Rules: a peer is an instance (one running program, one stream) that reports again and again what is really in use there,
not what it was sent. Who falls silent without a goodbye is not gone: its certificate is still recorded (ledger.py), and
counts until it has ended. A goodbye says that the private key is gone too; whoever cannot know that must not say it.
This is lost with the process, and need not be kept: whoever lives reports again, and the ledger knows of all others,
and of the processes that they end with.
Not here: what is concluded (gate.py), how reports come in (adapters/).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from spangate.authority.generations import AuthorityState
from spangate.authority.ledger import Ledger, Life
from spangate.authority.rotation import Phase
from spangate.errors import TryAgain, YourFault

# A peer reports each few seconds; one that misses this many seconds does not connect to anything just now.
LEASE = timedelta(seconds=15)
# A single host's programs are some dozens; each costs a few hundred bytes here.
PEERS_MAX = 20_000
INSTANCE_CHARACTERS_MAX = 128
# The gateway's own name among them (app/gate_parts.py); no step is taken without it.
GATEWAY_INSTANCE = "gateway"
# The door for pods, which the authority's own process serves (app/workload_doors.py).
POD_DOOR_INSTANCE = "pods-door"
# Names that nobody else may take.
RESERVED_INSTANCES = frozenset({GATEWAY_INSTANCE, POD_DOOR_INSTANCE})
# Roots that a peer may say it trusts: ours are two, and trust domains of meshes add theirs.
TRUSTS_MAX = 256
# How soon a peer is to report again: while a rotation is under way, and while there is none.
AGAIN_SOON, AGAIN = timedelta(seconds=1), timedelta(seconds=4)
# So many reports a second are a small part of what the authority can answer.
REPORTS_PER_SECOND_MAX = 200


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A peer as it was last seen. `kind`: what it is, for people. `trusts`: fingerprints, of our roots alone. `uses`:
    that of the root over the certificate in use; empty if it has none. `at`: when (aware, UTC).
    """

    instance: str
    identity: str
    kind: str
    trusts: frozenset[str]
    uses: str
    at: datetime

    def connected(self, now: datetime) -> bool:
        """Whether it has been heard of lately."""
        return now - self.at <= LEASE


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a peer is to do now: fetch a certificate, or take the bundle; and when to report again."""

    renew: bool
    bundle: bool
    again: timedelta


class Peers:
    """Any thread may use it: each change is one assignment."""

    def __init__(
        self,
        state: Callable[[], AuthorityState],
        ledger: Ledger,
        clock: Clock,
        *,
        ended: Callable[[Life], bool] = lambda _: False,
    ) -> None:
        """`state`: what is in force. `ended`: whether a process has certainly ended. Raises what the ledger raises."""
        self._state = state
        self._ledger = ledger
        self._clock = clock
        self._ended = ended
        self._seen: dict[str, Seen] = {}
        self._lives: dict[str, Life] = dict(ledger.lives())
        # Of another run of the machine nobody is seen to end; who holds nothing any more is of no interest either.
        holders = {one.holder for one in ledger.held(clock.now())}
        for instance in tuple(self._lives):
            if instance not in holders:
                self.gone(instance)

    def seen(
        self,
        instance: str,
        identity: str,
        *,
        kind: str,
        trusts: frozenset[str],
        uses: str,
        life: Life | None = None,
    ) -> Wanted:
        """What `instance` holds at this moment. `life`: the process that it ends with, if that is known. Raises
        YourFault, TryAgain, and what the ledger raises.
        """
        if not instance or len(instance) > INSTANCE_CHARACTERS_MAX or len(trusts) > TRUSTS_MAX:
            raise YourFault("a peer's report without a name, with a long one, or with too many roots")
        before, ours = self._seen.get(instance), instance in RESERVED_INSTANCES
        if before is None and len(self._seen) >= PEERS_MAX and not ours:
            raise TryAgain(f"there are more than {PEERS_MAX} peers")
        state = self._state()
        if uses and (before is None or before.uses != uses):
            for one in state.generations:
                if one.fingerprint == uses:
                    self._ledger.replaced(instance, one.number)
        roots = {one.fingerprint for one in state.generations}
        gone = {one.fingerprint for one in state.let_go}
        # Of others' roots nothing is concluded, and they would be kept for everybody.
        known = frozenset(roots | gone) & trusts
        self._seen[instance] = Seen(instance, identity, kind, known, uses, self._clock.now())
        self.belongs(instance, life)
        return Wanted(
            # A certificate under somebody else's root is none of ours.
            renew=uses in (roots | gone) - {state.signer.fingerprint},
            bundle=not roots <= trusts or bool(trusts & gone),
            again=self._again(state, alone=ours),
        )

    def belongs(self, instance: str, life: Life | None) -> None:
        """What `instance` has, or is about to be given, ends with that process. Raises what the ledger raises."""
        # Beyond the bound a certificate counts until it has ended, as that of somebody unknown.
        known = instance in self._lives or len(self._lives) < PEERS_MAX
        if life is not None and known and self._lives.get(instance) != life:
            self._ledger.belongs(instance, life)
            self._lives[instance] = life

    def gone(self, instance: str) -> None:
        """`instance` has ended, and its private keys with it. Raises what the ledger raises."""
        if instance:
            self._ledger.given_up(instance)
        self._seen.pop(instance, None)
        self._lives.pop(instance, None)

    def tend(self) -> None:
        """Lets go of those whose process has ended, and of silent ones that hold nothing which has not ended."""
        now = self._clock.now()
        for instance, life in tuple(self._lives.items()):
            if self._ended(life):
                self.gone(instance)
        silent = [one for one in self.all() if not one.connected(now)]
        if silent:
            holders = {one.holder for one in self._ledger.held(now)}
            for one in silent:
                if one.instance not in holders:
                    self._seen.pop(one.instance, None)

    def all(self) -> tuple[Seen, ...]:
        """Everybody who is known, silent ones too."""
        return tuple(self._seen.values())

    def _again(self, state: AuthorityState, *, alone: bool) -> timedelta:
        soon = AGAIN if state.phase is Phase.STEADY else AGAIN_SOON
        # Without our own nothing goes on, however many others there are; and there are two of them.
        return soon if alone else max(soon, timedelta(seconds=len(self._seen) / REPORTS_PER_SECOND_MAX))
