"""What the doctor asks of the world, and what it makes of silence and nonsense."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from google.cloud import spanner_admin_database_v1 as database_v1

from fakes.clock import FakeClock
from fakes.keys import FakeKeys
from fakes.tokens import jwt_authority
from spangate.adapters.clock import SystemClock
from spangate.adapters.oidc_door import LoopbackServer, loopback_listener, oidc_app
from spangate.adapters.probes import (
    PAGES_MAX,
    CallRefused,
    certificate_shown,
    create_session,
    database_roles,
    server_date,
    why_port_is_silent,
    why_socket_is_silent,
)
from spangate.adapters.state import runtime_directory
from spangate.adapters.svid_client import sign_here
from spangate.adapters.svid_door import svid_app
from spangate.adapters.unix_server import UnixServer
from spangate.authority.ca import Authority
from spangate.broker.token import AccessToken
from spangate.errors import PeersFault, TryAgain
from spangate.model.identity import SpiffeId

CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")


@pytest.fixture
def authority() -> Authority:
    return Authority.create("shop.example", FakeClock(), FakeKeys())


@pytest.fixture
def server(authority: Authority) -> Iterator[str]:
    listener = loopback_listener(0)
    found = LoopbackServer(oidc_app(jwt_authority(FakeClock()), authority.roots), listener, name="keys")
    found.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    found.stop()


@pytest.fixture
def nonsense() -> Iterator[str]:
    """A server that answers everything with the same HTTP without a date."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ndate: soon\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_a_port_on_which_somebody_listens_is_not_silent(server: str) -> None:
    assert why_port_is_silent(server) is None
    nobody = closed_port()
    assert why_port_is_silent(nobody) == f"{nobody}: Connection refused"


def test_a_door_that_answers_is_not_silent(authority: Authority) -> None:
    with runtime_directory() as folder:
        path = folder / "authority.sock"
        with UnixServer(svid_app(authority, jwt_authority(FakeClock())), path):
            assert why_socket_is_silent(path, "/bundle") is None
            assert why_socket_is_silent(path, "/nothing") == "it answered with status 404"
        assert "nobody answers" in str(why_socket_is_silent(path, "/bundle"))


def test_a_server_says_what_time_it_is(server: str) -> None:
    for path in ("/.well-known/openid-configuration", "/nothing", ""):
        assert abs((server_date(f"http://{server}{path}") - datetime.now(UTC)).total_seconds()) < 60


def test_a_server_that_does_not_say_the_time_or_nothing_is_an_error(nonsense: str) -> None:
    with pytest.raises(PeersFault, match="does not say what time it is"):
        server_date(f"http://{nonsense}/")
    with pytest.raises(TryAgain, match="does not answer"):
        server_date(f"http://{closed_port()}/")


def test_what_speaks_no_tls_shows_no_certificate(authority: Authority, server: str) -> None:
    for address in (server, closed_port()):
        with pytest.raises(TryAgain, match="no TLS with"):
            certificate_shown(address, authority.bundle_pem())


def test_a_gateway_that_is_not_there_refuses_the_call(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(CallRefused) as caught:
        create_session(closed_port(), sign_here(authority, FakeKeys(), CHECKOUT), "projects/p/instances/i/databases/d")
    assert caught.value.code == "UNAVAILABLE"


class Spanner(grpc.GenericRpcHandler):
    """The admin API's list of roles over TLS, in pages; to whoever shows the token."""

    def __init__(self, authority: Authority, pages: list[list[str]]) -> None:
        self.pages = pages
        self.tokens: list[str] = []
        secrets = sign_here(authority, FakeKeys(), CHECKOUT, ("localhost",)).secrets
        pair = (secrets.key_pem.encode(), secrets.chain_pem.encode())
        self.server = grpc.server(ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers((self,))
        self.address = f"localhost:{self.server.add_secure_port('127.0.0.1:0', grpc.ssl_server_credentials([pair]))}"
        self.server.start()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        assert handler_call_details.method.endswith("DatabaseAdmin/ListDatabaseRoles")

        def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
            self.tokens += [str(value) for key, value in context.invocation_metadata() if key == "authorization"]
            asked = database_v1.ListDatabaseRolesRequest.deserialize(body)
            page = int(asked.page_token or "0")
            roles = [database_v1.DatabaseRole(name=f"{asked.parent}/databaseRoles/{name}") for name in self.pages[page]]
            more = str(page + 1) if page + 1 < len(self.pages) else ""
            found = database_v1.ListDatabaseRolesResponse(database_roles=roles, next_page_token=more)
            return bytes(database_v1.ListDatabaseRolesResponse.serialize(found))

        return grpc.unary_unary_rpc_method_handler(answer)


TOKEN = AccessToken("ya29.x", CHECKOUT, datetime.now(UTC))


def test_spanner_itself_tells_its_roles_to_the_identitys_token() -> None:
    authority = Authority.create("shop.example", SystemClock(), FakeKeys())
    spanner = Spanner(authority, [["public", "sg_checkout"], ["sg_reports"]])
    try:
        found = database_roles(spanner.address, authority.bundle_pem().encode(), TOKEN, "projects/p")
        assert found == ["public", "sg_checkout", "sg_reports"]
        assert spanner.tokens == ["Bearer ya29.x"] * 2
        # A server that others vouch for is not shown the token.
        other = Authority.create("shop.example", SystemClock(), FakeKeys())
        with pytest.raises(CallRefused, match="UNAVAILABLE"):
            database_roles(spanner.address, other.bundle_pem().encode(), TOKEN, "projects/p")
        assert len(spanner.tokens) == 2
        spanner.pages = [[]] * (PAGES_MAX + 1)
        with pytest.raises(PeersFault, match="more than"):
            database_roles(spanner.address, authority.bundle_pem().encode(), TOKEN, "projects/p")
    finally:
        spanner.server.stop(0).wait(5)
