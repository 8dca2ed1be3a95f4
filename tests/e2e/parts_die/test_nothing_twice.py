"""Promise: while a gateway is away, its clients wait; what it may have passed on is never sent again by us."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.cloud.spanner_v1 import types

from e2e.harness import CHECKOUT, GATEWAY, SESSION, Client, Gateway, Site, eventually, refused
from spangate.adapters.envoy import EnvoyChild
from spangate.adapters.ports import reserved_port
from spangate.adapters.sds_door import BUNDLE_SECRET, CERTIFICATE_SECRET, SecretSource, sds_app
from spangate.adapters.unix_server import UnixServer
from spangate.compiler.client import LISTENER, ClientPlan, client_bootstrap

pytestmark = pytest.mark.e2e

SELECT = types.ExecuteSqlRequest(session=SESSION, sql="SELECT OrderId FROM Orders")
# Not at once: the gateway is seen to be away first.
AWAY_SECONDS = 0.7


@dataclass
class Way:
    """A gateway on a port of its own, and the client side before it."""

    site: Site
    gateway: Gateway
    client: Client

    def kill_gateway(self) -> None:
        os.kill(self.gateway.pid, signal.SIGKILL)
        eventually(lambda: self.gateway.envoy.child.exit_code() is not None, "the gateway ends")

    def seen(self) -> int:
        return len(self.site.spanner.calls)


@pytest.fixture
def path(own_site: Site, tmp_path: Path) -> Iterator[Way]:
    with ExitStack() as stack:
        port = stack.enter_context(reserved_port(0, "gateway"))
        gateway = own_site.start_gateway(change=('"port_value": 0', f'"port_value": {port}'))
        stack.callback(gateway.envoy.stop)
        name = f"client{own_site.gateways}"
        source = SecretSource(own_site.svid(CHECKOUT).secrets)
        door = stack.enter_context(UnixServer(sds_app(source), own_site.sockets / f"{name}-sds.sock", name="door"))
        plan = ClientPlan(
            gateway=("127.0.0.1", port),
            gateway_identity=str(GATEWAY),
            host="127.0.0.1",
            port=0,
            admin_socket=str(own_site.sockets / f"{name}.sock"),
            sds_socket=str(door.path),
            certificate_secret=CERTIFICATE_SECRET,
            bundle_secret=BUNDLE_SECRET,
        )
        log = tmp_path / "client.log"
        envoy = EnvoyChild(name, client_bootstrap(plan), own_site.sockets, Path(plan.admin_socket), log, workers=1)
        stack.callback(envoy.stop)
        client = stack.enter_context(Client(f"127.0.0.1:{envoy.wait_until_ready(LISTENER)}", None))
        # Every connection is there, and the decision known.
        assert client.call("ExecuteSql", SELECT) == b""
        yield Way(own_site, gateway, client)


def test_a_request_that_finds_no_gateway_waits_for_it_and_is_sent_once(path: Way) -> None:
    path.kill_gateway()
    before = path.seen()
    with ThreadPoolExecutor(20) as threads:
        calls = [threads.submit(path.client.call, "ExecuteSql", SELECT) for _ in range(20)]
        time.sleep(AWAY_SECONDS)
        assert path.seen() == before
        path.gateway.envoy.again()
        assert [call.result(20) for call in calls] == [b""] * 20
    assert path.seen() == before + 20


def test_a_gateway_that_does_not_come_back_is_told_in_the_end(path: Way) -> None:
    path.kill_gateway()
    began = time.monotonic()
    refusal = path.client.refusal("ExecuteSql", SELECT)
    assert refusal.code is grpc.StatusCode.UNAVAILABLE
    assert 1 < time.monotonic() - began < 15


@pytest.mark.parametrize(("answered", "code"), [(0, grpc.StatusCode.UNAVAILABLE), (1, grpc.StatusCode.INTERNAL)])
def test_what_spanner_may_have_executed_is_not_sent_again(path: Way, answered: int, code: grpc.StatusCode) -> None:
    """Also when a part of the answer was there already: then it is an RST_STREAM, which clients know how to take."""
    usual = path.site.spanner.answers

    def slowly(_rpc: str, _body: bytes) -> Iterator[bytes]:
        for _ in range(answered):
            yield b""
        time.sleep(3)

    path.site.spanner.answers = slowly
    before = path.seen()
    try:
        stream = path.client.stream("ExecuteStreamingSql", SELECT)
        eventually(lambda: path.seen() > before, "Spanner has it")
        for _ in range(answered):
            assert next(stream) == b""
        path.kill_gateway()
        path.gateway.envoy.again()
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        answer = refused(caught.value)
        assert answer.code is code
        assert ("RST_STREAM" in answer.details) == bool(answered)
    finally:
        path.site.spanner.answers = usual
    # The next one is answered; the one before was not sent a second time.
    assert path.client.call("ExecuteSql", SELECT) == b""
    assert path.seen() == before + 2
