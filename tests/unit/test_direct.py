"""Direct mode without anything that runs: the command's environment, and the asker's side of the broker's door."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fakes.clock import NOON, FakeClock
from fakes.probes import RUNNING
from spangate.adapters.broker_client import BrokerClient
from spangate.adapters.state import runtime_directory
from spangate.adapters.unix_server import UnixServer
from spangate.app.direct import DROPPED, direct_environment
from spangate.app.google import broker_socket
from spangate.errors import PeersFault, SpangateError, TryAgain, YourFault
from spangate.model.identity import SpiffeId

CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")


def test_the_command_finds_the_endpoint_and_no_credential() -> None:
    base = dict.fromkeys(DROPPED, "somebody's") | {"PATH": "/bin"}
    assert direct_environment(base, RUNNING, "127.0.0.1:9099") == {
        "PATH": "/bin",
        "GCE_METADATA_HOST": "127.0.0.1:9099",
        "GCE_METADATA_IP": "127.0.0.1:9099",
        "GOOGLE_CLOUD_PROJECT": "spangate-local",
    }


def test_a_proxy_is_not_asked_for_what_is_on_loopback() -> None:
    found = direct_environment({"http_proxy": "http://proxy:3128"}, RUNNING, "127.0.0.1:9099")
    assert found["no_proxy"] == found["NO_PROXY"] == "127.0.0.1,localhost"


def test_the_broker_is_beside_the_authority() -> None:
    assert broker_socket(RUNNING) == Path("/run/broker.sock")


class Broker:
    """A door that answers what it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[Any] = []
        self.answer: Any = {"access_token": "ya29.x", "expires_in": 600, "token_type": "Bearer"}
        self.status = 200

    def app(self) -> Starlette:
        async def token(request: Request) -> JSONResponse:
            self.asked.append(json.loads(await request.body()))
            return JSONResponse(self.answer, self.status)

        return Starlette(routes=[Route("/token", token, methods=["POST"])])

    def client(self) -> BrokerClient:
        return BrokerClient(lambda: self.path, FakeClock())


@pytest.fixture
def broker() -> Iterator[Broker]:
    with runtime_directory() as folder:
        found = Broker(folder / "broker.sock")
        with UnixServer(found.app(), found.path):
            yield found


def test_the_brokers_answer_is_a_token_of_the_identity_that_was_asked_for(broker: Broker) -> None:
    token = broker.client().token(CHECKOUT)
    assert broker.asked == [{"identity": str(CHECKOUT)}]
    assert (token.text, token.identity, token.expires_at) == ("ya29.x", CHECKOUT, NOON + timedelta(minutes=10))
    assert "ya29" not in repr(token)


@pytest.mark.parametrize(
    ("status", "kind"), [(400, YourFault), (403, YourFault), (500, PeersFault), (502, PeersFault), (503, TryAgain)]
)
def test_the_brokers_sentence_arrives_as_an_error_of_its_kind(
    broker: Broker, status: int, kind: type[SpangateError]
) -> None:
    broker.status, broker.answer = status, {"error": "no such pool", "help": "gcloud"}
    with pytest.raises(kind, match="no such pool") as caught:
        broker.client().token(CHECKOUT)
    assert caught.value.help == "gcloud"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"access_token": "", "expires_in": 600},
        {"access_token": 5, "expires_in": 600},
        {"access_token": "x", "expires_in": "600"},
        {"access_token": "x", "expires_in": True},
        {"access_token": "x"},
    ],
)
def test_an_answer_that_is_no_token_is_none(broker: Broker, answer: Any) -> None:
    broker.answer = answer
    with pytest.raises(PeersFault, match="is no token"):
        broker.client().token(CHECKOUT)


def test_without_a_broker_one_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(TryAgain, match="no broker listens") as caught:
        BrokerClient(lambda: tmp_path / "broker.sock", FakeClock()).token(CHECKOUT)
    assert caught.value.help == "is `spangate up` running?"
