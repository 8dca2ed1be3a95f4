"""Promise: `up --spanner` speaks TLS to exactly the host it was told, with each identity's own token."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from google.cloud.spanner_v1 import types

from e2e.harness import CHECKOUT, DATABASE, GOOGLE, FakeSpanner, Refused, Site, Up, shop_folder
from fakes.clock import FakeClock
from fakes.keys import FakeKeys
from fakes.loose_google import FakeGoogle, serving
from spangate.adapters.svid_client import sign_here
from spangate.authority.ca import Authority
from spangate.model.identity import SpiffeId

pytestmark = pytest.mark.e2e

HOST = "localhost"


class Elsewhere:
    """A Spanner over TLS, and the authority of its certificate."""

    def __init__(self, folder: Path, dns_name: str = HOST) -> None:
        authority = Authority.create("google.example", FakeClock(datetime.now(UTC)), FakeKeys())
        secrets = sign_here(authority, FakeKeys(), SpiffeId("google.example", ("spanner",)), (dns_name,)).secrets
        self.ca = folder / f"ca-{dns_name}.pem"
        self.ca.write_text(authority.bundle_pem())
        pair = (secrets.key_pem.encode(), secrets.chain_pem.encode())
        self.spanner = FakeSpanner(grpc.ssl_server_credentials([pair]))
        session = bytes(types.Session.serialize(types.Session(name=f"{DATABASE}/sessions/s")))
        self.spanner.answers = lambda rpc, _: iter([session if rpc == "CreateSession" else b""])

    @property
    def address(self) -> str:
        return f"{HOST}:{self.spanner.port}"


@pytest.fixture
def google() -> Iterator[FakeGoogle]:
    with serving(FakeGoogle()) as found:
        yield found


def folder_with_google(folder: Path) -> Path:
    shop = shop_folder(folder / "shop")
    intent = shop / "spangate.yaml"
    if "google:" not in intent.read_text():
        intent.write_text(intent.read_text() + GOOGLE)
    return shop


def start(start_up: Callable[..., Up], folder: Path, address: str, ca: Path, google: FakeGoogle) -> Up:
    options = ["--spanner", address, "--spanner-ca", str(ca), "--sts", google.url, "--iam-credentials", google.url]
    # An emulator that runs is not looked for either.
    return start_up(folder_with_google(folder), *options, SPANNER_EMULATOR_HOST="127.0.0.1:1").wait_until_up()


def test_requests_arrive_over_tls_with_the_identitys_token(start_up, tmp_path: Path, google: FakeGoogle) -> None:
    there = Elsewhere(tmp_path)
    try:
        up = start(start_up, tmp_path, there.address, there.ca, google)
        assert not any("emulator" in line for line in up.children.values())
        assert not any("standin" in line for line in up.children.values())
        with up.client(CHECKOUT) as client:
            session = client.session()
            assert not isinstance(client.sql(session, "SELECT OrderId FROM Orders"), Refused)
        assert [rpc for rpc, _ in there.spanner.calls] == ["CreateSession", "ExecuteSql"]
        for metadata in there.spanner.metadata:
            (bearer,) = [str(value) for key, value in metadata if key == "authorization"]
            assert google.issued[bearer.removeprefix("Bearer ")] == str(CHECKOUT)
        assert json.loads((up.state / "up.json").read_text())["emulator"] is False
        assert up.end() == 0
    finally:
        there.spanner.stop()


def test_a_host_of_another_name_or_authority_is_not_spoken_to(own_site: Site, tmp_path: Path) -> None:
    right, misnamed = Elsewhere(tmp_path), Elsewhere(tmp_path, "spanner.example")
    try:
        found = []
        for there, ca in [(right, misnamed.ca), (misnamed, misnamed.ca), (right, right.ca)]:
            gateway = own_site.start_gateway(spanner=(HOST, there.spanner.port), spanner_ca=str(ca))
            with gateway.client(CHECKOUT) as client:
                answer = client.call("CreateSession", types.CreateSessionRequest(database=DATABASE))
                found.append(answer.code if isinstance(answer, Refused) else "answered")
        assert found == [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, "answered"]
        assert misnamed.spanner.calls == []
        assert len(right.spanner.calls) == 1
    finally:
        right.spanner.stop()
        misnamed.spanner.stop()
