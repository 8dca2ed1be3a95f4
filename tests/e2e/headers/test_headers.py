"""Promise: no header of a client steers the gateway or speaks to Spanner for it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from google.cloud.spanner_v1 import types

from e2e.harness import CHECKOUT, DATABASE, SESSION, Client, Refused, Site

pytestmark = pytest.mark.e2e

SELECT = types.ExecuteSqlRequest(session=SESSION, sql="SELECT OrderId FROM Orders")
PREFIX = "google-cloud-resource-prefix"
PARAMS = "x-goog-request-params"
ELSEWHERE = "projects/other/instances/i/databases/d"


@pytest.fixture(scope="module")
def client(own_site: Site) -> Iterator[Client]:
    with own_site.start_gateway().client(CHECKOUT) as client:
        yield client


def received(site: Site, client: Client, *sent: tuple[str, str]) -> list[tuple[str, str | bytes]]:
    """The headers that Spanner gets."""
    assert not isinstance(client.call("ExecuteSql", SELECT, metadata=sent), Refused)
    return site.spanner.metadata[-1]


@pytest.mark.parametrize(
    "claimed", [[ELSEWHERE], [DATABASE, ELSEWHERE], [ELSEWHERE, DATABASE], [DATABASE, DATABASE], [""]]
)
def test_there_is_one_resource_prefix_and_it_is_that_of_the_body(
    own_site: Site, client: Client, claimed: list[str]
) -> None:
    found = received(own_site, client, *((PREFIX, value) for value in claimed))
    assert [value for key, value in found if key == PREFIX] == [DATABASE]


def test_what_is_meant_for_envoy_credentials_and_the_paying_project_do_not_arrive(
    own_site: Site, client: Client
) -> None:
    gone = [
        ("x-envoy-max-retries", "5"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-decorator-operation", "other"),
        ("x-envoy-original-path", "/other"),
        ("authorization", "Bearer x"),
        ("x-goog-api-key", "x"),
        ("x-goog-user-project", "other"),
        ("x-goog-iam-authorization-token", "x"),
    ]
    kept = [("x-goog-spanner-route-to-leader", "true"), ("x-goog-request-params", "session=s")]
    names = [key for key, _ in received(own_site, client, *gone, *kept)]
    assert not {key for key, _ in gone} & set(names)
    assert {key for key, _ in kept} <= set(names)


@pytest.mark.parametrize("claimed", [["session=s"], ["database=d", "session=other"], ["&database=d"], []])
def test_google_routes_by_the_session_that_spanner_knows(own_site: Site, client: Client, claimed: list[str]) -> None:
    found = received(own_site, client, *((PARAMS, value) for value in claimed))
    assert [value for key, value in found if key == PARAMS] == [f"session={DATABASE}/sessions/s"]


def test_a_client_cannot_set_the_gateways_timeout(own_site: Site, client: Client) -> None:
    def slowly(_rpc: str, _body: bytes) -> Iterator[bytes]:
        time.sleep(0.5)
        yield b""

    before, own_site.spanner.answers = own_site.spanner.answers, slowly
    try:
        answer = client.call("ExecuteSql", SELECT, metadata=[("x-envoy-upstream-rq-timeout-ms", "100")])
    finally:
        own_site.spanner.answers = before
    assert not isinstance(answer, Refused), answer
