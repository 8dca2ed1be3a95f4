"""Programs at the other end of a Workload API's socket: raw gRPC, and processes that are somebody or gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from fakes.tokens import jwt_authority
from spangate.adapters.clock import SystemClock
from spangate.adapters.keys import SystemKeys
from spangate.adapters.workload_issuers import AuthorityIssuer
from spangate.authority.anchors import DomainBundle
from spangate.authority.ca import Authority
from spangate.authority.federation import known_roots
from spangate.authority.jwt_svid import ValidJwt
from spangate.authority.ledger import HeldLedger
from spangate.authority.peers import Peers
from spangate.authority.workload_api import Bundles, X509Svid
from spangate.model.identity import SpiffeId

GUARD = (("workload.spiffe.io", "true"),)
TRUST_DOMAIN = "shop.example"
CHECKOUT = SpiffeId.workload(TRUST_DOMAIN, "shop", "checkout")
REPORTS = SpiffeId.workload(TRUST_DOMAIN, "analytics", "reports")


class SwitchedIssuer:
    """A real authority's, which a test may swap for another's, hold up or break."""

    def __init__(self, **authority: Any) -> None:
        self.authority = authority
        self.failing: Exception | None = None
        self.calls: list[str] = []
        # Other trust domains of the intent.
        self.others: tuple[DomainBundle, ...] = ()
        self.let_go: list[str] = []
        # While this is not set, whoever asks for anything waits; `entered` says that somebody does.
        self.open, self.entered = threading.Event(), threading.Event()
        self.open.set()
        self.swap()

    def swap(self) -> None:
        """Another root, another signer, other token keys."""
        clock = SystemClock()
        self.ledger = HeldLedger(clock.now)
        self.made = Authority.create(TRUST_DOMAIN, clock, SystemKeys(), record=self.ledger.record, **self.authority)
        self.tokens = jwt_authority(clock, TRUST_DOMAIN)
        self.peers = Peers(lambda: self.made.state, self.ledger, clock)
        roots = known_roots(self.made, lambda: self.others)
        self.inner = AuthorityIssuer(self.made, self.tokens, SystemKeys(), self.peers, roots)

    def _note(self, what: str) -> None:
        self.calls.append(what)
        self._wait()
        if self.failing is not None:
            raise self.failing

    def _wait(self) -> None:
        if not self.open.is_set():
            self.entered.set()
            self.open.wait(10)

    def x509_svid(self, identity: SpiffeId, holder: str) -> X509Svid:
        self._note("x509")
        return self.inner.x509_svid(identity, holder)

    def jwt_svid(self, identity: SpiffeId, audiences: tuple[str, ...]) -> str:
        self._note("jwt")
        return self.inner.jwt_svid(identity, audiences)

    def bundles(self) -> Bundles:
        self._wait()
        return self.inner.bundles()

    def validate(self, token: str, audience: str) -> ValidJwt:
        self._note("validate")
        return self.inner.validate(token, audience)

    def signer(self) -> str:
        return self.inner.signer()

    def report(self, holder: str, identity: SpiffeId | None, trusts: frozenset[str], uses: str) -> bool:
        return self.inner.report(holder, identity, trusts, uses)

    def gone(self, holder: str) -> None:
        self.let_go.append(holder)
        self.inner.gone(holder)


@contextmanager
def raw(path: Path) -> Iterator[grpc.Channel]:
    """A channel that sends bytes as they are."""
    # Else two channels of a process share a connection.
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
        yield channel


def unary(
    channel: grpc.Channel, method: str, request: bytes = b"", metadata: Any = GUARD, timeout: float = 10
) -> bytes:
    call = channel.unary_unary(f"/SpiffeWorkloadAPI/{method}")
    answer: bytes = call(request, metadata=metadata, timeout=10)
    return answer


def stream(channel: grpc.Channel, method: str, metadata: Any = GUARD, request: bytes = b"") -> Any:
    return channel.unary_stream(f"/SpiffeWorkloadAPI/{method}")(request, metadata=metadata, timeout=30)


def refusal(call: Any) -> tuple[str, str]:
    """The status and text that a call ends with, instead of an answer."""
    try:
        answer = call() if callable(call) and not hasattr(call, "cancel") else next(call)
    except grpc.RpcError as error:
        return error.code().name, error.details() or ""  # type: ignore[attr-defined]
    raise AssertionError(f"answered with {answer!r}")


# Connects to the socket, hands the connection to its parent over fd 0, and does as the letter says.
_CONNECTOR = """
import os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
parent = socket.socket(fileno=0)
socket.send_fds(parent, [b"x"], [connection.fileno()])
parent.recv(1)
"""


@contextmanager
def connection_of_another_process(
    path: Path, program: Path | str = sys.executable, **options: Any
) -> Iterator[tuple[socket.socket, Any]]:
    """A connection made by a process that still lives, in our hands; `end()` ends and reaps that process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    # A copy of the interpreter finds its library by this.
    env = {**os.environ, "PYTHONHOME": sys.base_prefix}
    process = subprocess.Popen([program, "-c", _CONNECTOR, str(path)], stdin=theirs, env=env, **options)
    theirs.close()
    _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    connection = socket.socket(fileno=descriptors[0])

    def end() -> int:
        ours.close()
        return process.wait(timeout=10)

    try:
        yield connection, end
    finally:
        connection.close()
        end()


def my_executable() -> str:
    return str(Path(sys.executable).resolve())
