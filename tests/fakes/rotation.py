"""A small world for rotations: programs that report honestly, are stopped, or die; strangers that never report; an
authority that is killed between any two operations; a clock.

It knows what each really holds, which the authority has to find out; `World.check` says what must hold at any moment.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fakes.clock import FakeClock
from spangate.adapters.key_keepers import MemoryKeys
from spangate.adapters.keys import SystemKeys, request_pem
from spangate.authority.ca import Authority
from spangate.authority.generations import AuthorityState, common_name, fingerprint
from spangate.authority.ledger import HeldLedger, Life
from spangate.authority.peers import Peers
from spangate.authority.rotation import Phase
from spangate.authority.rotator import Rotator
from spangate.authority.template import SVID_LIFETIME_MAX
from spangate.model.identity import SpiffeId

GATEWAY = SpiffeId.parse("spiffe://shop.example/ns/spangate/sa/gateway")
CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")
# Anchors that Google's trust store takes.
ANCHORS_MAX = 3
REQUEST = request_pem(ec.generate_private_key(ec.SECP256R1()))


class Stopped(Exception):
    """The machine stops here."""


class Kept:
    """Keeper and store that outlive the authority, and stop before the operation whose turn it is."""

    def __init__(self) -> None:
        self.keys = MemoryKeys()
        self.state: AuthorityState | None = None
        self.stop_in: int | None = None
        self._begun = False

    def _operation(self) -> None:
        if self.stop_in is not None:
            self.stop_in -= 1
            if self.stop_in < 0:
                self.stop_in = None
                raise Stopped

    def make(self, name: str) -> ec.EllipticCurvePrivateKey:
        self._operation()
        made = self.keys.make(name)
        self._operation()
        return made

    def open(self, name: str) -> ec.EllipticCurvePrivateKey:
        return self.keys.open(name)

    def names(self) -> tuple[str, ...]:
        return self.keys.names()

    def destroy(self, name: str) -> None:
        self._operation()
        self.keys.destroy(name)

    def load(self) -> AuthorityState | None:
        return self.state

    def begun(self) -> bool:
        return self._begun

    def begin(self) -> None:
        self._operation()
        self._begun = True
        self._operation()

    def save(self, state: AuthorityState) -> None:
        self._operation()
        self.state = state
        self._operation()


@dataclass
class Program:
    """What one really holds: roots it trusts, the root over its certificate, and when that ends."""

    name: str
    trusts: frozenset[str]
    uses: str
    ends: datetime
    reports: bool = True
    stopped: bool = False
    # How many reports a bundle that it was given is not in use yet.
    lag: int = 0
    # Whether the kernel tells of its process.
    known: bool = False
    given: tuple[int, frozenset[str]] | None = None

    def take(self) -> None:
        """Whatever it was given comes into use when its time has come."""
        if self.given is not None:
            left, bundle = self.given
            self.given = (left - 1, bundle) if left > 0 else None
            if self.given is None:
                self.trusts = bundle


@dataclass
class World:
    clock: FakeClock = field(default_factory=FakeClock)
    kept: Kept = field(default_factory=Kept)
    programs: dict[str, Program] = field(default_factory=dict)
    made: int = 0
    retired: set[str] = field(default_factory=set)
    signed: set[str] = field(default_factory=set)
    # Of all programs of whose process the kernel tells, the dead ones too.
    known: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ledger = HeldLedger(self.clock.now)
        self.start()
        self.join(instance="gateway", identity=GATEWAY)

    def start(self) -> None:
        """The authority's process begins, with nothing but what is kept."""
        self.kept.stop_in = None
        self.authority = Authority.open(
            *("shop.example", self.clock, SystemKeys(), self.kept, self.kept),
            record=self.ledger.record,
            lock=threading.RLock(),
        )
        self.peers = Peers(
            lambda: self.authority.state,
            self.ledger,
            self.clock,
            ended=lambda life: life.started not in self.programs,
        )
        self.rotator = Rotator(
            self.authority, self.peers, self.ledger, self.clock, every=None, required=["gateway"], stores=["google"]
        )

    def bundle(self) -> frozenset[str]:
        return frozenset(fingerprint(root) for root in self.authority.roots())

    def join(
        self,
        *,
        reports: bool = True,
        lag: int = 0,
        known: bool = False,
        instance: str = "",
        identity: SpiffeId = CHECKOUT,
    ) -> None:
        self.made += 1
        name = instance or f"program-{self.made}"
        program = Program(name, frozenset(), "", self.clock.now(), reports, lag=lag, known=known and reports)
        self.fetch(program, identity)
        self.programs[name] = program

    def fetch(self, program: Program, identity: SpiffeId = CHECKOUT) -> None:
        if program.known:
            self.known.add(program.name)
            self.peers.belongs(program.name, Life("here", 1, program.name))
        issued = self.authority.sign(REQUEST, identity, holder=program.name if program.reports else "")
        _, intermediate = x509.load_pem_x509_certificates(issued.chain_pem.encode())
        bundle = x509.load_pem_x509_certificates(issued.bundle_pem.encode())
        program.uses = next(fingerprint(root) for root in bundle if root.subject == intermediate.issuer)
        program.trusts, program.given = frozenset(fingerprint(root) for root in bundle), None
        program.ends = issued.not_after
        self.signed.add(program.uses)
        assert program.uses not in self.retired, "a leaf of a root that was let go"

    def report(self, program: Program) -> None:
        program.take()
        wanted = self.peers.seen(program.name, str(CHECKOUT), kind="run", trusts=program.trusts, uses=program.uses)
        if wanted.renew or program.ends - self.clock.now() < SVID_LIFETIME_MAX / 2:
            self.fetch(program)
        elif wanted.bundle and program.given is None:
            program.given = (program.lag, self.bundle())
            program.take()

    def tick(self) -> None:
        """A second passes for everybody who runs."""
        self.clock.advance(timedelta(seconds=1))
        for program in self.programs.values():
            if program.stopped:
                continue
            if program.reports:
                self.report(program)
            elif program.ends - self.clock.now() < SVID_LIFETIME_MAX / 2:
                self.fetch(program)
        self.rotator.tick()
        dead = self.known - set(self.programs)
        held = {one.holder for one in self.ledger.held(self.clock.now())}
        assert not held & dead, "somebody is waited for whose process has ended"

    def confirm(self) -> None:
        if self.rotator.status().stores:
            self.rotator.confirm("google")

    def finish(self) -> None:
        """With everybody awake again, a rotation ends by itself."""
        for program in self.programs.values():
            program.stopped = False
        for _ in range(200):
            if self.authority.state.phase is Phase.STEADY:
                return
            self.tick()
            self.confirm()
            if self.rotator.status().waits and all(one.until for one in self.rotator.status().waits):
                # Somebody who died, or never reports.
                self.clock.advance(timedelta(minutes=1))
            self.check()
        raise AssertionError(f"it does not end: {self.rotator.status()}")

    def check(self) -> None:
        state = self.authority.state
        bundle = self.bundle()
        now = self.clock.now()
        self.retired |= {one.fingerprint for one in state.let_go}
        assert state == self.kept.state
        assert len(bundle) <= ANCHORS_MAX - 1
        assert not bundle & self.retired, "a root that was let go is trusted again"
        live = [one for one in self.programs.values() if one.ends > now]
        for one in live:
            assert state.signer.fingerprint in one.trusts, f"{one.name} does not trust who signs in {state.phase}"
            assert one.uses in bundle, f"{one.name} uses a root that is not trusted any more in {state.phase}"
            for other in live:
                assert other.uses in one.trusts, f"{one.name} does not trust {other.name} in {state.phase}"
        named = {name for one in state.generations for name in (one.root_key, one.intermediate_key)}
        assert named <= set(self.kept.names())
        assert len({common_name(one.intermediate) for one in state.generations} | {x.issuer for x in state.let_go}) == (
            len(state.generations) + len(state.let_go)
        )
