"""What a connection to the gateway costs before its first request: the TLS handshake, both sides with certificates.

The gateway's own listener, which resumes nothing (a resumed session is not verified again), and the same one with
resumption left on, to see what that would save. Real Envoy, one worker; the client is OpenSSL through Python. A
handshake ends for the client when the gateway's first bytes are there: only then has it seen the client's certificate.
"""

from __future__ import annotations

import copy
import os
import socket
import ssl
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.parts import envoys
from bench.parts.numbers import lower_quartile, p50_p99_ms, table
from bench.parts.processes import BenchError, Processes, cpu_seconds
from bench.parts.program import Found
from bench.parts.rig import CHECKOUT, GATEWAY, TRUST_DOMAIN, open_doors, product_gateway
from spangate.adapters.clock import SystemClock
from spangate.adapters.keys import SystemKeys
from spangate.adapters.svid_client import sign_here
from spangate.authority.ca import Authority
from spangate.compiler.envoy_parts import Json
from spangate.compiler.gateway import LISTENER

AS_IT_IS, RESUMING = "the gateway", "resumption left on"
SECONDS = 10.0
# HTTP/2's greeting, with no settings (RFC 9113, section 3.4): Envoy says nothing before it.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_NO_RESUMPTION = ("disable_stateless_session_resumption", "disable_stateful_session_resumption")


@dataclass
class Series:
    """Of one kind of handshake, round by round; times of single ones in microseconds."""

    server_us: list[float] = field(default_factory=list)
    client_us: list[float] = field(default_factory=list)
    took_us: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Kind:
    """A listener, and whether the client offers what it has of the connection before."""

    name: str
    listener: str
    offers: bool
    resumed: bool


KINDS = (
    Kind("full", AS_IT_IS, offers=False, resumed=False),
    Kind("a session offered, and declined", AS_IT_IS, offers=True, resumed=False),
    Kind("full, by the listener that would resume", RESUMING, offers=False, resumed=False),
    Kind("resumed", RESUMING, offers=True, resumed=True),
)


def measure(folder: Path, count: int, rounds: int) -> Found:
    """`count` handshakes of each kind in each round. Raises BenchError."""
    with ExitStack() as stack:
        authority = Authority.create(TRUST_DOMAIN, SystemClock(), SystemKeys())
        doors = open_doors(stack, folder, authority)
        product = product_gateway(folder, 1, doors[GATEWAY], folder / "nobody.sock")
        listeners = {AS_IT_IS: product, RESUMING: with_resumption(product)}
        configs = []
        for i, config in enumerate(listeners.values()):
            admin = folder / f"listener{i}.admin"
            configs.append(
                (f"listener{i}", envoys.moved(config, str(admin), str(folder / f"listener{i}.jsonl")), admin)
            )
        started = dict(zip(listeners, Processes(stack, folder).envoys(configs, LISTENER), strict=True))
        context = _client(authority)
        series = {kind.name: Series() for kind in KINDS}
        for turn in range(rounds):
            for i in range(len(KINDS)):
                kind = KINDS[(turn + i) % len(KINDS)]
                pid, port = started[kind.listener]
                _round(context, kind, pid, port, count, series[kind.name])
    return _found(series)


def with_resumption(gateway: Json) -> Json:
    """The gateway's configuration, its listener resuming sessions as Envoy does unless told otherwise."""
    changed = copy.deepcopy(gateway)
    (chain,) = changed["static_resources"]["listeners"][0]["filter_chains"]
    for name in _NO_RESUMPTION:
        if not chain["transport_socket"]["typed_config"].pop(name, False):
            raise BenchError(f"the gateway does not say {name} any more")
    return changed


def _client(authority: Authority) -> ssl.SSLContext:
    """A client with a certificate of `authority`. Its key goes through memory only, though OpenSSL wants a path."""
    secrets = sign_here(authority, SystemKeys(), CHECKOUT).secrets
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The gateway's name is in its URI, which OpenSSL does not look at; the certificate is verified all the same.
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=secrets.bundle_pem)
    descriptor = os.memfd_create("certificate")
    try:
        os.write(descriptor, f"{secrets.chain_pem}{secrets.key_pem}".encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


def _round(context: ssl.SSLContext, kind: Kind, pid: int, port: int, count: int, into: Series) -> None:
    _, session = _handshake(context, port, None)
    server, client = cpu_seconds(pid), time.thread_time()
    for _ in range(count):
        begin = time.perf_counter_ns()
        resumed, following = _handshake(context, port, session if kind.offers else None)
        into.took_us.append((time.perf_counter_ns() - begin) // 1000)
        if resumed != kind.resumed:
            raise BenchError(f"{kind.name}: the session was {'' if resumed else 'not '}resumed")
        session = following or session
    into.client_us.append((time.thread_time() - client) / count * 1e6)
    into.server_us.append((cpu_seconds(pid) - server) / count * 1e6)


def _handshake(
    context: ssl.SSLContext, port: int, session: ssl.SSLSession | None
) -> tuple[bool, ssl.SSLSession | None]:
    """Whether the session was resumed, and the one to offer next."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, session=session) as secure:
            secure.sendall(_PREFACE)
            if not secure.recv(1):
                raise BenchError("the gateway ended the connection")
            return bool(secure.session_reused), secure.session


def _found(series: dict[str, Series]) -> Found:
    rows = []
    values: dict[str, object] = {}
    for kind in KINDS:
        one = series[kind.name]
        p50, p99 = p50_p99_ms(one.took_us)
        server, client = lower_quartile(one.server_us), lower_quartile(one.client_us)
        rows.append((kind.name, f"{server:,.0f} us", f"{client:,.0f} us", f"{p50:.2f} ms", f"{p99:.2f} ms"))
        values[kind.name] = {
            "gateway_cpu_us": round(server, 1), "client_cpu_us": round(client, 1), "p50_ms": p50, "p99_ms": p99
        }  # fmt: skip
    text = table(("a handshake", "gateway CPU", "client CPU", "p50", "p99"), rows)
    ratio = _ratio(series, lambda one: one.server_us)
    text += f"\nresumption would save {1 - ratio:.0%} of the gateway's CPU for a handshake"
    return Found({"handshakes": values, "resumed_cpu_ratio": round(ratio, 2)}, text)


def _ratio(series: dict[str, Series], of: Callable[[Series], list[float]]) -> float:
    """Resumed over full by the same listener: the median of the rounds."""
    full, resumed = of(series[KINDS[2].name]), of(series[KINDS[3].name])
    return statistics.median(b / a for a, b in zip(full, resumed, strict=True))
