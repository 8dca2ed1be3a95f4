"""The local metadata endpoint: what libraries ask is answered, and who else asks is refused.

Google's own library, unmodified, is one of those that ask.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from fakes.access_tokens import FakeTokens
from fakes.clock import FakeClock
from spangate.adapters.clock import SystemClock
from spangate.adapters.metadata_door import Facts, MetadataDoor
from spangate.adapters.oidc_door import LoopbackServer, loopback_listener
from spangate.adapters.tcp_peer import OwnUser
from spangate.errors import Broken, PeersFault, TryAgain, YourFault
from spangate.model.identity import SpiffeId

CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")
REPORTS = SpiffeId.parse("spiffe://shop.example/ns/analytics/sa/reports")
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/"
FLAVOR = {"Metadata-Flavor": "Google"}


class Door:
    """A door that is served, and what is behind it."""

    def __init__(self, clock: Any, peers: Any = None, **options: Any) -> None:
        self.clock = clock
        self.tokens = FakeTokens(clock)
        listener = loopback_listener(0)
        self.port = listener.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        facts = Facts(CHECKOUT, options.pop("project", "my-project"), options.pop("number", "123456789012"), (SCOPE,))
        door = MetadataDoor(facts, self.tokens, clock, self.host, peers or OwnUser(), **options)
        self.server = LoopbackServer(door.app(), listener, name="metadata")
        self.server.start()

    def ask(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, headers=FLAVOR if headers is None else headers)
            answer = connection.getresponse()
            return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture
def door() -> Iterator[Door]:
    found = Door(FakeClock(), subject=lambda: "header.claims.signature")
    yield found
    found.server.stop()


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/", "computeMetadata/\n"),
        ("/computeMetadata/v1/project/project-id", "my-project"),
        ("/computeMetadata/v1/project/numeric-project-id", "123456789012"),
        ("/computeMetadata/v1/universe/universe-domain", "googleapis.com"),
        ("/computeMetadata/v1/instance", "service-accounts/\n"),
        ("/computeMetadata/v1/instance/", "service-accounts/\n"),
        ("/computeMetadata/v1/instance/service-accounts/", "default/\n"),
        (ACCOUNT + "email", "default"),
        (ACCOUNT + "scopes", SCOPE + "\n"),
    ],
)
def test_what_libraries_ask_for_is_answered_as_text(door: Door, path: str, content: str) -> None:
    status, headers, text = door.ask(path)
    assert (status, text) == (200, content)
    assert headers["metadata-flavor"] == "Google"
    assert headers["content-type"].startswith("text/plain")
    assert door.ask(path, method="HEAD")[0] == 200


def test_the_account_as_a_whole_is_json(door: Door) -> None:
    status, headers, text = door.ask(ACCOUNT + "?recursive=true")
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert json.loads(text) == {"email": "default", "aliases": ["default"], "scopes": [SCOPE]}


def test_a_token_is_the_identitys_and_says_how_long_it_is_good(door: Door) -> None:
    status, headers, text = door.ask(ACCOUNT + "token?scopes=a%2Cb")
    assert status == 200
    assert json.loads(text) == {"access_token": "ya29.checkout.1", "expires_in": 3600, "token_type": "Bearer"}
    assert headers["cache-control"] == "no-store"
    assert door.tokens.asked == [CHECKOUT]


@pytest.mark.parametrize(
    ("error", "status"),
    [(YourFault("no such pool", help="gcloud"), 403), (TryAgain("later"), 503), (PeersFault("odd"), 502)],
)
def test_why_there_is_no_token_is_said(door: Door, error: Any, status: int) -> None:
    door.tokens.error = error
    found, headers, text = door.ask(ACCOUNT + "token")
    assert (found, headers["metadata-flavor"]) == (status, "Google")
    assert error.message in text
    assert error.help is None or error.help in text


def test_a_token_that_has_ended_or_is_anothers_is_not_given(door: Door) -> None:
    door.tokens.life = timedelta(seconds=-1)
    assert door.ask(ACCOUNT + "token")[0] == 503
    door.tokens.life = timedelta(hours=1)
    door.tokens.answers_for = REPORTS
    status, _, text = door.ask(ACCOUNT + "token")
    assert status == 502
    assert "ya29" not in text


@pytest.mark.parametrize("path", ["/computeMetadata/v1/project/project-id", ACCOUNT + "token", ACCOUNT])
def test_without_the_flavor_there_is_nothing(door: Door, path: str) -> None:
    for headers in ({}, {"Metadata-Flavor": "google"}, {"Metadata-Flavor": "Google, Google"}):
        status, answered, text = door.ask(path, headers)
        assert (status, answered["metadata-flavor"]) == (403, "Google")
        assert "Metadata-Flavor" in text
    assert door.tokens.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "10.0.0.1"},
        {"X-Forwarded-For": ""},
        {"Forwarded": "for=10.0.0.1"},
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "localhost"},
    ],
)
def test_what_came_through_a_proxy_or_under_another_name_is_refused(door: Door, headers: dict[str, str]) -> None:
    for path in ("/", ACCOUNT + "token", "/spangate/subject-token"):
        assert door.ask(path, {**FLAVOR, **headers})[0] == 403
    assert door.tokens.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent(door: Door, method: str) -> None:
    status, headers, _ = door.ask(ACCOUNT + "token", method=method)
    assert (status, headers["metadata-flavor"]) == (405, "Google")
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/computeMetadata/v1/instance/service-accounts/other@my-project.iam.gserviceaccount.com/token",
        "/computeMetadata/v1/instance/service-accounts/default/token/",
        "/computeMetadata/v1/instance/service-accounts/default%2Ftoken/x",
        "/computeMetadata/v1/instance/attributes/cluster-name",
        "/computeMetadata/v1beta1/project/project-id",
        "/computeMetadata/v1/instance/../../v1/instance/service-accounts/default/token",
        "/nothing",
    ],
)
def test_there_is_nothing_else(door: Door, path: str) -> None:
    status, headers, _ = door.ask(path)
    assert (status, headers["metadata-flavor"]) == (404, "Google")
    assert door.tokens.asked == []


def test_there_are_no_id_tokens_and_the_answer_says_why(door: Door) -> None:
    status, _, text = door.ask(ACCOUNT + "identity?audience=https://orders.example")
    assert status == 404
    assert "signed by Google" in text


def test_what_is_not_known_is_not_there() -> None:
    found = Door(FakeClock(), project="", number="")
    try:
        assert found.ask("/computeMetadata/v1/project/project-id")[0] == 404
        assert found.ask("/computeMetadata/v1/project/numeric-project-id")[0] == 404
        assert found.ask("/spangate/subject-token", {"X-Spangate-Identity": str(CHECKOUT)})[0] == 403
    finally:
        found.server.stop()


def test_a_process_of_somebody_else_gets_nothing() -> None:
    found = Door(FakeClock(), OwnUser(uid=os.getuid() + 1))
    try:
        for path in ("/", ACCOUNT + "token"):
            status, _, text = found.ask(path)
            assert status == 403
            assert "your process" in text
        assert found.tokens.asked == []
    finally:
        found.server.stop()


def test_subject_tokens_need_the_identitys_name(door: Door) -> None:
    status, _, text = door.ask("/spangate/subject-token", {"X-Spangate-Identity": str(CHECKOUT)})
    assert status == 200
    assert json.loads(text) == {"subject_token": "header.claims.signature"}
    for headers in ({}, FLAVOR, {"X-Spangate-Identity": str(REPORTS)}):
        status, _, text = door.ask("/spangate/subject-token", headers)
        assert status == 403
        assert "signature" not in text


# Google's own library, in a process of its own: it reads the environment when it is imported.

LIBRARY = """
import json, sys
import google.auth, google.auth.transport.requests
credentials, project = google.auth.default(scopes=sys.argv[1:])
request = google.auth.transport.requests.Request()
seen = []
for _ in range(3):
    credentials.before_request(request, "GET", "https://spanner.googleapis.com/", headers := {})
    seen.append(headers["authorization"])
print(json.dumps({"kind": type(credentials).__name__, "project": project, "seen": seen,
                  "email": credentials.service_account_email, "universe": credentials.universe_domain}))
"""


def library(door: Door) -> Any:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "GCE_"))}
    environment |= {"GCE_METADATA_HOST": door.host, "GCE_METADATA_IP": door.host, "CLOUDSDK_CONFIG": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY, SCOPE], env=environment, capture_output=True, text=True, timeout=60
    )
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


def test_googles_library_finds_the_endpoint_and_keeps_its_token() -> None:
    door = Door(SystemClock())
    try:
        found = library(door)
    finally:
        door.server.stop()
    assert found == {
        "kind": "Credentials",
        "project": "my-project",
        "seen": ["Bearer ya29.checkout.1"] * 3,
        "email": "default",
        "universe": "googleapis.com",
    }


def test_googles_library_comes_again_when_the_token_is_stale() -> None:
    """With less than 225 s left it takes a token for stale."""
    door = Door(SystemClock())
    door.tokens.life = timedelta(seconds=224)
    try:
        assert library(door)["seen"] == [f"Bearer ya29.checkout.{number}" for number in (1, 2, 3)]
    finally:
        door.server.stop()


def test_googles_library_shows_why_there_is_no_token() -> None:
    door = Door(SystemClock())
    door.tokens.error = YourFault("the pool `mesh` does not exist")
    try:
        assert "the pool `mesh` does not exist" in library(door)
    finally:
        door.server.stop()


def test_a_defect_is_no_token() -> None:
    door = Door(FakeClock())
    door.tokens.error = Broken("ours")
    try:
        assert door.ask(ACCOUNT + "token")[0] == 502
    finally:
        door.server.stop()
