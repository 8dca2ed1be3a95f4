"""The processes of one run: backend, plain gateway, the measured gateway, and the sidecar before both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.gateway import envoys
from bench.gateway.identities import Authority
from bench.gateway.measure import Way
from bench.gateway.processes import Processes, free_ports

TRUST_DOMAIN = "shop.example"


@dataclass(frozen=True)
class Rig:
    """`ways` in the order of their cost; `backend_admin` is a port."""

    ways: list[Way]
    backend_admin: int


@contextmanager
def rig(folder: Path) -> Iterator[Rig]:
    """Start everything; everything has ended when the context ends."""
    authority = Authority(folder)
    gateway = authority.identity("gateway", f"spiffe://{TRUST_DOMAIN}/ns/spangate/sa/gateway")
    checkout = authority.identity("checkout", f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/checkout")
    backend, backend_admin, plain, plain_admin, to_plain, sidecar_admin = free_ports(6)
    with Processes(folder) as processes:
        processes.envoy("backend", envoys.backend(backend, backend_admin), backend)
        plain_pid = processes.envoy("plain", envoys.plain_gateway(plain, backend, plain_admin, gateway), plain)
        processes.envoy("sidecar", envoys.sidecar({to_plain: plain}, sidecar_admin, checkout), to_plain)
        yield Rig([Way("direct", backend, None), Way("plain Envoy", to_plain, plain_pid)], backend_admin)
