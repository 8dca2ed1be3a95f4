"""What a Google token costs that the broker has already, and what becomes of very many that it has not.

A hit is asked of the broker itself, and over its door as the gateway's filter asks. A storm is every identity asking at
once, twice over: for real, with subject tokens from an authority behind its door, exchanged at the stand-in for Google
in a process of its own; and for as many as one likes by the broker's own rules in simulated time (bench.tokens, which
also times the memory alone). What is looked for: that nobody is asked twice for one token, and that Google never gets
more requests than was promised.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.parts.brokers import FEDERATION, TOKEN, broker_by, open_broker
from bench.parts.numbers import quantile, table
from bench.parts.processes import BenchError, Processes
from bench.parts.program import Found
from bench.parts.rig import CHECKOUT, TRUST_DOMAIN
from bench.tokens import storm
from spangate.adapters.clock import SystemClock
from spangate.adapters.google_http import Google, GoogleEndpoints
from spangate.adapters.key_keepers import MemoryKeys
from spangate.adapters.keys import SystemKeys
from spangate.adapters.svid_client import SvidClient
from spangate.adapters.svid_door import svid_app
from spangate.adapters.token_broker import WAITING_MAX, Exchange, exchange_with
from spangate.adapters.unix_server import UnixServer
from spangate.authority.ca import Authority
from spangate.authority.jwt_keys import KeptJwtKeys
from spangate.authority.jwt_svid import JwtAuthority
from spangate.broker.answers import Grant
from spangate.broker.cache import BURST_MAX, EXCHANGE_RATE_MAX, IN_FLIGHT_MAX
from spangate.model.google import GoogleFederation
from spangate.model.identity import SpiffeId

ISSUER = "https://issuer.example"
# How many ask for each identity at the same moment, as far as the broker lets so many wait.
ASKERS_MAX = 3
SECONDS = 30.0


def measure(folder: Path, hits: int, exchanged: int, identities: int) -> Found:
    """`hits` of one token, `exchanged` identities for real, `identities` in simulated time. Raises BenchError."""
    hit, door = _hits(folder, hits)
    real, simulated = _storm(folder, exchanged), storm(identities)
    rows = [
        ("a token that is held", f"{hit['p50_us']:.1f} us, p99 {hit['p99_us']:.1f} us"),
        ("the same over the door", f"{door['p50_us']:.0f} us, p99 {door['p99_us']:.0f} us"),
    ]
    for name, one in ((f"{exchanged:,} at once, for real", real), (f"{identities:,} at once, simulated", simulated)):
        rows += [
            (name, f"{one['exchanges']:,} exchanges, {one['most_in_a_second']:,} in the busiest second"),
            ("", f"{one['in_flight_max']} at once at most, all served after {one['seconds']:.0f} s"),
        ]
    most = simulated["most_renewals_in_a_second"]
    rows.append(("their renewals", f"{simulated['renewals']:,}, {most:,} in the busiest second"))
    text = table(("tokens", ""), rows)
    text += f"\npromised: at most {EXCHANGE_RATE_MAX} a second after a burst of {BURST_MAX}, {IN_FLIGHT_MAX} at once"
    values = {"hit": hit, "door": door, "storm": real, "simulated": simulated}
    return Found({"tokens": values}, text)


def _hits(folder: Path, count: int) -> tuple[dict[str, float], dict[str, float]]:
    """Of a broker that has the token, and over its door, in microseconds."""
    path = folder / "broker.sock"
    with ExitStack() as stack:
        broker = open_broker(stack, path, CHECKOUT)
        return _timed(lambda: broker.token(CHECKOUT), count), _over_the_door(path, max(1, count // 10))


def _over_the_door(path: Path, count: int) -> dict[str, float]:
    connection = http.client.HTTPConnection("localhost", timeout=SECONDS)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(SECONDS)
    connection.sock.connect(str(path))

    def ask() -> None:
        connection.request("POST", "/authorize", headers={"x-spangate-identity": str(CHECKOUT)})
        response = connection.getresponse()
        response.read()
        if response.status != 200 or TOKEN not in response.headers["x-spangate-authorization"]:
            raise BenchError(f"the broker's door answers {response.status}")

    try:
        return _timed(ask, count)
    finally:
        connection.close()


def _timed(what: Callable[[], object], count: int) -> dict[str, float]:
    times = []
    for _ in range(count):
        begin = time.perf_counter_ns()
        what()
        times.append(time.perf_counter_ns() - begin)
    times.sort()
    return {"p50_us": round(quantile(times, 0.5) / 1000, 2), "p99_us": round(quantile(times, 0.99) / 1000, 2)}


def _identities(count: int) -> list[SpiffeId]:
    return [SpiffeId.workload(TRUST_DOMAIN, "fleet", f"workload-{number}") for number in range(count)]


# For real


class _Watched:
    """An exchange that counts: when each began, and how many were under way at once."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._lock = threading.Lock()
        self._under_way = 0
        self.most = 0
        self.begun: list[float] = []

    def __call__(self, identity: SpiffeId, federation: GoogleFederation) -> Grant:
        with self._lock:
            self.begun.append(time.monotonic())
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        try:
            return self._exchange(identity, federation)
        finally:
            with self._lock:
                self._under_way -= 1


def _storm(folder: Path, count: int) -> dict[str, float]:
    identities = _identities(count)
    with ExitStack() as stack:
        door, jwks = _authority(stack, folder)
        google = Google(GoogleEndpoints(sts=_standin(stack, folder, jwks)), now=SystemClock().now)
        stack.callback(google.close)
        watched = _Watched(exchange_with(google, SvidClient(door, SystemKeys())))
        broker = broker_by(watched)
        broker.replace(dict.fromkeys(identities, FEDERATION))
        broker.start()
        stack.callback(broker.stop)
        askers = max(1, min(ASKERS_MAX, WAITING_MAX // count))
        begin = time.monotonic()
        futures = [(identity, broker.request(identity)) for _ in range(askers) for identity in identities]
        patience = count / EXCHANGE_RATE_MAX * 4 + SECONDS
        for identity, future in futures:
            if future.result(max(0.1, begin + patience - time.monotonic())).identity != identity:
                raise BenchError("the broker gave out another identity's token")
        seconds = time.monotonic() - begin
    if len(watched.begun) != count:
        raise BenchError(f"{len(watched.begun)} exchanges for {count} identities")
    return {
        "identities": count,
        "exchanges": len(watched.begun),
        "most_in_a_second": _most_a_second(watched.begun),
        "in_flight_max": watched.most,
        "seconds": round(seconds, 1),
    }


def _authority(stack: ExitStack, folder: Path) -> tuple[Path, str]:
    """An authority behind its door, and its public keys."""
    clock, keys = SystemClock(), SystemKeys()
    tokens = JwtAuthority(
        trust_domain=TRUST_DOMAIN,
        issuer=ISSUER,
        clock=clock,
        serials=keys,
        store=KeptJwtKeys(MemoryKeys(), lambda: f"{keys.new_serial() % 2**64:016x}"),
        record=lambda _: None,
    )
    authority = Authority.create(TRUST_DOMAIN, clock, keys, lock=threading.RLock())
    door = folder / "authority.sock"
    stack.enter_context(UnixServer(svid_app(authority, tokens), door, name="authority"))
    return door, json.dumps(tokens.jwks())


def _standin(stack: ExitStack, folder: Path, jwks: str) -> str:
    """The stand-in for Google, which knows the authority's keys: its URL."""
    provider = {
        "name": FEDERATION.provider,
        "attributeMapping": {"google.subject": f"assertion.sub.extract('spiffe://{TRUST_DOMAIN}/{{id}}')"},
        "oidc": {"issuerUri": ISSUER, "jwksJson": jwks},
    }
    pool = FEDERATION.provider_name.partition("/providers/")[0]
    config = folder / "standin.json"
    config.write_text(json.dumps({"pools": [{"name": pool, "providers": [provider]}], "serviceAccounts": []}))
    log = folder / "standin.log"
    said = re.compile(r"https?://127\.0\.0\.1:[0-9]+")
    command = [sys.executable, "-m", "spangate.app.standin_process", "--config", str(config)]
    Processes(stack, folder).start("standin", command, lambda: log.exists() and bool(said.search(log.read_text())))
    return said.findall(log.read_text())[0]


def _most_a_second(moments: list[float]) -> int:
    """In the busiest second of those that begin with the first."""
    return max(Counter(int(one - moments[0]) for one in moments).values(), default=0)
