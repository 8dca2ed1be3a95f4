"""What the authority's process is made of: the authority, who signs tokens, their keys and state, and its doors.

Rules: everything that has to survive is in the key files and the state file before anybody is answered, so that a
process that is killed at any moment comes back as the same authority. A door is a function of `AuthorityParts` that
starts serving and registers its end in `stack`; DOORS is all of them.
Not here: the process (authority_process.py), what the doors answer (adapters/).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from starlette.requests import Request

from spangate.adapters.authority_store import FILE, AuthorityFile
from spangate.adapters.clock import SystemClock
from spangate.adapters.gateway_usage import GatewayUsage
from spangate.adapters.issuers_file import FILE as ISSUERS_FILE
from spangate.adapters.issuers_file import Issuers, IssuersFile
from spangate.adapters.key_places import open_keeper
from spangate.adapters.keys import SystemKeys
from spangate.adapters.oidc_door import LoopbackServer, oidc_app
from spangate.adapters.periodic import Periodic
from spangate.adapters.process_life import ended, life_of
from spangate.adapters.rotation_door import peer_routes, rotation_routes
from spangate.adapters.svid_door import own_app, svid_app
from spangate.adapters.trust_files import TrustFiles
from spangate.adapters.unix_server import UnixServer, pid_of
from spangate.app.workload_doors import open_pod_door, open_workload_api
from spangate.authority.bundle_readers import BundleReaders
from spangate.authority.ca import Authority
from spangate.authority.federation import Roots, known_roots
from spangate.authority.generations import AuthorityState, leaving_issuers, refused_issuers
from spangate.authority.jwt_keys import TEND, KeptJwtKeys
from spangate.authority.jwt_svid import REFRESH_HINT, JwtAuthority
from spangate.authority.keeper import KeyKeeper
from spangate.authority.ledger import Life
from spangate.authority.peers import GATEWAY_INSTANCE, Peers
from spangate.authority.rotator import LOOK, Rotator
from spangate.model.identity import SpiffeId
from spangate.settings import INTERVALS

# In the runtime directory: the operator's door, and the one of Spangate's own processes.
DOOR, OWN_DOOR = "authority.sock", "authority-own.sock"
# The gateway is reached by address; its certificate also has this name, for TLS clients that insist on one.
_GATEWAY_NAMES = ("localhost",)


@dataclass(frozen=True, slots=True)
class Inherited:
    """What the process has been handed: listening sockets, and who started it (the only one let in by the own door)."""

    door: socket.socket
    own_door: socket.socket
    public_keys: socket.socket
    workload: socket.socket
    # Only with settings for a cluster.
    pods: socket.socket | None
    parent: int


@dataclass(frozen=True, slots=True)
class AuthorityParts:
    """What a door may need. `runtime` is the directory for sockets, 0700; `say` tells people something."""

    authority: Authority
    tokens: JwtAuthority
    keeper: KeyKeeper
    store: AuthorityFile
    clock: SystemClock
    runtime: Path
    intent: Path
    kubernetes: Path | None
    inherited: Inherited
    say: Callable[[str], None]
    stack: ExitStack
    # Who has been given which certificate, as far as it is reported.
    peers: Peers
    rotator: Rotator
    usage: GatewayUsage
    readers: BundleReaders
    # The roots of the intent's trust domains; a file that is no good when this starts has none yet.
    trust: TrustFiles
    # Who Spangate is in a mesh.
    in_mesh: tuple[SpiffeId, ...] = ()

    @property
    def roots(self) -> Roots:
        """What workloads verify others by."""
        return known_roots(self.authority, lambda: self.trust.bundles)

    @property
    def own_identities(self) -> dict[SpiffeId, tuple[str, ...]]:
        """Spangate's own that are asked for from outside, each with the DNS names of its certificate."""
        return {SpiffeId.gateway(self.authority.trust_domain): _GATEWAY_NAMES}

    @property
    def reserved(self) -> set[SpiffeId]:
        """What no workload is given."""
        return {*self.own_identities, SpiffeId.authority(self.authority.trust_domain), *self.in_mesh}


def open_parts(
    *,
    trust_domain: str,
    issuer: str,
    keys: str,
    passphrase: bytes,
    state: Path,
    runtime: Path,
    intent: Path,
    kubernetes: Path | None,
    inherited: Inherited,
    say: Callable[[str], None],
    stack: ExitStack,
    rotate_every: timedelta | None,
    stores: tuple[str, ...],
    in_mesh: tuple[SpiffeId, ...] = (),
) -> AuthorityParts:
    """The authority whose keys are in the place `keys` and whose state is in `state`; a new one if there is none.

    `rotate_every`, `stores`: see Rotator. Raises SpangateError.
    """
    clock, made = SystemClock(), SystemKeys()
    keeper = open_keeper(keys, passphrase)
    store = AuthorityFile(state / FILE, clock.now)
    authority = Authority.open(trust_domain, clock, made, keeper, store, record=store.record, lock=threading.RLock())
    tokens = JwtAuthority(
        trust_domain=trust_domain,
        issuer=issuer,
        clock=clock,
        serials=made,
        store=KeptJwtKeys(keeper, lambda: f"{made.new_serial() % 2**64:016x}"),
        record=store.record_token,
    )
    peers = Peers(lambda: authority.state, store, clock, ended=ended)
    usage = GatewayUsage(clock.now)
    # A reader's own pause, and that of a cache between.
    readers = BundleReaders(lambda: authority.state, clock.now, look_again=2 * REFRESH_HINT)
    rotator = Rotator(
        authority,
        peers,
        store,
        clock,
        every=rotate_every,
        required=[GATEWAY_INSTANCE],
        stores=stores,
        usage=usage.usage,
        readers_until=readers.until,
        moved=lambda state: say(_sentence(state)),
    )
    return AuthorityParts(
        authority=authority,
        tokens=tokens,
        keeper=keeper,
        store=store,
        clock=clock,
        runtime=runtime,
        intent=intent,
        kubernetes=kubernetes,
        inherited=inherited,
        say=say,
        stack=stack,
        peers=peers,
        rotator=rotator,
        usage=usage,
        readers=readers,
        # `up` says what becomes of a file later: its gateway looks at the same.
        trust=TrustFiles(intent, problem=lambda _: None, missing=lambda text: say(f"{text}; workloads do not get it")),
        in_mesh=in_mesh,
    )


def _sentence(state: AuthorityState) -> str:
    signer = state.signer
    roots = f"{len(state.generations)} roots are trusted" if len(state.generations) > 1 else "one root is trusted"
    return f"rotation: {state.phase.value}; {roots}, number {signer.number} signs ({signer.fingerprint[:16]})"


def _token_keys(parts: AuthorityParts) -> None:
    """The keys of tokens are tended."""
    tender = Periodic(
        parts.tokens.tend, TEND, name="token-keys", problem=lambda text: parts.say(f"the keys of tokens: {text}")
    )
    tender.start()
    parts.stack.callback(tender.stop)


def _trust_domains(parts: AuthorityParts) -> None:
    """The files of their roots are followed."""
    pause = timedelta(milliseconds=INTERVALS.watch_ms)
    looks = Periodic(
        parts.trust.look, pause, name="trust-domains", problem=lambda text: parts.say(f"trust domains: {text}")
    )
    looks.start()
    parts.stack.callback(looks.stop)


def _public_keys(parts: AuthorityParts) -> None:
    """For whoever verifies tokens."""
    app = oidc_app(parts.tokens, parts.authority.roots, parts.readers.read)
    door = LoopbackServer(app, parts.inherited.public_keys, name="public keys")
    door.start()
    parts.stack.callback(door.stop)


def _rotation(parts: AuthorityParts) -> None:
    """Whom the gateway is to refuse is written down, and rotations go on."""
    file = IssuersFile(parts.runtime / ISSUERS_FILE)
    told: list[Issuers] = []

    def tick() -> None:
        try:
            parts.rotator.tick()
        finally:
            state = parts.authority.state
            names = Issuers(leaving_issuers(state), refused_issuers(state, parts.clock.now()))
            if told != [names]:
                file.write(names)
                told[:] = [names]

    tick()
    periodic = Periodic(tick, LOOK, name="rotation", problem=lambda text: parts.say(f"rotation: {text}"))
    periodic.start()
    parts.stack.callback(periodic.stop)


def _door(parts: AuthorityParts) -> None:
    """The operator's."""
    own = [str(identity) for identity in parts.own_identities]

    def life(request: Request) -> Life | None:
        return life_of(pid_of(request))

    def belongs(holder: str, request: Request) -> None:
        parts.peers.belongs(holder, life(request))

    more = [*peer_routes(parts.authority, parts.peers, never=own, life=life), *rotation_routes(parts.rotator)]
    app = svid_app(
        parts.authority, parts.tokens, reserved=parts.reserved, belongs=belongs, more=more, roots=parts.roots
    )
    server = UnixServer(app, parts.runtime / DOOR, name="authority", listener=parts.inherited.door)
    parts.stack.enter_context(server)


def _own_door(parts: AuthorityParts) -> None:
    """For Spangate's own identities: only the process that started this one gets in."""
    own = [str(identity) for identity in parts.own_identities]
    reports = peer_routes(parts.authority, parts.peers, only=own, usage=parts.usage)
    app = own_app(parts.authority, parts.own_identities, more=reports)
    server = UnixServer(
        app,
        parts.runtime / OWN_DOOR,
        name="own door",
        listener=parts.inherited.own_door,
        peer_pid=parts.inherited.parent,
    )
    parts.stack.enter_context(server)


def _workload_api(parts: AuthorityParts) -> None:
    """For processes of this machine."""
    open_workload_api(
        parts.stack,
        parts.authority,
        parts.tokens,
        parts.intent,
        parts.inherited.workload,
        parts.say,
        peers=parts.peers,
        kept=parts.store,
        roots=parts.roots,
    )


def _pods(parts: AuthorityParts) -> None:
    """For pods, where there are settings for a cluster."""
    if parts.kubernetes is not None and parts.inherited.pods is not None:
        open_pod_door(
            parts.stack,
            parts.authority,
            parts.tokens,
            parts.store,
            parts.kubernetes,
            parts.inherited.pods,
            parts.say,
            peers=parts.peers,
            roots=parts.roots,
        )


# In the order of their start.
DOORS: tuple[Callable[[AuthorityParts], None], ...] = (
    _token_keys,
    _trust_domains,
    _public_keys,
    _rotation,
    _door,
    _own_door,
    _workload_api,
    _pods,
)
