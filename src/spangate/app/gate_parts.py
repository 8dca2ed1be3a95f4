"""The gate itself for `spangate up`: checkpoint, the gateway's certificate, and the gateway.

Rules: each listens where it did when it is started again: the checkpoint's socket is opened here once and inherited,
the gateway's port is held here.
Not here: the order of the start (up.py), the configuration (compiler/gateway.py).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from spangate.adapters.audit_files import AuditPaths
from spangate.adapters.clock import SystemClock
from spangate.adapters.envoy import EnvoyChild
from spangate.adapters.gateway_usage import leaving_count
from spangate.adapters.holdings import Holding
from spangate.adapters.issuers_file import FILE as ISSUERS_FILE
from spangate.adapters.keys import SystemKeys
from spangate.adapters.own_child import OwnChild
from spangate.adapters.peer_client import Peer, gone, report
from spangate.adapters.peer_reports import Answer, Reporter
from spangate.adapters.ports import LOOPBACK, reserved_port
from spangate.adapters.renewer import Renewer
from spangate.adapters.sds_door import BUNDLE_SECRET, CERTIFICATE_SECRET, Secrets, SecretSource, Taken, sds_app
from spangate.adapters.seal_keys import FILE
from spangate.adapters.state import StateDirectory
from spangate.adapters.svid_client import SvidClient
from spangate.adapters.unix_server import UnixServer
from spangate.app.authority_part import AuthorityPlan
from spangate.app.door_part import DoorPlan
from spangate.app.gateway_trust import GatewayTrust, gateway_secrets
from spangate.authority.peers import GATEWAY_INSTANCE
from spangate.compiler.gateway import GatewayPlan, gateway_bootstrap
from spangate.dataplane import filter_source
from spangate.errors import SpangateError
from spangate.model.database import DatabasePath
from spangate.model.identity import SpiffeId

_ADMIN_SOCKET = "gateway-admin.sock"


@dataclass(frozen=True, slots=True)
class CertificateDoor:
    """Where an Envoy gets its certificate, and what knows that Envoy from every other process."""

    socket: Path
    own: OwnChild


def plan_checkpoint(
    stack: ExitStack,
    intent: Path,
    shared_state: DatabasePath | None,
    runtime: Path,
    audit: AuditPaths,
    state: StateDirectory,
    live_at: str,
    *,
    broker: bool,
) -> DoorPlan:
    """`live_at`: the Spanner that is asked for live schemas, or nothing. `broker`: what is allowed wants a token."""
    arguments = ["--intent", str(intent.resolve()), "--decisions", str(audit.decisions), "--spanner", live_at]
    arguments += ["--issuers", str(runtime / ISSUERS_FILE)]
    if shared_state is None:
        arguments += ["--seals", str(state.path / FILE)]
    else:
        arguments += ["--shared-seals", str(shared_state)]
    if broker:
        arguments.append("--broker")
    return DoorPlan.open(stack, "checkpoint", runtime / "checkpoint.sock", arguments, state.fresh_log("checkpoint"))


def gateway_certificate(
    stack: ExitStack,
    authority: AuthorityPlan,
    identity: SpiffeId,
    trust: GatewayTrust,
    roots_file: Path,
    notice: Callable[[str], None],
) -> CertificateDoor:
    """Where the gateway gets its certificate, which is renewed meanwhile, and its roots."""
    client = SvidClient(authority.own_door, SystemKeys())
    source = SecretSource()
    peer = Peer(GATEWAY_INSTANCE, identity, "gateway")
    if trust.svid is None:
        renewer = Renewer(lambda: client.fetch(identity, peer.instance), source, clock=SystemClock(), problem=notice)
        renewer.start()
        stack.callback(renewer.stop)
        renew = renewer.renew_now
    else:
        renew = _roots_alone(client, peer, SvidClient(authority.door, SystemKeys()), source)
    secrets = gateway_secrets(
        trust, source, authority.trust_domain, roots_file, authority.runtime, stack, problem=notice
    )
    taken = Taken()
    own = OwnChild("gateway's certificate door", notice)
    door = UnixServer(
        sds_app(secrets, taken), authority.runtime / "sds.sock", name="certificate door", admits=own.admits
    )
    stack.enter_context(door)

    def tell(held: Holding) -> Answer:
        try:
            met: int | None = leaving_count(authority.runtime / _ADMIN_SOCKET)
        except SpangateError:
            # It does not listen yet, or just now; then a rotation waits until it tells.
            met = None
        return report(client, peer, held, met)

    reporter = Reporter(source, taken, tell, renew, problem=notice)
    reporter.start()
    stack.callback(reporter.stop)
    return CertificateDoor(door.path, own)


def _roots_alone(own_door: SvidClient, peer: Peer, door: SvidClient, source: SecretSource) -> Callable[[], None]:
    """The gateway shows a mesh's certificate, and needs the authority's roots and no certificate: one that nobody uses
    would hold a rotation up until it has ended. What to do when another one is wanted: nothing.
    """
    # Of an earlier `up`, which has ended, and its keys with it.
    gone(own_door, peer)
    source.replace(Secrets(chain_pem="", key_pem="", bundle_pem=door.bundle()))
    return lambda: None


def start_gateway(
    stack: ExitStack,
    *,
    trust_domain: str,
    port: int,
    workers: int,
    spanner: str,
    runtime: Path,
    audit: AuditPaths,
    log: Path,
    certificate: CertificateDoor,
    checkpoint_socket: Path,
    broker_socket: Path | None,
    spanner_ca: Path | None,
) -> EnvoyChild:
    """It loads when this returns. Raises TryAgain if the port is taken."""
    host, _, spanner_port = spanner.rpartition(":")
    admin_socket = runtime / _ADMIN_SOCKET
    plan = GatewayPlan(
        trust_domain=trust_domain,
        host=LOOPBACK,
        port=stack.enter_context(reserved_port(port, "gateway")),
        spanner=(host, int(spanner_port)),
        filter_file=str(filter_file(runtime)),
        access_log=str(audit.gateway),
        admin_socket=str(admin_socket),
        sds_socket=str(certificate.socket),
        checkpoint_socket=str(checkpoint_socket),
        certificate_secret=CERTIFICATE_SECRET,
        bundle_secret=BUNDLE_SECRET,
        broker_socket="" if broker_socket is None else str(broker_socket),
        spanner_ca="" if spanner_ca is None else str(spanner_ca),
    )
    return EnvoyChild("gateway", gateway_bootstrap(plan), runtime, admin_socket, log, workers, certificate.own)


def filter_file(folder: Path) -> Path:
    """The Lua filter, written into `folder` for Envoy to read."""
    path = folder / "spangate.lua"
    path.write_text(filter_source(), encoding="utf-8")
    return path
