"""The broker and its door: whose token, how often Google is asked, what everybody is told, and what never shows."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fakes import shop
from fakes.clock import FakeClock
from fakes.http import exchange_headers, post
from fakes.keys import FakeKeys
from fakes.loose_google import FakeGoogle, serving
from fakes.tokens import jwt_authority
from spangate.adapters import token_broker
from spangate.adapters.broker_door import broker_app
from spangate.adapters.clock import SystemClock
from spangate.adapters.google_http import Google, GoogleEndpoints
from spangate.adapters.svid_client import SvidClient
from spangate.adapters.svid_door import svid_app
from spangate.adapters.token_broker import TokenBroker, UnknownIdentity, exchange_with
from spangate.adapters.unix_server import UnixServer
from spangate.authority.ca import Authority
from spangate.broker.answers import Grant
from spangate.broker.cache import EXCHANGE_RATE_MAX, IN_FLIGHT_MAX
from spangate.broker.diagnosis import ChainBroken, GoogleAway
from spangate.errors import Broken, PeersFault, SpangateError, TryAgain
from spangate.model.google import GoogleFederation, Impersonation, SubjectTokenType
from spangate.model.identity import SpiffeId

ACCOUNT = "shop-db@shop-project.iam.gserviceaccount.com"
FEDERATION = GoogleFederation("123456789012", "mesh", "spangate")
CHECKOUT, REPORTS, STRANGER = shop.CHECKOUT, shop.REPORTS, shop.STRANGER
FEDERATIONS = {CHECKOUT: FEDERATION, REPORTS: replace(FEDERATION, impersonation=Impersonation(ACCOUNT, (), 600))}


def eventually(probe: Callable[[], object]) -> None:
    # A loaded machine gets patience.
    deadline = time.monotonic() + 60
    while not probe():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


class Place:
    """An authority behind its door, a fake Google, and a broker between them behind its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.google = stack.enter_context(serving(FakeGoogle()))
        clock = SystemClock()
        authority = Authority.create("shop.example", FakeClock(datetime.now(UTC)), FakeKeys())
        self.tokens = jwt_authority(clock)
        self.authority = folder / "authority.sock"
        stack.enter_context(UnixServer(svid_app(authority, self.tokens), self.authority, name="authority"))
        endpoints = GoogleEndpoints(sts=self.google.url, iam_credentials=self.google.url)
        client = SvidClient(self.authority, FakeKeys())
        self.broker = TokenBroker(
            exchange_with(Google(endpoints, now=clock.now), client), now=clock.now, random=random.Random(1).random
        )
        self.broker.replace(FEDERATIONS)
        self.broker.start()
        stack.callback(self.broker.stop)
        self.path = folder / "broker.sock"
        stack.enter_context(UnixServer(broker_app(self.broker), self.path, name="broker"))

    def token(self, identity: object) -> tuple[int, dict[str, object]]:
        status, body = post(self.path, "/token", json.dumps({"identity": str(identity)}).encode())
        return status, json.loads(body)

    def authorize(self, *identities: object) -> tuple[int, dict[str, str]]:
        headers = {"x-spangate-identity": ",".join(map(str, identities))} if identities else {}
        status, found, _ = exchange_headers(self.path, "POST", "/authorize", None, headers)
        return status, found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    tmp_path.chmod(0o700)
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


def test_nobody_speaks_to_google_for_another_trust_domain(place: Place) -> None:
    """The intent does not let it come so far; were it to, the authority would not sign, and says what to do."""
    courier = SpiffeId.workload("cluster.local", "shop", "courier")
    place.broker.replace({**FEDERATIONS, courier: FEDERATIONS[CHECKOUT]})
    status, headers = place.authorize(courier)
    assert status == 403
    said = headers["x-spangate-message"]
    assert said.startswith(f"`{courier}` is not in the trust domain `shop.example`; this authority speaks for its own")
    assert "make the other one the intent's own `trust_domain`" in said
    assert place.google.issued == {}


def test_a_token_is_for_exactly_the_identity_that_is_asked_for(place: Place) -> None:
    status, answer = place.token(CHECKOUT)
    assert status == 200
    assert place.google.issued[answer["access_token"]] == str(CHECKOUT)
    assert answer["token_type"] == "Bearer"
    assert 3590 < answer["expires_in"] <= 3600
    status, headers = place.authorize(REPORTS)
    assert status == 200
    bearer = headers["x-spangate-authorization"].removeprefix("Bearer ")
    assert place.google.issued[bearer] == f"{ACCOUNT} for {REPORTS}"
    assert 590_000 < int(headers["x-spangate-ttl-ms"]) <= 600_000
    assert headers["cache-control"] == "no-store"


def test_the_subject_token_is_a_jwt_svid_of_the_identity_for_the_provider_alone(place: Place) -> None:
    place.token(CHECKOUT)
    subject = place.google.asked[0].form["subject_token"]
    valid = place.tokens.validate(subject, FEDERATION.token_audience)
    assert valid.identity == CHECKOUT
    assert valid.audiences == (FEDERATION.token_audience,)
    # A federated token lives no longer than its subject token.
    assert valid.claims["exp"] - valid.claims["iat"] == 3600


def test_many_askers_of_one_identity_make_one_exchange(place: Place) -> None:
    place.google.seconds = 0.3
    with ThreadPoolExecutor(32) as pool:
        found = set(pool.map(lambda _: place.token(CHECKOUT)[1]["access_token"], range(100)))
    assert len(found) == 1
    assert len(place.google.asked) == 1


@pytest.mark.parametrize("asked", [STRANGER, "spiffe://other.example/ns/shop/sa/checkout", f"{CHECKOUT}x"])
def test_an_identity_that_the_policy_does_not_name_gets_none(place: Place, asked: object) -> None:
    status, answer = place.token(asked)
    assert status == 403
    assert "does not name it" in str(answer["error"])
    status, headers = place.authorize(asked)
    assert status == 403
    assert "does not name it" in headers["x-spangate-message"]
    assert "x-spangate-authorization" not in headers
    assert place.google.asked == []


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "checkout",
        f"{CHECKOUT}\n",
        f" {CHECKOUT}",
        f"{CHECKOUT}/",
        f"{CHECKOUT}/../reports",
        str(CHECKOUT).upper(),
        f"{CHECKOUT}%00",
        f"{CHECKOUT}?x",
        "x" * 3000,
    ],
)
def test_what_is_no_identity_gets_none(place: Place, asked: str) -> None:
    assert place.token(asked)[0] == 400
    if asked.strip() == asked and asked:
        assert place.authorize(asked)[0] == 400
    assert place.google.asked == []


def test_two_identities_at_once_get_none(place: Place) -> None:
    assert place.authorize(CHECKOUT, REPORTS)[0] == 400
    assert place.authorize()[0] == 400
    twice = json.dumps({"identity": str(CHECKOUT), "more": 1}).encode()
    for body in (twice, b"[]", b"", b"{", b'{"identity": 7}', b"x" * 10_000):
        assert post(place.path, "/token", body)[0] == 400


def test_a_refusal_of_googles_is_told_with_its_command_and_remembered(place: Place) -> None:
    text = b'{"error":"unauthorized_client","error_description":"rejected by the attribute condition."}'
    place.google.answers = lambda _: (400, {}, text)
    for _ in range(3):
        status, headers = place.authorize(CHECKOUT)
        assert status == 403
        assert "attribute condition of provider `spangate`" in headers["x-spangate-message"]
        assert "providers describe spangate" in headers["x-spangate-message"]
    assert len(place.google.asked) == 1


def test_a_google_that_is_away_is_503_and_comes_back(place: Place) -> None:
    place.google.answers = lambda _: (503, {}, b"")
    assert place.token(CHECKOUT)[0] == 503
    place.google.answers = lambda _: None
    eventually(lambda: place.token(CHECKOUT)[0] == 200)


def test_an_authority_that_is_away_is_503(tmp_path: Path) -> None:
    def exchange(identity: SpiffeId, federation: GoogleFederation) -> Grant:
        client = SvidClient(tmp_path / "none.sock", FakeKeys())
        return exchange_with(Google(GoogleEndpoints(), now=SystemClock().now), client)(identity, federation)

    with running(exchange) as broker, pytest.raises(TryAgain, match="no authority"):
        broker.token(CHECKOUT)


# Without a door


class running:
    def __init__(self, exchange: Callable[[SpiffeId, GoogleFederation], Grant], federations=FEDERATIONS) -> None:
        self.broker = TokenBroker(exchange, now=SystemClock().now, random=random.Random(1).random)
        self.broker.replace(federations)

    def __enter__(self) -> TokenBroker:
        self.broker.start()
        return self.broker

    def __exit__(self, *_: object) -> None:
        self.broker.stop()


def test_a_storm_of_identities_is_no_herd() -> None:
    names = [SpiffeId.workload("shop.example", "storm", f"w{n}") for n in range(150)]
    lock, begun, now, most = threading.Lock(), [], [0], [0]

    def exchange(identity: SpiffeId, _: GoogleFederation) -> Grant:
        with lock:
            begun.append((time.monotonic(), identity))
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return Grant(f"token-of-{identity.segments[-1]}", 3600)

    with running(exchange, dict.fromkeys(names, FEDERATION)) as broker:
        futures = {name: broker.request(name) for name in names for _ in range(3)}
        found = {name: future.result(15) for name, future in futures.items()}
    assert {name: token.text for name, token in found.items()} == {n: f"token-of-{n.segments[-1]}" for n in names}
    assert Counter(name for _, name in begun) == dict.fromkeys(names, 1)
    assert most[0] <= IN_FLIGHT_MAX
    # The burst at the beginning, then the rate.
    assert begun[-1][0] - begun[0][0] > (len(names) - EXCHANGE_RATE_MAX) / EXCHANGE_RATE_MAX * 0.8


def test_a_change_of_the_policy_drops_tokens_and_whoever_is_not_named_any_more() -> None:
    asked: list[GoogleFederation] = []
    gate = threading.Event()

    def exchange(identity: SpiffeId, federation: GoogleFederation) -> Grant:
        asked.append(federation)
        if len(asked) == 3:
            gate.wait(5)
        return Grant(f"token-{len(asked)}", 3600)

    with running(exchange) as broker:
        assert broker.token(CHECKOUT).text == broker.token(CHECKOUT).text == "token-1"
        other = replace(FEDERATION, impersonation=Impersonation(ACCOUNT))
        broker.replace({CHECKOUT: other, REPORTS: FEDERATION})
        assert broker.token(CHECKOUT).text == "token-2"
        assert asked[1] == other
        # Under way while the policy changes: whoever waits gets a token of the new one.
        waiting = broker.request(REPORTS)
        eventually(lambda: len(asked) == 3)
        broker.replace({CHECKOUT: other, REPORTS: other})
        gate.set()
        assert waiting.result(5).text == "token-4"
        assert asked[3] == other
        broker.replace({CHECKOUT: other})
        with pytest.raises(UnknownIdentity):
            broker.token(REPORTS)


def test_whoever_waits_for_an_identity_that_is_taken_out_is_told() -> None:
    gate = threading.Event()

    def exchange(_: SpiffeId, __: GoogleFederation) -> Grant:
        gate.wait(5)
        return Grant("token", 3600)

    with running(exchange) as broker:
        waiting = broker.request(CHECKOUT)
        broker.replace({})
        with pytest.raises(UnknownIdentity):
            waiting.result(5)
        gate.set()


def test_a_defect_is_told_without_its_text_and_the_broker_goes_on() -> None:
    secret = "spangate-standin.secret"

    def exchange(identity: SpiffeId, _: GoogleFederation) -> Grant:
        if identity == CHECKOUT:
            raise RuntimeError(secret)
        return Grant("token", 3600)

    with running(exchange) as broker:
        with pytest.raises(Broken) as caught:
            broker.token(CHECKOUT)
        assert secret not in str(caught.value)
        assert broker.token(REPORTS).text == "token"


def test_at_its_end_nobody_waits() -> None:
    broker = TokenBroker(lambda *_: time.sleep(0.2) or Grant("t", 9.0), now=SystemClock().now, random=lambda: 0.5)
    broker.replace(FEDERATIONS)
    broker.start()
    waiting = broker.request(CHECKOUT)
    broker.stop()
    with pytest.raises(TryAgain):
        waiting.result(1)
    with pytest.raises(TryAgain):
        broker.token(REPORTS)


def test_an_authority_that_signs_for_somebody_else_is_not_believed(tmp_path: Path) -> None:
    tokens = jwt_authority(SystemClock())

    class Liar(SvidClient):
        def __init__(self) -> None:
            pass

        def token(self, identity, audiences, lifetime_seconds=None):
            return (tokens.sign(REPORTS, tuple(audiences)).token, "")

    with serving(FakeGoogle()) as google:
        endpoints = GoogleEndpoints(sts=google.url)
        exchange = exchange_with(Google(endpoints, now=SystemClock().now), Liar())
        with pytest.raises(PeersFault, match="another identity"):
            exchange(CHECKOUT, FEDERATION)
        assert google.asked == []


def test_tokens_show_in_no_repr() -> None:
    with running(lambda *_: Grant("spangate-standin.secret", 3600)) as broker:
        token = broker.token(CHECKOUT)
        shown = repr((token, vars(broker), broker._cache, vars(broker._cache)))
        assert token.text == "spangate-standin.secret"
        assert token.text not in shown


def test_errors_have_their_kind() -> None:
    assert issubclass(GoogleAway, TryAgain)
    assert not issubclass(ChainBroken, TryAgain)


# As a process


INTENT = shop.INTENT + ('google: {project_number: "123456789012", pool: mesh, provider: spangate}\n')


def test_the_process_follows_the_intent_and_shows_no_token(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir(mode=0o700)
    (folder / "spangate.yaml").write_text(INTENT)
    (folder / "schema.sql").write_text((Path(__file__).parents[2] / "examples/shop/schema.sql").read_text())
    door = folder / "broker.sock"
    argv = [sys.executable, "-m", "spangate.app.broker_process", "--intent", str(folder / "spangate.yaml")]
    argv += ["--socket", str(door), "--authority", str(place.authority)]
    argv += ["--sts", place.google.url, "--iam-credentials", place.google.url]

    def ask(identity: SpiffeId) -> int:
        return post(door, "/token", json.dumps({"identity": str(identity)}).encode())[0]

    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            eventually(lambda: listens(door))
            assert ask(CHECKOUT) == 200
            assert ask(STRANGER) == 403
            text = INTENT.replace("{workload: shop/checkout}", "{workload: shop/stranger}")
            (folder / "new").write_text(text)
            (folder / "new").replace(folder / "spangate.yaml")
            eventually(lambda: ask(STRANGER) == 200)
            assert ask(CHECKOUT) == 403
            (folder / "spangate.yaml").write_text("broken")
            time.sleep(0.5)
            assert ask(STRANGER) == 200
            memory = (
                Path(f"/proc/{process.pid}/cmdline").read_bytes() + Path(f"/proc/{process.pid}/environ").read_bytes()
            )
            assert b"spangate-standin" not in memory
        finally:
            process.terminate()
            output, _ = process.communicate(timeout=10)
    assert process.returncode == 0, output
    assert output == b""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert not any(token.encode() in file.read_bytes() for token in place.google.issued for file in files)
    assert len(place.google.issued) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--sts", "http://sts.googleapis.com"], b"cannot be a service"), (["--intent", "/nowhere"], b"no file")],
)
def test_the_process_says_why_it_cannot_start(tmp_path: Path, more: list[str], message: bytes) -> None:
    (tmp_path / "spangate.yaml").write_text(INTENT)
    argv = [sys.executable, "-m", "spangate.app.broker_process", "--intent", str(tmp_path / "spangate.yaml")]
    argv += ["--socket", str(tmp_path / "b.sock"), "--authority", str(tmp_path / "a.sock"), *more]
    done = subprocess.run(argv, capture_output=True, timeout=30, check=False)
    assert done.returncode == 2
    assert message in done.stdout


# What the authority answers to one goodbye after another.
GOODBYES: list[list[SpangateError | None]] = [
    [None],
    [PeersFault("the answer makes no sense")],
    [TryAgain("it has just died"), None],
    [TryAgain("it has just died"), TryAgain("it does not come back")],
]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("answers", GOODBYES)
def test_a_certificate_for_an_exchange_is_given_up_after_it_so_that_no_rotation_waits_for_it(
    fails: bool, answers: list[SpangateError | None]
) -> None:
    asked: list[tuple[str, object]] = []

    class Authority(SvidClient):
        def __init__(self) -> None:
            pass

        def ask(self, method: str, path: str, body: object) -> dict[str, object]:
            asked.append((f"{method} {path}", body))
            if (error := answers[len(asked) - 1]) is not None:
                raise error
            return {}

    names = []
    for kind in (SubjectTokenType.MTLS, SubjectTokenType.JWT):
        with contextlib.suppress(PeersFault), token_broker._held_for_an_exchange(Authority(), kind) as holder:
            names.append(holder)
            if fails:
                raise PeersFault("Google says no")
    assert asked == [("POST /gone", {"instance": names[0]})] * len(answers)
    assert len(set(names)) == 2
