"""`spangate run`: a command beside a client-side Envoy that speaks mutual TLS with the identity's SVID.

Rules: the key is made here and stays in memory; the command gets addresses and nothing else. The Envoy is started again
on its port when it ends; the command goes on meanwhile. What is set for the
emulator's sake alone stands in EMULATOR_SETTINGS, and docs/emulator.md says why.
Not here: rendering (cli/), the Envoy configuration (compiler/client.py).
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from spangate.adapters.clock import SystemClock
from spangate.adapters.envoy import EnvoyChild
from spangate.adapters.gateway_roots import RootsReader, WithRoots
from spangate.adapters.holdings import Holding
from spangate.adapters.keys import SystemKeys
from spangate.adapters.own_child import OwnChild
from spangate.adapters.peer_client import Peer, gone, report
from spangate.adapters.peer_reports import Answer, Reporter
from spangate.adapters.ports import LOOPBACK, reserved_port
from spangate.adapters.process import shell_exit_code
from spangate.adapters.renewer import Renewer
from spangate.adapters.sds_door import BUNDLE_SECRET, CERTIFICATE_SECRET, SecretSource, Source, Taken, sds_app
from spangate.adapters.state import Running, StateDirectory, runtime_directory
from spangate.adapters.svid_client import Svid, SvidClient
from spangate.adapters.svid_files import SvidFiles
from spangate.adapters.unix_server import UnixServer
from spangate.adapters.workload_issuers import DoorIssuer
from spangate.adapters.workload_server import OneForUser, WorkloadServer
from spangate.app.gateway_trust import read_svid, watch
from spangate.app.identities import identity_named
from spangate.app.supervisor import POLL_SECONDS, Part
from spangate.authority.workload_api import Issuer
from spangate.compiler.client import LISTENER, ClientPlan, client_bootstrap
from spangate.errors import Broken, PeersFault, SpangateError, TryAgain, YourFault
from spangate.model.identity import SpiffeId

# How late a change of roots or token keys reaches the command; each look asks the authority twice.
LOOK_SECONDS = 5.0
# The client side carries one application's traffic.
WORKERS = 1
# The authority is started again within a second or two; a machine under load gets patience.
AUTHORITY_SECONDS_MAX = 10.0
# Names this program among the authority's peers; never met twice.
INSTANCE_BYTES = 16

# The emulator 1.5.28 has no real multiplexed sessions: a second transaction on one kills the first. These variables
# make Google's Python, Node and Go clients use a session for each transaction. Real Spanner needs none of them.
EMULATOR_SETTINGS: Mapping[str, str] = {
    "GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS": "false",
    "GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS_PARTITIONED_OPS": "false",
    "GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS_FOR_RW": "false",
}
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`identity` is a name of the intent, `namespace/service-account`, or a SPIFFE ID; `port` 0 is chosen.

    With `svid_directory` the identity is a mesh's, from files; `identity`, if given, must then be the same.
    """

    intent: Path
    identity: str
    command: Sequence[str]
    port: int = 0
    svid_directory: Path | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the certificates of an identity come from, and which gateway takes them.

    `roots` are those by which the gateway is verified, if they do not come with the certificate. Who has no `issuer`
    has no Workload API.
    """

    svid: Callable[[], Svid] | SvidFiles
    issuer: Issuer | None
    gateway: str
    gateway_identity: SpiffeId
    roots: RootsReader | None = None
    # Tell the authority what is in use, and that all has ended. Without them it waits until certificates have ended.
    report: Callable[[Holding], Answer] | None = None
    farewell: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Beside:
    """What runs beside the command: where it finds Spanner and the Workload API, and what is to be looked at."""

    spanner: str
    workload_api: Path | None
    look: Callable[[], None]


def run(options: RunOptions, *, notice: Callable[[str], None]) -> int:
    """Run the command; its exit code, 128 + n if signal n ended it. Raises SpangateError."""
    program = program_named(options.command[0])
    running = StateDirectory(options.intent).running()
    state = StateDirectory(options.intent)
    origin = _origin(options, running, state, notice)
    with ExitStack() as stack:
        # After everything below: the key is in the Envoy too.
        stack.callback(origin.farewell)
        log = state.logs / f"client-{os.getpid()}.log"
        stack.callback(lambda: log.unlink(missing_ok=True))
        beside = start_beside(stack, origin, options.port, log, notice)
        env = environment(os.environ, running, beside)
        return run_command([program, *options.command[1:]], env, check=beside.look, notice=notice)


def start_beside(
    stack: ExitStack, origin: Origin, port: int, log: Path | None, notice: Callable[[str], None]
) -> Beside:
    """The Envoy that speaks to the gateway, and the Workload API of the same identity. Raises SpangateError."""
    sockets = stack.enter_context(runtime_directory())
    taken = Taken()
    identity, source = _certificate(stack, origin, taken, notice)
    own = OwnChild("certificate door", notice)
    door = UnixServer(sds_app(source, taken), sockets / "sds.sock", name="certificate door", admits=own.admits)
    stack.enter_context(door)
    host, _, gateway_port = origin.gateway.rpartition(":")
    plan = ClientPlan(
        gateway=(host, int(gateway_port)),
        gateway_identity=str(origin.gateway_identity),
        host=LOOPBACK,
        port=stack.enter_context(reserved_port(port, "client")),
        admin_socket=str(sockets / "admin.sock"),
        sds_socket=str(door.path),
        certificate_secret=CERTIFICATE_SECRET,
        bundle_secret=BUNDLE_SECRET,
    )
    log = log or sockets / "client.log"
    envoy = EnvoyChild("client", client_bootstrap(plan), sockets, Path(plan.admin_socket), log, WORKERS, own)
    stack.callback(envoy.stop)
    address = f"{LOOPBACK}:{envoy.wait_until_ready(LISTENER)}"
    part = Part(envoy.child, envoy.again)
    stack.callback(part.stop)
    workload_api = None if origin.issuer is None else _workload_api(stack, origin.issuer, identity, sockets, notice)
    return Beside(address, workload_api, lambda: part.look(notice))


def _origin(options: RunOptions, running: Running, state: StateDirectory, notice: Callable[[str], None]) -> Origin:
    """The identity's, from the authority or from files. Raises SpangateError."""
    gateway_identity = SpiffeId.parse(running.gateway_identity)
    asked = identity_named(options.identity, options.intent, running.trust_domain) if options.identity else None
    if options.svid_directory is not None:
        svid = read_svid(options.svid_directory, problem=notice)
        if asked not in (None, svid.svid.identity):
            raise YourFault(
                f"`{options.svid_directory}` holds the identity `{svid.svid.identity}`, not `{asked}`",
                help="leave out --as, or name that one",
            )
        return Origin(svid, None, running.gateway, gateway_identity, RootsReader(Path(running.gateway_roots)))
    if asked is None:
        raise Broken("`run` without an identity")
    identity = asked

    def authority() -> SvidClient:
        # `up` may have been started anew since, and its authority listens elsewhere then.
        return SvidClient(Path(state.running().authority_socket), SystemKeys())

    peer = Peer(secrets.token_hex(INSTANCE_BYTES), identity, "run")

    def farewell() -> None:
        # Nobody who is away has to be told; the certificate ends by itself.
        with suppress(SpangateError):
            gone(authority(), peer)

    return Origin(
        lambda: authority().fetch(identity, peer.instance),
        DoorIssuer(authority, identity.trust_domain, SystemClock()),
        running.gateway,
        gateway_identity,
        None if running.gateway_is_own else RootsReader(Path(running.gateway_roots)),
        lambda held: report(authority(), peer, held),
        farewell,
    )


def _certificate(
    stack: ExitStack, origin: Origin, taken: Taken, notice: Callable[[str], None]
) -> tuple[SpiffeId, Source]:
    """Who the command is, and what its Envoy is given. `taken` will know what that has taken into use."""
    found: Source
    looks: list[Callable[[], None]] = []
    if isinstance(origin.svid, SvidFiles):
        identity, found = origin.svid.svid.identity, origin.svid
        looks.append(origin.svid.look)
    else:
        found = source = SecretSource()
        renewer = Renewer(origin.svid, source, clock=SystemClock(), problem=notice)
        identity = _patiently(renewer.start).identity
        stack.callback(renewer.stop)
        if origin.report is not None:
            reporter = Reporter(source, taken, origin.report, renewer.renew_now, problem=notice)
            reporter.start()
            stack.callback(reporter.stop)
    if (roots := origin.roots) is not None:
        found = WithRoots(found, lambda: roots.pem)
        looks.append(roots.look)
    if looks:
        watch(looks, stack, problem=notice)
    return identity, found


def _workload_api(
    stack: ExitStack, issuer: Issuer, identity: SpiffeId, sockets: Path, notice: Callable[[str], None]
) -> Path:
    """Where the command finds the Workload API of its identity."""
    server = WorkloadServer(
        issuer,
        OneForUser(identity, os.getuid()),
        sockets / "workload.sock",
        clock=SystemClock(),
        problem=notice,
        look_seconds=LOOK_SECONDS,
        takes_all_along=True,
    )
    stack.enter_context(server)
    return server.path


def _patiently(start: Callable[[], Svid]) -> Svid:
    """`start`, tried again for a while: the authority may be on its way back from a restart. Raises what it raises."""
    deadline = time.monotonic() + AUTHORITY_SECONDS_MAX
    while True:
        try:
            return start()
        except TryAgain:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def program_named(word: str) -> str:
    """The path of the command `word`. Raises YourFault."""
    program = shutil.which(word)
    if program is None:
        raise YourFault(f"there is no command `{word}`")
    return program


def environment(base: Mapping[str, str], running: Running, beside: Beside) -> dict[str, str]:
    """The command's environment: `base`, and what unmodified clients of Spanner and SPIFFE need to reach theirs."""
    found = reaching(base, beside)
    if running.project:
        found["GOOGLE_CLOUD_PROJECT"] = running.project
    if running.emulator:
        for name, value in EMULATOR_SETTINGS.items():
            found.setdefault(name, value)
    return found


def reaching(base: Mapping[str, str], beside: Beside) -> dict[str, str]:
    """`base`, and where the command finds what runs beside it."""
    found = dict(base)
    found["SPANNER_EMULATOR_HOST"] = beside.spanner
    # Whatever stood there would give the command another identity.
    found.pop("SPIFFE_ENDPOINT_SOCKET", None)
    if beside.workload_api is not None:
        found["SPIFFE_ENDPOINT_SOCKET"] = f"unix://{beside.workload_api}"
    # Credentials of whoever starts the command are none of the command's.
    found.pop("GOOGLE_APPLICATION_CREDENTIALS", None)
    return past_proxies(found)


def past_proxies(env: Mapping[str, str]) -> dict[str, str]:
    """`env`, in which loopback is reached without the proxy that it may name."""
    found = dict(env)
    if any(found.get(name) for name in _PROXY_VARIABLES):
        for name in ("no_proxy", "NO_PROXY"):
            found[name] = ",".join(filter(None, [found.get(name, ""), LOOPBACK, "localhost"]))
    return found


def run_command(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    notice: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
) -> int:
    """Run it to its end; its exit code, as a shell would say it. What `check` raises is told once. Raises YourFault."""
    with _passed_on() as pass_to:
        try:
            process = subprocess.Popen(argv, env=env)  # noqa: S603 - the user's own command
        except OSError as error:
            raise YourFault(f"cannot run `{argv[0]}`: {error.strerror}") from error
        pass_to.append(process)
        given_up = False
        while True:
            try:
                return shell_exit_code(process.wait(POLL_SECONDS))
            except subprocess.TimeoutExpired:
                pass
            if not given_up:
                try:
                    check()
                except PeersFault as error:
                    # The command goes on: it may have other things to do, and it is told by its own calls.
                    notice(error.message)
                    given_up = True


@contextmanager
def _passed_on() -> Iterator[list[subprocess.Popen[bytes]]]:
    """SIGTERM and SIGHUP go to the command; Ctrl-C reaches it by itself, through the terminal."""
    processes: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        for process in processes:
            process.send_signal(number)

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda _number, _frame: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, pass_on),
        signal.SIGHUP: signal.signal(signal.SIGHUP, pass_on),
    }
    try:
        yield processes
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
