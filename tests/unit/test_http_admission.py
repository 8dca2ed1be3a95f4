"""Whose connections a server takes: strangers never leave too little room for those whom it serves."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from starlette.responses import PlainTextResponse

from spangate.adapters.http_admission import strangers_up_to
from spangate.adapters.oidc_door import LoopbackServer, loopback_listener

STRANGERS_MAX = 3


class Site:
    """Serves one sentence; whoever connects is one of the own user's if `own` says so."""

    def __init__(self) -> None:
        self.own = False
        listener = loopback_listener(0)
        self.at: tuple[str, int] = listener.getsockname()
        self.asked: list[tuple[tuple[str, int], tuple[str, int]]] = []

        def is_own(client: tuple[str, int], server: tuple[str, int]) -> bool:
            self.asked.append((client, server))
            return self.own

        protocol = strangers_up_to(STRANGERS_MAX, is_own)
        self.server = LoopbackServer(PlainTextResponse("served"), listener, name="test", protocol=protocol)
        self.server.start()

    def ask(self) -> str:
        connection = http.client.HTTPConnection(*self.at, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        except (ConnectionError, http.client.HTTPException):
            return "dropped"
        finally:
            connection.close()


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    found.server.stop()


def test_idle_strangers_cannot_take_every_place(site: Site) -> None:
    with ExitStack() as stack:
        for _ in range(STRANGERS_MAX - 1):
            stack.enter_context(socket.create_connection(site.at, 5))
        # Who it is does not matter as long as there is room.
        assert site.ask() == "served"
        assert site.asked == []
        stack.enter_context(socket.create_connection(site.at, 5))
        more = [stack.enter_context(socket.create_connection(site.at, 5)) for _ in range(3)]
        for one in more:
            one.settimeout(5)
            with suppress(ConnectionResetError):
                assert one.recv(1) == b""
        assert site.ask() == "dropped"
        site.own = True
        assert [site.ask() for _ in range(3)] == ["served"] * 3
    client, server = site.asked[-1]
    assert (client[0], server) == ("127.0.0.1", site.at)
