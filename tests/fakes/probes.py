"""A world in memory for `spangate doctor`: all is well until a test unplugs something."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from fakes.keys import FakeKeys
from spangate.adapters.probes import CallRefused
from spangate.adapters.state import Running
from spangate.adapters.svid_client import Svid, sign_here
from spangate.authority.ca import Authority
from spangate.broker.token import AccessToken
from spangate.errors import SpangateError
from spangate.model.identity import SpiffeId
from spangate.model.policy import Policy

GATEWAY = SpiffeId.parse("spiffe://shop.example/spangate/gateway")
RUNNING = Running(
    pid=4711,
    intent="/shop/spangate.yaml",
    trust_domain="shop.example",
    gateway="127.0.0.1:9443",
    gateway_identity=str(GATEWAY),
    gateway_roots="/shop/.spangate/gateway-roots.pem",
    authority_socket="/run/authority.sock",
    issuer="http://127.0.0.1:9444",
    workload_socket="/run/workload.sock",
    pods="",
    spanner="127.0.0.1:9010",
    emulator=True,
    project="spangate-local",
)


class FakeProbes:
    """`errors` by the probe's name: what it raises."""

    def __init__(self, clock: Any, policy: Policy) -> None:
        self.clock = clock
        self.authority = Authority.create("shop.example", clock, FakeKeys())
        self.the_policy = policy
        self.errors: dict[str, SpangateError | CallRefused] = {}
        self.silent: dict[str, str] = {}
        self.in_force = policy.version
        self.is_running: Running | None = RUNNING
        self.gateway_is = GATEWAY
        self.ahead = timedelta()
        self.asked: list[str] = []

    def _asked(self, name: str) -> None:
        self.asked.append(name)
        if name in self.errors:
            raise self.errors[name]

    def environment(self, *, emulator: bool) -> str:
        self._asked("environment")
        return "Envoy 1.40.0" + ("; emulator" if emulator else "")

    def running(self) -> Running:
        self._asked("running")
        assert self.is_running is not None
        return self.is_running

    def parts(self, running: Running) -> Sequence[tuple[str, str | None]]:
        self._asked("parts")
        return [(name, self.silent.get(name)) for name in ("gateway", "authority", "checkpoint", "Spanner")]

    def identity(self, word: str, trust_domain: str | None) -> SpiffeId:
        self._asked("identity")
        if "/" in word:
            return SpiffeId.workload(trust_domain or "shop.example", *word.split("/"))
        return self.the_policy.identities[word]

    def policy(self) -> Policy:
        self._asked("policy")
        return self.the_policy

    def epoch(self, running: Running) -> str:
        self._asked("epoch")
        return self.in_force

    def svid(self, running: Running, identity: SpiffeId) -> Svid:
        self._asked("svid")
        return sign_here(self.authority, FakeKeys(), identity)

    def gateways_certificate(self, address: str, bundle_pem: str) -> x509.Certificate:
        self._asked("gateways_certificate")
        svid = sign_here(self.authority, FakeKeys(), self.gateway_is, ("localhost",))
        return x509.load_pem_x509_certificates(svid.secrets.chain_pem.encode())[0]

    def session(self, address: str, svid: Svid, database: str) -> str:
        self._asked("session")
        return f"{database}/sessions/s"

    def select_one(self, address: str, svid: Svid, session: str) -> None:
        self._asked("select_one")

    def token(self, running: Running, identity: SpiffeId) -> AccessToken:
        self._asked("token")
        return AccessToken("ya29.x", identity, self.clock.now() + timedelta(minutes=50))

    def roles(self, running: Running, token: AccessToken, database: str) -> Sequence[str]:
        self._asked("roles")
        return ["public", "sg_checkout"]

    def date(self, url: str) -> datetime:
        self._asked("date")
        found: datetime = self.clock.now() + self.ahead
        return found
