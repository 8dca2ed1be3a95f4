"""Promise: what reaches Spanner carries the token of the workload that sent it, nobody else's, and it shows nowhere."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.cloud.spanner_v1 import types

from e2e.broker.parts import PREFIX, TokenSite, token_site
from e2e.harness import CHECKOUT, REPORTS, TRUST_DOMAIN, Client, Gateway, Refused, eventually, session_of
from spangate.adapters.broker_door import broker_app
from spangate.adapters.clock import SystemClock
from spangate.adapters.token_broker import TokenBroker
from spangate.adapters.unix_server import UnixServer
from spangate.adapters.zetasql_engine import precompile
from spangate.broker import cache
from spangate.broker.answers import Grant
from spangate.model.google import GoogleFederation
from spangate.model.identity import SpiffeId

pytestmark = pytest.mark.e2e

LOADER = SpiffeId.workload(TRUST_DOMAIN, "shop", "loader")
STRANGER = SpiffeId.workload(TRUST_DOMAIN, "shop", "stranger")
SQL = {
    CHECKOUT: "SELECT OrderId FROM Orders",
    REPORTS: "SELECT Status FROM Orders",
    LOADER: "INSERT INTO Customers (CustomerId, Name) VALUES ('1', 'x')",
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenSite]:
    precompile()
    with token_site(tmp_path_factory.mktemp("tokens")) as found:
        yield found


@pytest.fixture(scope="module")
def gateway(tokens: TokenSite) -> Gateway:
    return tokens.site.start_gateway()


@pytest.fixture(autouse=True)
def usual(tokens: TokenSite) -> Iterator[None]:
    """Google as it was, and Spanner's memory empty."""
    tokens.site.spanner.calls.clear()
    tokens.site.spanner.metadata.clear()
    yield
    tokens.standin.put("faults", {})
    tokens.configure()


def ask(client: Client, identity: SpiffeId, **options: object) -> bytes | Refused:
    request = types.ExecuteSqlRequest(session=session_of(identity), sql=SQL[identity])
    return client.call("ExecuteSql", request, **options)


def bearers(tokens: TokenSite) -> list[str]:
    """Each request's `authorization`, of which there must be one."""
    found = []
    for metadata in tokens.site.spanner.metadata:
        values = [value for key, value in metadata if key == "authorization"]
        assert len(values) == 1, metadata
        found += [str(values[0])]
    return found


FORGED = [
    [],
    [("authorization", "Bearer forged")],
    [("authorization", "Bearer forged"), ("authorization", "Basic forged")],
    [("x-spangate-identity", str(REPORTS)), ("x-spangate-authorization", "Bearer forged")],
    [("x-goog-iam-authorization-token", "forged"), ("x-goog-api-key", "forged"), ("proxy-authorization", "forged")],
]


@pytest.mark.parametrize("forged", FORGED)
def test_each_request_carries_its_identitys_own_token_whatever_the_client_claims(tokens, gateway, forged) -> None:
    with gateway.client(CHECKOUT) as client:
        assert not isinstance(ask(client, CHECKOUT, metadata=forged), Refused)
    (bearer,) = bearers(tokens)
    assert tokens.subject(bearer) == "ns/shop/sa/checkout"
    gone = {"x-goog-iam-authorization-token", "x-goog-api-key"}
    assert not gone & {key for key, _ in tokens.site.spanner.metadata[0]}


def test_under_concurrency_nobody_gets_anothers_token(tokens, gateway) -> None:
    identities = [CHECKOUT, REPORTS, LOADER]
    clients = {identity: gateway.client(identity) for identity in identities}

    def one(number: int) -> None:
        identity = identities[number % 3]
        forged = FORGED[number % len(FORGED)]
        assert not isinstance(ask(clients[identity], identity, metadata=forged), Refused)

    try:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(one, range(300)))
    finally:
        for client in clients.values():
            client.channel.close()
    found = bearers(tokens)
    assert len(found) == 300
    subjects = {bearer: tokens.subject(bearer) for bearer in set(found)}
    sent_by = {sql: "/".join(identity.segments) for identity, sql in SQL.items()}
    for (_, body), bearer in zip(tokens.site.spanner.calls, found, strict=True):
        assert subjects[bearer] == sent_by[types.ExecuteSqlRequest.deserialize(body).sql]
    assert set(subjects.values()) == set(sent_by.values())


def test_whom_the_policy_does_not_name_gets_no_token(tokens, gateway) -> None:
    asked = tokens.standin.asked().get("token", 0)
    with gateway.client(STRANGER) as client:
        request = types.ExecuteSqlRequest(session=session_of(STRANGER), sql=SQL[CHECKOUT])
        assert client.refusal("ExecuteSql", request).code is grpc.StatusCode.PERMISSION_DENIED
    assert tokens.standin.asked().get("token", 0) == asked
    assert tokens.site.spanner.calls == []


def test_what_google_refuses_is_told_with_the_command_and_audited(tokens, tmp_path: Path) -> None:
    tokens.configure(attributeCondition="assertion.sub.endsWith('/nobody')")
    tokens.kill_broker()
    tokens.start_broker()
    audit = tokens.site.audit()
    with tokens.site.start_gateway().client(CHECKOUT) as client:
        answer = ask(client, CHECKOUT)
        assert isinstance(answer, Refused)
        assert answer.code is grpc.StatusCode.PERMISSION_DENIED
        assert "attribute condition of provider `spangate`" in answer.details
        assert "gcloud iam workload-identity-pools providers describe spangate" in answer.details
        (line,) = audit.wait(1, CHECKOUT)
        assert (line["decision"], line["reason"]) == ("error", "token-refused")
        assert line["detail"] == answer.details
        # Once it is mended, it works again by itself.
        tokens.configure()
        eventually(lambda: not isinstance(ask(client, CHECKOUT), Refused), "there is a token")
    assert tokens.subject(bearers(tokens)[0]) == "ns/shop/sa/checkout"


def test_without_google_a_new_identity_is_told_to_try_again(tokens) -> None:
    tokens.standin.put("faults", {"part": "token", "status": 503, "times": 1000})
    tokens.kill_broker()
    tokens.start_broker()
    with tokens.site.start_gateway().client(CHECKOUT) as client:
        answer = ask(client, CHECKOUT)
        assert isinstance(answer, Refused)
        assert answer.code is grpc.StatusCode.UNAVAILABLE
        assert "503" in answer.details
    assert tokens.site.spanner.calls == []


def test_a_broker_that_dies_costs_nobody_a_request_who_has_a_token(tokens) -> None:
    failed: list[Refused] = []
    done = threading.Event()
    count = [0]
    with tokens.site.start_gateway().client(CHECKOUT) as client:
        eventually(lambda: not isinstance(ask(client, CHECKOUT), Refused), "there is a token")

        def load() -> None:
            while not done.is_set():
                answer = ask(client, CHECKOUT)
                count[0] += 1
                if isinstance(answer, Refused):
                    failed.append(answer)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.5)
            tokens.kill_broker()
            with tokens.site.start_gateway().client(CHECKOUT) as other:
                answer = ask(other, CHECKOUT)
                assert isinstance(answer, Refused)
                assert answer.code is grpc.StatusCode.UNAVAILABLE
                assert "broker does not answer" in answer.details
                time.sleep(0.5)
                tokens.start_broker()
                eventually(lambda: not isinstance(ask(other, CHECKOUT), Refused), "there is a token")
        finally:
            done.set()
            for thread in threads:
                thread.join()
    assert failed == []
    assert count[0] > 100


def test_tokens_are_renewed_under_load_without_a_failed_request(tokens, monkeypatch) -> None:
    """With tokens of 16 s a worker asks again every 4 s, and the broker renews after 7 to 8."""
    monkeypatch.setattr(cache, "LEFT_SECONDS_MIN", 1.0)
    tokens.kill_broker()
    numbers = itertools.count()
    broker = TokenBroker(
        lambda identity, _: Grant(f"spangate-standin.{next(numbers)}.{identity.segments[-1]}", 16.0),
        now=SystemClock().now,
        random=lambda: 0.5,
    )
    broker.replace(dict.fromkeys([CHECKOUT, REPORTS], GoogleFederation("1", "mesh", "spangate")))
    broker.start()
    gateway = tokens.site.start_gateway()
    failed: list[Refused] = []
    end = time.monotonic() + 10

    def load(identity: SpiffeId) -> None:
        with gateway.client(identity) as client:
            while time.monotonic() < end:
                answer = ask(client, identity)
                if isinstance(answer, Refused):
                    failed.append(answer)
                time.sleep(0.005)

    try:
        with UnixServer(broker_app(broker), tokens.site.broker_socket, name="broker"), ThreadPoolExecutor(4) as pool:
            list(pool.map(load, [CHECKOUT, CHECKOUT, REPORTS, REPORTS]))
    finally:
        broker.stop()
        tokens.start_broker()
    assert failed == []
    seen = set(bearers(tokens))
    assert {bearer.rpartition(".")[2] for bearer in seen} == {"checkout", "reports"}
    assert len(seen) == 4


def test_a_token_shows_nowhere(tokens, gateway) -> None:
    """Every file below the state and runtime directories, what processes show, and the gateway's own interface."""
    with gateway.client(CHECKOUT) as client:
        assert not isinstance(ask(client, CHECKOUT), Refused)
        time.sleep(0.5)
        assert PREFIX in bearers(tokens)[0].encode()
        folders = (tokens.site.folder, tokens.site.sockets)
        looked_at = 0
        for file in (file for folder in folders for file in folder.rglob("*") if file.is_file()):
            assert PREFIX not in file.read_bytes(), file
            looked_at += 1
        assert looked_at > 8
        assert tokens.broker is not None
        for pid in (gateway.pid, tokens.broker.pid, tokens.site.checkpoint.pid):
            for name in ("cmdline", "environ"):
                assert PREFIX not in Path(f"/proc/{pid}/{name}").read_bytes()
        for path in ("/config_dump", "/stats", "/clusters", "/server_info", "/memory"):
            status, body = gateway.envoy._ask(path)
            assert status == 200
            assert PREFIX not in body
    assert not any(PREFIX.decode() in line for line in tokens.standin.said)
