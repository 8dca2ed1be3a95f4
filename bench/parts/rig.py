"""The processes of one run: the backend, gateways that differ in one thing each, a sidecar before each of them.

    load -> sidecar Envoy -> (mutual TLS) -> gateway Envoy -> backend Envoy that answers by itself

Rules: configurations, certificates and the doors that hand them out are the product's own; every Envoy has one worker.
The backend is an Envoy because every real or emulated Spanner is slower than the gateway.
"""

from __future__ import annotations

import http.client
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.parts import envoys
from bench.parts.brokers import open_broker
from bench.parts.processes import Processes
from bench.parts.rounds import Way
from bench.parts.sessions import sealed_session
from spangate.adapters.clock import SystemClock
from spangate.adapters.intent_files import load_policy
from spangate.adapters.keys import SystemKeys
from spangate.adapters.sds_door import BUNDLE_SECRET, CERTIFICATE_SECRET, SecretSource, sds_app
from spangate.adapters.seal_keys import FILE
from spangate.adapters.svid_client import sign_here
from spangate.adapters.unix_server import UnixServer
from spangate.authority.ca import Authority
from spangate.compiler.client import LISTENER as APPLICATION
from spangate.compiler.client import ClientPlan, client_bootstrap
from spangate.compiler.envoy_parts import Json
from spangate.compiler.gateway import BROKER_CLUSTER, LISTENER, GatewayPlan, gateway_bootstrap
from spangate.dataplane import filter_source
from spangate.model.identity import SpiffeId

TRUST_DOMAIN = "shop.example"
GATEWAY = SpiffeId.workload(TRUST_DOMAIN, "spangate", "gateway")
CHECKOUT = SpiffeId.workload(TRUST_DOMAIN, "shop", "checkout")
SHOP = Path(__file__).parents[2] / "examples" / "shop" / "spangate.yaml"
ADMIN_SECONDS = 5.0

PLAIN, LOGGED, EMPTY_LUA, CHECKED = "plain Envoy", "+ access log", "+ empty Lua", "+ the check"
# The last of all, if it is asked for: each request goes on with an access token that the filter remembers.
WITH_TOKEN = "+ a token"
NOTHING = "function envoy_on_request(handle) end"

# From the product's configuration to the one that is measured.
Change = Callable[[Json], Json]
# Starts what answers at the checkpoint's socket.
StartCheckpoint = Callable[[ExitStack, Path], object]

WAYS: Mapping[str, Change] = {
    PLAIN: lambda product: envoys.without_access_log(envoys.without_filters(product)),
    LOGGED: envoys.without_filters,
    EMPTY_LUA: lambda product: envoys.with_filters(product, [envoys.lua(NOTHING)]),
    CHECKED: lambda product: product,
}


@dataclass(frozen=True)
class Rig:
    """`ways` in the order asked for, after the way without a gateway; `backend_admin` is the backend's admin socket.
    `session` is the name of a session of CHECKOUT in the first database of the intent."""

    ways: list[Way]
    backend_admin: Path
    session: str
    decisions: Path
    checkpoint_pid: int | None

    def way(self, name: str) -> Way:
        """The way of that name."""
        return next(way for way in self.ways if way.name == name)

    def answered(self) -> int:
        """How many requests the backend has answered since it was started."""
        return counter(self.backend_admin, "http.backend.downstream_rq_2xx")

    def script_errors(self, way: Way) -> int:
        """How often the way's Lua filter has failed: Envoy then sends the request on, as if nothing were to do."""
        return counter(self._admin(way), "http.gateway.lua.errors")

    def tokens_asked(self, way: Way) -> int:
        """How often the way's filter has asked the broker."""
        return counter(self._admin(way), f"cluster.{BROKER_CLUSTER}.upstream_rq_total")

    def _admin(self, way: Way) -> Path:
        return self.backend_admin.parent / f"way{self.ways.index(way) - 1}.admin"


def counter(admin: Path, name: str) -> int:
    """One of an Envoy's counters (https://www.envoyproxy.io/docs/envoy/latest/operations/admin#get--stats); 0 if it
    has none of that name."""
    connection = http.client.HTTPConnection("localhost", timeout=ADMIN_SECONDS)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(ADMIN_SECONDS)
        connection.sock.connect(str(admin))
        connection.request("GET", f"/stats?filter=%5E{name.replace('.', '%5C.')}%24")
        return int(connection.getresponse().read().rpartition(b":")[2] or 0)
    finally:
        connection.close()


@contextmanager
def rig(
    folder: Path,
    intent: Path,
    gateways: Mapping[str, Change] = WAYS,
    start_checkpoint: StartCheckpoint | None = None,
    *,
    with_token: bool = False,
) -> Iterator[Rig]:
    """Start everything, with the policy of `intent`; everything has ended when the context ends.

    `start_checkpoint` replaces the product's checkpoint process. `with_token` adds the way WITH_TOKEN.
    """
    session = f"{next(iter(load_policy(intent).databases.values())).path}/sessions/bench"
    with ExitStack() as stack:
        # Beside the decisions, where the checkpoint keeps its keys.
        sealed = sealed_session(folder / FILE, CHECKOUT, session)
        doors = open_doors(stack, folder)
        processes = Processes(stack, folder)
        admin = folder / "backend.admin"
        ((_, backend),) = processes.envoys([("backend", envoys.backend(str(admin)), admin)], envoys.BACKEND_LISTENER)
        checkpoint, decisions = folder / "checkpoint.sock", folder / "decisions.jsonl"
        pid = None
        if start_checkpoint is None:
            pid = _checkpoint(processes, intent, checkpoint, decisions)
        else:
            start_checkpoint(stack, checkpoint)
        product = product_gateway(folder, backend, doors[GATEWAY], checkpoint)
        changed = {name: change(product) for name, change in gateways.items()}
        if with_token:
            other, broker = folder / "checkpoint-tokens.sock", folder / "broker.sock"
            # Beside the same keys, so that the session is good here, too.
            _checkpoint(processes, intent, other, folder / "decisions-tokens.jsonl", "--broker")
            open_broker(stack, broker, CHECKOUT)
            changed[WITH_TOKEN] = product_gateway(folder, backend, doors[GATEWAY], other, broker)
        ways = [Way("direct", backend, None), *_ways(processes, changed, doors[CHECKOUT])]
        yield Rig(ways, admin, sealed, decisions, pid)


def _checkpoint(processes: Processes, intent: Path, listening: Path, decisions: Path, *more: str) -> int:
    """The product's own; its process id."""
    command = [sys.executable, "-m", "spangate.app.checkpoint_process", "--intent", str(intent)]
    command += ["--socket", str(listening), "--decisions", str(decisions), *more]
    return processes.start(listening.stem, command, lambda: listens(listening))


def _ways(processes: Processes, gateways: Mapping[str, Json], sds: Path) -> list[Way]:
    """A gateway for each configuration, and a sidecar before it."""
    folder = processes.folder
    configs = []
    for i, gateway in enumerate(gateways.values()):
        admin = folder / f"way{i}.admin"
        configs.append((f"way{i}", envoys.moved(gateway, str(admin), str(folder / f"way{i}.jsonl")), admin))
    started = processes.envoys(configs, LISTENER)
    sidecars = []
    for i, (_, port) in enumerate(started):
        admin = folder / f"sidecar{i}.admin"
        sidecars.append((f"sidecar{i}", client_bootstrap(_client(port, admin, sds)), admin))
    ports = [port for _, port in processes.envoys(sidecars, APPLICATION)]
    return [Way(name, port, pid) for name, (pid, _), port in zip(gateways, started, ports, strict=True)]


def _client(gateway: int, admin: Path, sds: Path) -> ClientPlan:
    return ClientPlan(
        gateway=("127.0.0.1", gateway),
        gateway_identity=str(GATEWAY),
        host="127.0.0.1",
        port=0,
        admin_socket=str(admin),
        sds_socket=str(sds),
        certificate_secret=CERTIFICATE_SECRET,
        bundle_secret=BUNDLE_SECRET,
    )


def listens(path: Path) -> bool:
    """Whether somebody takes connections at the socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def open_doors(stack: ExitStack, folder: Path, authority: Authority | None = None) -> dict[SpiffeId, Path]:
    """An SDS door for each identity, with a certificate of `authority` (a new one, if not given) that outlives the
    run."""
    authority = authority or Authority.create(TRUST_DOMAIN, SystemClock(), SystemKeys())
    doors = {}
    for number, identity in enumerate((GATEWAY, CHECKOUT)):
        doors[identity] = folder / f"sds{number}.sock"
        source = SecretSource(sign_here(authority, SystemKeys(), identity).secrets)
        stack.enter_context(UnixServer(sds_app(source), doors[identity], name="sds"))
    return doors


def product_gateway(folder: Path, backend: int, sds: Path, checkpoint: Path, broker: Path | None = None) -> Json:
    """The product's configuration of the gateway. `backend` is a port of loopback, the others are sockets."""
    filter_file = folder / "spangate.lua"
    filter_file.write_text(filter_source(), encoding="utf-8")
    plan = GatewayPlan(
        trust_domain=TRUST_DOMAIN,
        host="127.0.0.1",
        port=0,
        spanner=("127.0.0.1", backend),
        filter_file=str(filter_file),
        access_log=str(folder / "product.jsonl"),
        admin_socket=str(folder / "unused.admin"),
        sds_socket=str(sds),
        checkpoint_socket=str(checkpoint),
        certificate_secret=CERTIFICATE_SECRET,
        bundle_secret=BUNDLE_SECRET,
        broker_socket="" if broker is None else str(broker),
    )
    return gateway_bootstrap(plan)
