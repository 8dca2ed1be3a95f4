"""`spangate up`: Spanner, authority, checkpoint and gateway, started in order and ended in the reverse one.

Rules: every part is registered for its end before the next one starts; whatever ends this program ends all of them.
A part that dies is told at once, and the rest is torn down: half a gate is no gate.
Not here: rendering (cli/), the parts (adapters/).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from spangate.adapters.audit_files import AuditPaths, Collector
from spangate.adapters.authority_store import FILE as AUTHORITY_FILE
from spangate.adapters.authority_store import AuthorityFile
from spangate.adapters.clock import SystemClock
from spangate.adapters.emulator import (
    EmulatorFound,
    EmulatorKind,
    emulator_command,
    emulator_stop_command,
    find_emulator,
    free_port,
)
from spangate.adapters.envoy import EnvoyChild
from spangate.adapters.gateway_roots import FILE as ROOTS_FILE
from spangate.adapters.intent_files import load_policy, read_intent
from spangate.adapters.key_keepers import MemoryKeys
from spangate.adapters.key_places import open_keeper
from spangate.adapters.keys import SystemKeys
from spangate.adapters.live_schema import LiveSchemas
from spangate.adapters.oidc_door import LoopbackServer, loopback_listener, oidc_app
from spangate.adapters.periodic import Periodic
from spangate.adapters.process import Child
from spangate.adapters.renewer import Renewer
from spangate.adapters.sds_door import BUNDLE_SECRET, CERTIFICATE_SECRET, SecretSource, sds_app
from spangate.adapters.seal_keys import FILE
from spangate.adapters.spanner import create_database, create_empty_database, wait_until_ready
from spangate.adapters.state import Running, StateDirectory, runtime_directory
from spangate.adapters.svid_client import sign_here
from spangate.adapters.svid_door import svid_app
from spangate.adapters.unix_server import UnixServer
from spangate.adapters.zetasql_engine import precompile
from spangate.app.gateway_trust import GatewayTrust, gateway_secrets, read_trust
from spangate.authority.ca import Authority
from spangate.authority.jwt_keys import TEND, KeptJwtKeys
from spangate.authority.jwt_svid import IssuedJwt, JwtAuthority
from spangate.authority.keeper import KeyKeeper
from spangate.compiler.gateway import LISTENER, GatewayPlan, gateway_bootstrap
from spangate.dataplane import filter_source
from spangate.errors import PeersFault
from spangate.intent.tree import Intent
from spangate.model.database import DatabasePath
from spangate.model.identity import SpiffeId
from spangate.model.policy import LIVE, Policy

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.1
CHECKPOINT_START_SECONDS_MAX = 30.0
# One worker a core up to this many: a development gateway needs no more.
WORKERS_MAX = 2


@dataclass(frozen=True, slots=True)
class UpOptions:
    """`port` 0 lets the kernel choose. `env` is the environment in which Spanner is looked for."""

    intent: Path
    port: int = 0
    workers: int = WORKERS_MAX
    # A database in which several gateways keep the sealing keys that they share.
    shared_state: DatabasePath | None = None
    # Where the authority's keys are kept (key_places.open_keeper); None keeps them in memory, and every start makes new
    # ones.
    keys: str | None = None
    # Where their passphrase or PIN stands, if not where key_keepers.find_passphrase looks.
    passphrase_file: Path | None = None
    # Where the authority's public keys are served, and the URL under which others find them; that door's, if empty.
    oidc_port: int = 0
    issuer: str = ""
    # A mesh's SVID for the gateway (adapters/svid_files.py); None takes the authority's.
    svid_directory: Path | None = None


@dataclass(frozen=True, slots=True)
class Installed:
    """What runs where, once everything does."""

    policy: Policy
    running: Running
    # Where the authority's keys are.
    authority: str
    emulator: str
    state: Path
    children: tuple[Child, ...]
    seconds: float


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP came. Not an Exception: nothing on the way may take it for an error."""


def up(
    options: UpOptions,
    *,
    progress: Callable[[str], None],
    started: Callable[[Installed], None],
    notice: Callable[[str], None],
) -> None:
    """Run until a signal comes; then return. Raises SpangateError when a part cannot start or dies.

    `progress` gets what is being done, `started` once what runs, `notice` what happens later.
    """
    began = time.monotonic()
    with _stoppable() as stop:

        def told(text: str) -> None:
            stop.check()
            progress(text)

        try:
            with ExitStack() as stack:
                try:
                    installed, relay = _start(stack, options, told, notice, began, stop)
                    started(installed)
                    _watch(installed, relay, notice, stop)
                finally:
                    # Nothing may interrupt the tear-down.
                    _ignore_signals()
        except Stopped:
            pass


def _start(
    stack: ExitStack,
    options: UpOptions,
    progress: Callable[[str], None],
    notice: Callable[[str], None],
    began: float,
    stop: _Stop,
) -> tuple[Installed, _Relay]:
    progress("checking the intent")
    intent = read_intent(options.intent)
    lives = any(database.live for database in intent.databases)
    # Before anything is started, unless a schema has to be asked of what is started.
    policy = None if lives else load_policy(options.intent)
    trust = read_trust(options.intent, options.svid_directory, problem=notice)
    keeper = _keeper(options)
    state = StateDirectory(options.intent)
    state.make()
    stack.enter_context(state.locked())
    precompile(progress)
    sockets = stack.enter_context(runtime_directory())

    emulator, spanner, emulator_child = _spanner(stack, state, progress, stop)
    if policy is None:
        if emulator_child is not None:
            _make_live_databases(intent, spanner, progress)
        progress("asking for live schemas")
        policy = load_policy(options.intent, LiveSchemas(spanner).schema)
    for database in policy.databases.values():
        if database.schema_file != LIVE:
            progress(f"creating database {database.path.instance}/{database.path.database}")
            create_database(spanner, database.path, database.schema.statements, database.schema.dialect)

    progress("starting the authority")
    own_id = SpiffeId(policy.trust_domain, ("spangate", "gateway"))
    kept = None if keeper is None else AuthorityFile(state.path / AUTHORITY_FILE, SystemClock().now)
    authority = _authority(policy, keeper, kept)
    tokens = _tokens(stack, options, authority, keeper, kept, notice)
    roots_file = state.path / ROOTS_FILE
    authority_socket = _authority_doors(stack, authority, tokens, own_id, trust, sockets, roots_file, notice)

    progress("starting the checkpoint")
    audit = AuditPaths.below(state.path)
    checkpoint = _checkpoint(stack, options, sockets, audit, state, spanner, stop)
    relay = _Relay(checkpoint)

    progress("starting the gateway")
    # Registered before the gateway, so that it ends after it and takes in the last lines.
    audit.gateway.touch(mode=0o600)
    collector = Collector(audit, problem=lambda text: notice(f"audit: {text}"))
    collector.start()
    stack.callback(collector.stop)
    gateway, port = _gateway(stack, options, policy, spanner, sockets, audit, state)

    running = Running(
        pid=os.getpid(),
        intent=str(options.intent.resolve()),
        trust_domain=policy.trust_domain,
        gateway=f"{LOOPBACK}:{port}",
        gateway_identity=str(trust.identity(own_id)),
        gateway_roots=str(roots_file),
        authority_socket=str(authority_socket),
        issuer=tokens.issuer,
        spanner=spanner,
        emulator=True,
        project=_project(policy),
    )
    state.announce(running)
    stack.callback(state.withdraw)
    children = tuple(child for child in (emulator_child, checkpoint, gateway) if child is not None)
    where = "keys in memory" if options.keys is None else f"keys in {options.keys}"
    installed = Installed(policy, running, where, str(emulator), state.path, children, time.monotonic() - began)
    return installed, relay


def _spanner(
    stack: ExitStack, state: StateDirectory, progress: Callable[[str], None], stop: _Stop
) -> tuple[EmulatorFound, str, Child | None]:
    emulator = find_emulator(os.environ)
    if emulator.kind is EmulatorKind.RUNNING:
        return emulator, emulator.address, None
    progress(f"starting Spanner: {emulator}")
    port = free_port()
    child = Child("Spanner emulator", emulator_command(emulator, port), state.logs / "emulator.log")
    if (remove := emulator_stop_command(emulator, port)) is not None:
        stack.callback(lambda: Child("container removal", remove, state.logs / "emulator.log").stop())
    stack.callback(child.stop)
    address = f"{LOOPBACK}:{port}"

    def check() -> None:
        stop.check()
        child.check()

    wait_until_ready(address, emulator.start_seconds_max, check_alive=check)
    return emulator, address, child


def _make_live_databases(intent: Intent, spanner: str, progress: Callable[[str], None]) -> None:
    """In an emulator that has just been started nothing is there yet: databases to be filled through the gateway."""
    for entry in intent.databases:
        if entry.live:
            path = DatabasePath(entry.project.text, entry.instance.text, entry.database.text)
            progress(f"creating the empty database {path.instance}/{path.database}")
            create_empty_database(spanner, path, entry.dialect)


def _keeper(options: UpOptions) -> KeyKeeper | None:
    """Where the authority's keys are kept, if they are."""
    if options.keys is None:
        return None
    return open_keeper(options.keys, os.environ, options.passphrase_file)


def _authority(policy: Policy, keeper: KeyKeeper | None, kept: AuthorityFile | None) -> Authority:
    """A new one in memory, or the one that is kept."""
    clock, keys = SystemClock(), SystemKeys()
    if keeper is None or kept is None:
        return Authority.create(policy.trust_domain, clock, keys)
    return Authority.open(policy.trust_domain, clock, keys, keeper, kept, record=kept.record)


def _tokens(
    stack: ExitStack,
    options: UpOptions,
    authority: Authority,
    keeper: KeyKeeper | None,
    kept: AuthorityFile | None,
    notice: Callable[[str], None],
) -> JwtAuthority:
    """Who signs tokens, its keys tended, its public keys served."""
    listener = loopback_listener(options.oidc_port)
    stack.callback(listener.close)
    serials = SystemKeys()
    tokens = JwtAuthority(
        trust_domain=authority.trust_domain,
        issuer=options.issuer or f"http://{LOOPBACK}:{listener.getsockname()[1]}",
        clock=SystemClock(),
        serials=serials,
        store=KeptJwtKeys(keeper or MemoryKeys(), lambda: f"{serials.new_serial() % 2**64:016x}"),
        record=_unrecorded if kept is None else kept.record_token,
    )
    tender = Periodic(tokens.tend, TEND, name="token-keys", problem=lambda text: notice(f"the keys of tokens: {text}"))
    tender.start()
    stack.callback(tender.stop)
    door = LoopbackServer(oidc_app(tokens, authority.roots), listener, name="public keys")
    door.start()
    stack.callback(door.stop)
    return tokens


def _unrecorded(_: IssuedJwt) -> None:
    """An authority that ends with `up` leaves no record."""


def _authority_doors(
    stack: ExitStack,
    authority: Authority,
    tokens: JwtAuthority,
    own_id: SpiffeId,
    trust: GatewayTrust,
    sockets: Path,
    roots_file: Path,
    notice: Callable[[str], None],
) -> Path:
    """The authority's door, and the gateway's certificate behind a door of its own."""
    clock, keys = SystemClock(), SystemKeys()
    # Also who the gateway is in a mesh: no workload is given that name here.
    app = svid_app(authority, tokens, reserved=[own_id, trust.identity(own_id)])
    door = UnixServer(app, sockets / "authority.sock", name="authority")
    door.start()
    stack.callback(door.stop)
    source = SecretSource()
    renewer = Renewer(lambda: sign_here(authority, keys, own_id, ("localhost",)), source, clock=clock, problem=notice)
    renewer.start()
    stack.callback(renewer.stop)
    secrets = gateway_secrets(trust, source, authority.trust_domain, roots_file, stack, problem=notice)
    sds = UnixServer(sds_app(secrets), sockets / "sds.sock", name="certificate door")
    sds.start()
    stack.callback(sds.stop)
    return door.path


def _checkpoint(
    stack: ExitStack,
    options: UpOptions,
    sockets: Path,
    audit: AuditPaths,
    state: StateDirectory,
    spanner: str,
    stop: _Stop,
) -> Child:
    socket = sockets / "checkpoint.sock"
    argv = [sys.executable, "-m", "spangate.app.checkpoint_process", "--intent", str(options.intent.resolve())]
    argv += ["--socket", str(socket), "--decisions", str(audit.decisions), "--spanner", spanner]
    if options.shared_state is None:
        argv += ["--seals", str(state.path / FILE)]
    else:
        argv += ["--shared-seals", str(options.shared_state)]
    log = state.logs / "checkpoint.log"
    # What an earlier run said is not news.
    log.unlink(missing_ok=True)
    child = Child("checkpoint", argv, log)
    stack.callback(child.stop)
    deadline = time.monotonic() + CHECKPOINT_START_SECONDS_MAX
    while not socket.exists():
        stop.check()
        child.check()
        if time.monotonic() > deadline:
            raise PeersFault(f"the checkpoint did not start in {CHECKPOINT_START_SECONDS_MAX:.0f} s:\n{child.tail()}")
        time.sleep(POLL_SECONDS / 5)
    return child


def _gateway(
    stack: ExitStack,
    options: UpOptions,
    policy: Policy,
    spanner: str,
    sockets: Path,
    audit: AuditPaths,
    state: StateDirectory,
) -> tuple[Child, int]:
    host, _, port = spanner.rpartition(":")
    plan = GatewayPlan(
        trust_domain=policy.trust_domain,
        host=LOOPBACK,
        port=options.port,
        spanner=(host, int(port)),
        filter_file=str(filter_file(sockets)),
        access_log=str(audit.gateway),
        admin_socket=str(sockets / "gateway-admin.sock"),
        sds_socket=str(sockets / "sds.sock"),
        checkpoint_socket=str(sockets / "checkpoint.sock"),
        certificate_secret=CERTIFICATE_SECRET,
        bundle_secret=BUNDLE_SECRET,
    )
    gateway = EnvoyChild(
        "gateway",
        gateway_bootstrap(plan),
        sockets,
        sockets / "gateway-admin.sock",
        state.logs / "gateway.log",
        options.workers,
    )
    stack.callback(gateway.stop)
    return gateway.child, gateway.wait_until_ready(LISTENER)


def filter_file(folder: Path) -> Path:
    """The Lua filter, written into `folder` for Envoy to read."""
    path = folder / "spangate.lua"
    path.write_text(filter_source(), encoding="utf-8")
    return path


def _project(policy: Policy) -> str:
    """The project of all databases, or nothing if there are several."""
    projects = {database.path.project for database in policy.databases.values()}
    return projects.pop() if len(projects) == 1 else ""


class _Relay:
    """Passes on what the checkpoint prints."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._offset = 0

    def lines(self) -> list[str]:
        """Complete lines since the last time."""
        try:
            with self._child.log.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return []
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        return complete.decode("utf-8", "replace").splitlines()


def _watch(installed: Installed, relay: _Relay, notice: Callable[[str], None], stop: _Stop) -> None:
    while True:
        stop.check()
        for line in relay.lines():
            notice(line)
        for child in installed.children:
            child.check()
        time.sleep(POLL_SECONDS)


class _Stop:
    """Whether a signal asked for the end.

    Its handler raises Stopped at once, wherever the program is; but an exception raised in a callback of C code or in
    a finaliser gets lost, so whatever waits also asks here.
    """

    def __init__(self) -> None:
        self.asked = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        raise Stopped

    def check(self) -> None:
        if self.asked:
            raise Stopped


@contextlib.contextmanager
def _stoppable() -> Iterator[_Stop]:
    """Signals that mean stop become Stopped."""
    stop = _Stop()
    before = {number: signal.signal(number, stop.handle) for number in _STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _ignore_signals() -> None:
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
