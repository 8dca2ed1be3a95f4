"""The processes of one run: the backend, three gateways that differ in one thing each, a sidecar before each of them.

Rules: configurations, certificates and the doors that hand them out are the product's own; every Envoy has one worker.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.gateway import envoys
from bench.gateway.measure import Way
from bench.gateway.processes import Processes
from spangate.adapters.clock import SystemClock
from spangate.adapters.keys import SystemKeys
from spangate.adapters.sds_door import BUNDLE_SECRET, CERTIFICATE_SECRET, SecretSource, sds_app
from spangate.adapters.svid_client import sign_here
from spangate.adapters.unix_server import UnixServer
from spangate.authority.ca import Authority
from spangate.compiler.client import LISTENER as APPLICATION
from spangate.compiler.client import ClientPlan, client_bootstrap
from spangate.compiler.envoy_parts import Json
from spangate.compiler.gateway import LISTENER, GatewayPlan, gateway_bootstrap
from spangate.dataplane import filter_source
from spangate.model.identity import SpiffeId

TRUST_DOMAIN = "shop.example"
GATEWAY = SpiffeId.workload(TRUST_DOMAIN, "spangate", "gateway")
CHECKOUT = SpiffeId.workload(TRUST_DOMAIN, "shop", "checkout")

PLAIN, LOGGED, CHECKED = "plain Envoy", "+ access log", "+ the check"


@dataclass(frozen=True)
class Rig:
    """`ways` in the order of their cost; `backend_admin` is the backend's admin socket."""

    ways: list[Way]
    backend_admin: Path

    def way(self, name: str) -> Way:
        """The way of that name."""
        return next(way for way in self.ways if way.name == name)


@contextmanager
def rig(folder: Path, intent: Path) -> Iterator[Rig]:
    """Start everything, with the policy of `intent`; everything has ended when the context ends."""
    with ExitStack() as stack:
        doors = _doors(stack, folder)
        processes = Processes(stack, folder)
        admin = folder / "backend.admin"
        _, backend = processes.envoy("backend", envoys.backend(str(admin)), admin, envoys.BACKEND_LISTENER)
        checkpoint = folder / "checkpoint.sock"
        command = [sys.executable, "-m", "spangate.app.checkpoint_process", "--intent", str(intent)]
        command += ["--socket", str(checkpoint), "--decisions", str(folder / "decisions.jsonl")]
        processes.start("checkpoint", command, lambda: _listens(checkpoint))
        ways = [Way("direct", backend, None)]
        for name, config in _gateways(folder, backend, doors[GATEWAY], checkpoint).items():
            ways.append(_way(processes, name, config, f"way{len(ways)}", doors[CHECKOUT]))
        yield Rig(ways, admin)


def _way(processes: Processes, name: str, gateway: Json, label: str, sds: Path) -> Way:
    """A gateway and a sidecar before it."""
    admin, sidecar_admin = processes.folder / f"{label}.admin", processes.folder / f"{label}-sidecar.admin"
    pid, port = processes.envoy(label, envoys.with_admin(gateway, str(admin)), admin, LISTENER)
    plan = ClientPlan(
        gateway=("127.0.0.1", port),
        gateway_identity=str(GATEWAY),
        host="127.0.0.1",
        port=0,
        admin_socket=str(sidecar_admin),
        sds_socket=str(sds),
        certificate_secret=CERTIFICATE_SECRET,
        bundle_secret=BUNDLE_SECRET,
    )
    _, sidecar_port = processes.envoy(f"{label}-sidecar", client_bootstrap(plan), sidecar_admin, APPLICATION)
    return Way(name, sidecar_port, pid)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _doors(stack: ExitStack, folder: Path) -> dict[SpiffeId, Path]:
    """An SDS door for each identity, with a certificate that outlives the run."""
    authority = Authority.create(TRUST_DOMAIN, SystemClock(), SystemKeys())
    doors = {}
    for number, identity in enumerate((GATEWAY, CHECKOUT)):
        doors[identity] = folder / f"sds{number}.sock"
        source = SecretSource(sign_here(authority, SystemKeys(), identity).secrets)
        stack.enter_context(UnixServer(sds_app(source), doors[identity], name="sds"))
    return doors


def _gateways(folder: Path, backend: int, sds: Path, checkpoint: Path) -> dict[str, Json]:
    """The product's configuration, and what remains of it as parts are taken away."""
    filter_file = folder / "spangate.lua"
    filter_file.write_text(filter_source(), encoding="utf-8")
    plan = GatewayPlan(
        trust_domain=TRUST_DOMAIN,
        host="127.0.0.1",
        port=0,
        spanner=("127.0.0.1", backend),
        filter_file=str(filter_file),
        access_log=str(folder / "checked.jsonl"),
        admin_socket=str(folder / "unused.admin"),
        sds_socket=str(sds),
        checkpoint_socket=str(checkpoint),
        certificate_secret=CERTIFICATE_SECRET,
        bundle_secret=BUNDLE_SECRET,
    )
    product = gateway_bootstrap(plan)
    logged = envoys.without_filters(gateway_bootstrap(replace(plan, access_log=str(folder / "logged.jsonl"))))
    return {PLAIN: envoys.without_access_log(logged), LOGGED: logged, CHECKED: product}
