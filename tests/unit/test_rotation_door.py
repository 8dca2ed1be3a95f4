"""Peers report over a real socket, take what the authority wants of them, and a rotation follows what they hold."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fakes.clock import FakeClock
from fakes.http import post
from fakes.mesh_ca import MeshCa
from fakes.tokens import jwt_authority
from spangate.adapters.gateway_usage import GatewayUsage
from spangate.adapters.holdings import holding
from spangate.adapters.keys import SystemKeys
from spangate.adapters.peer_client import Peer, gone, report, rotate, rotation
from spangate.adapters.peer_reports import Answer, Reporter
from spangate.adapters.process_life import ended, life_of
from spangate.adapters.renewer import Renewer
from spangate.adapters.rotation_door import BODY_BYTES_MAX, WAITS_MAX, peer_routes, rotation_routes
from spangate.adapters.sds_door import BUNDLE_SECRET, CERTIFICATE_SECRET, Secrets, SecretSource, Taken
from spangate.adapters.svid_client import Svid, SvidClient
from spangate.adapters.svid_door import own_app, svid_app
from spangate.adapters.unix_server import UnixServer, pid_of
from spangate.authority.ca import Authority
from spangate.authority.gate import QUIET
from spangate.authority.ledger import HeldLedger, Life
from spangate.authority.peers import AGAIN, LEASE, PEERS_MAX, Peers
from spangate.authority.rotation import Phase
from spangate.authority.rotator import DWELL, SETTLE, Rotator
from spangate.errors import PeersFault, TryAgain, YourFault
from spangate.model.identity import SPIFFE_ID_BYTES_MAX, SpiffeId

CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")
GATEWAY = SpiffeId.gateway("shop.example")
FINGERPRINT = "0" * 64
MESH_CHAIN = MeshCa("cluster.local").leaf("spiffe://cluster.local/ns/spangate/sa/gateway").chain_pem
REPORT = {"instance": "a", "identity": str(CHECKOUT), "kind": "run", "trusts": [FINGERPRINT], "uses": FINGERPRINT}


@dataclass
class Side:
    """A program with an Envoy that takes what it is given when `envoy` is called."""

    client: SvidClient
    peer: Peer
    clock: FakeClock
    met: int | None = None
    source: SecretSource = field(default_factory=SecretSource)
    taken: Taken = field(default_factory=Taken)
    renewals: int = 0

    def __post_init__(self) -> None:
        self.fetch()
        self.reporter = Reporter(
            self.source,
            self.taken,
            lambda held: report(self.client, self.peer, held, self.met),
            self.renew,
            problem=lambda text: pytest.fail(text),
        )

    def fetch(self) -> Svid:
        svid = self.client.fetch(self.peer.identity, self.peer.instance)
        self.source.replace(svid.secrets)
        return svid

    def renew(self) -> None:
        self.renewals += 1
        self.fetch()

    def envoy(self) -> None:
        current = self.source.current()
        assert current is not None
        self.taken.offered(current)
        for name in (CERTIFICATE_SECRET, BUNDLE_SECRET):
            self.taken.named(name, current.version)


@dataclass
class House:
    """The authority with both of its doors, on real sockets."""

    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        ledger = self.ledger = HeldLedger(self.clock.now)
        self.authority = Authority.create(
            "shop.example", self.clock, SystemKeys(), record=ledger.record, lock=threading.RLock()
        )
        self.peers = Peers(lambda: self.authority.state, ledger, self.clock, ended=ended)
        self.usage = GatewayUsage(self.clock.now)
        self.rotator = Rotator(
            *(self.authority, self.peers, ledger, self.clock),
            required=["gateway"],
            stores=["google"],
            usage=self.usage.usage,
        )
        own = [str(GATEWAY)]
        reports = peer_routes(self.authority, self.peers, never=own, life=lambda request: life_of(pid_of(request)))
        more = [*reports, *rotation_routes(self.rotator)]
        app = svid_app(
            self.authority,
            jwt_authority(self.clock),
            reserved=[GATEWAY],
            belongs=lambda holder, request: self.peers.belongs(holder, life_of(pid_of(request))),
            more=more,
        )
        owns = own_app(
            self.authority,
            {GATEWAY: ("localhost",)},
            more=peer_routes(self.authority, self.peers, only=own, usage=self.usage),
        )
        self.door, self.own_door = self.folder / "a.sock", self.folder / "o.sock"
        self.servers = [UnixServer(app, self.door, name="a"), UnixServer(owns, self.own_door, name="o")]

    @property
    def client(self) -> SvidClient:
        return SvidClient(self.door, SystemKeys())

    def gateway(self) -> Side:
        return Side(SvidClient(self.own_door, SystemKeys()), Peer("gateway", GATEWAY, "gateway"), self.clock, 0)

    def program(self, name: str = "program") -> Side:
        return Side(self.client, Peer(name, CHECKOUT, "run"), self.clock)

    @property
    def phase(self) -> Phase:
        return self.authority.state.phase

    def seconds(self, count: float, *sides: Side) -> None:
        """Everybody's Envoy asks, everybody reports, the authority looks."""
        for _ in range(int(count)):
            self.clock.advance(timedelta(seconds=1))
            for side in sides:
                side.envoy()
                side.reporter.once()
            self.rotator.tick()

    def post(self, path: str, body: object) -> tuple[int, Any]:
        status, answer = post(self.door, path, body if isinstance(body, bytes) else json.dumps(body).encode())
        return status, json.loads(answer)


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    found = House(tmp_path_factory.mktemp("h"))
    for server in found.servers:
        server.start()
    yield found
    for server in found.servers:
        server.stop()


SETTLED = (SETTLE + DWELL).total_seconds() + 1


def test_a_whole_rotation_by_what_envoys_have_taken(house: House) -> None:
    gateway, program = house.gateway(), house.program()
    house.seconds(SETTLED, gateway, program)
    before = house.authority.bundle_pem()
    assert rotate(house.client, "begin")["phase"] == "NEW_ROOT_TRUSTED"
    # Told to take the bundle, and given it; but Envoy has not said that it did.
    for side in (gateway, program):
        side.reporter.once()
    current = program.source.current()
    assert current is not None
    assert current.bundle_pem.count("BEGIN") == 2
    assert current.bundle_pem.startswith(before)
    house.clock.advance(SETTLE)
    rotate(house.client, "confirm", "google")
    for side in (gateway, program):
        side.reporter.once()
    house.rotator.tick()
    assert house.phase is Phase.NEW_ROOT_TRUSTED
    assert {wait["why"] for wait in rotation(house.client)["waits"]} == {"has not been seen to trust the new root"}
    assert program.renewals == 0

    house.seconds(3, gateway, program)
    assert house.phase is Phase.NEW_ROOT_SIGNS
    house.seconds(QUIET.total_seconds() + 3, gateway, program)
    assert (gateway.renewals, program.renewals) == (1, 1)
    assert house.phase is Phase.OLD_ROOT_RETIRED
    house.seconds(4, gateway, program)
    assert [wait["who"] for wait in rotation(house.client)["waits"]] == ["google"]
    rotate(house.client, "confirm", "google")
    house.seconds(2, gateway, program)
    assert house.phase is Phase.STEADY
    assert house.authority.bundle_pem() != before
    last = program.source.current()
    assert last is not None
    assert last.bundle_pem == house.authority.bundle_pem()


def test_a_gateway_that_goes_on_meeting_the_old_root_holds_its_retirement(house: House) -> None:
    gateway = house.gateway()
    house.seconds(SETTLED, gateway)
    house.rotator.begin()
    house.rotator.confirm("google")
    house.seconds(4, gateway)
    assert house.phase is Phase.NEW_ROOT_SIGNS
    for count in (1, 2, 2, 3, 0):  # it grows, stays, grows, and another Envoy has met none yet
        gateway.met = count
        house.seconds(2, gateway)
        assert house.phase is Phase.NEW_ROOT_SIGNS, count
    gateway.met = None  # its counter cannot be read
    house.seconds(QUIET.total_seconds() + 5, gateway)
    assert [wait["who"] for wait in rotation(house.client)["waits"]] == ["gateway"]
    gateway.met = 0
    house.seconds(QUIET.total_seconds() + 1, gateway)
    assert house.phase is Phase.OLD_ROOT_RETIRED


def test_an_envoy_that_cannot_use_what_it_is_given_is_waited_for(house: House) -> None:
    gateway, program = house.gateway(), house.program()
    house.seconds(SETTLED, gateway, program)
    old = program.source.current()
    assert old is not None
    house.rotator.begin()
    house.rotator.confirm("google")
    for _ in range(20):
        house.seconds(1, gateway)
        program.reporter.once()
        for name in (CERTIFICATE_SECRET, BUNDLE_SECRET):
            program.taken.named(name, old.version)
    assert house.phase is Phase.NEW_ROOT_TRUSTED
    (wait,) = rotation(house.client)["waits"]
    assert wait["who"] == f"run {CHECKOUT} (program)"
    house.seconds(2, gateway, program)
    assert house.phase is Phase.NEW_ROOT_SIGNS


def test_a_process_that_the_kernel_knows_to_be_dead_holds_nothing_up(house: House) -> None:
    gateway = house.gateway()
    script = (
        "import sys; from pathlib import Path; from spangate.adapters.keys import SystemKeys;"
        "from spangate.adapters.svid_client import SvidClient; from spangate.adapters.holdings import Holding;"
        "from spangate.adapters.peer_client import Peer, report; from spangate.model.identity import SpiffeId;"
        f"i = SpiffeId.parse('{CHECKOUT}'); c = SvidClient(Path(sys.argv[1]), SystemKeys());"
        "c.fetch(i, 'short'); report(c, Peer('short', i, 'run'), Holding(frozenset(), ''))"
    )
    subprocess.run([sys.executable, "-c", script, str(house.door)], check=True, timeout=60)
    assert "short" in {one.instance for one in house.peers.all()}
    house.seconds(SETTLED, gateway)
    assert "short" not in {one.instance for one in house.peers.all()}
    house.rotator.begin()
    house.rotator.confirm("google")
    house.seconds(4, gateway)
    assert house.phase is Phase.NEW_ROOT_SIGNS


@pytest.mark.parametrize("restarted", [False, True], ids=["one authority", "an authority that was away"])
def test_a_process_that_died_before_its_first_report_holds_nothing_up(house: House, restarted: bool) -> None:
    """As a broker that is killed in the middle of an exchange; also if the authority was killed with it."""
    gateway = house.gateway()
    script = (
        "import sys; from pathlib import Path; from spangate.adapters.keys import SystemKeys;"
        "from spangate.adapters.svid_client import SvidClient; from spangate.model.identity import SpiffeId;"
        f"SvidClient(Path(sys.argv[1]), SystemKeys()).fetch(SpiffeId.parse('{CHECKOUT}'), 'short')"
    )
    subprocess.run([sys.executable, "-c", script, str(house.door)], check=True, timeout=60)
    assert "short" in {one.holder for one in house.ledger.held(house.clock.now())}
    if restarted:
        peers = Peers(lambda: house.authority.state, house.ledger, house.clock, ended=ended)
        peers.tend()
        assert "short" not in {one.holder for one in house.ledger.held(house.clock.now())}
        return
    house.seconds(SETTLED, gateway)
    house.rotator.begin()
    house.rotator.confirm("google")
    house.seconds(4, gateway)
    assert house.phase is Phase.NEW_ROOT_SIGNS


def test_a_gateway_without_a_certificate_of_the_authoritys_takes_its_roots_as_they_come(house: House) -> None:
    """It shows a mesh's: a rotation goes through, and it is never asked to get another one."""
    source, taken = SecretSource(Secrets("", "", house.client.bundle())), Taken()
    client, peer = SvidClient(house.own_door, SystemKeys()), Peer("gateway", GATEWAY, "gateway")
    reporter = Reporter(
        *(source, taken, lambda held: report(client, peer, held, 0), lambda: pytest.fail("another one is wanted")),
        problem=lambda text: pytest.fail(text),
    )
    house.rotator.begin()
    house.rotator.confirm("google")
    phases = []
    for _ in range(60):
        shown = replace(source.current() or pytest.fail("nothing"), chain_pem=MESH_CHAIN)
        taken.offered(shown)
        for name in (CERTIFICATE_SECRET, BUNDLE_SECRET):
            taken.named(name, shown.version)
        reporter.once()
        house.clock.advance(timedelta(seconds=1))
        house.rotator.tick()
        phases.append(house.phase)
        if house.rotator.status().stores and not house.rotator.status().stores[0][1]:
            house.rotator.confirm("google")
    assert phases[-1] is Phase.STEADY, rotation(house.client)["waits"]
    assert set(phases) >= {Phase.NEW_ROOT_TRUSTED, Phase.NEW_ROOT_SIGNS, Phase.OLD_ROOT_RETIRED}


def test_whoever_says_goodbye_holds_nothing_up_and_silence_is_no_goodbye(house: House) -> None:
    gateway, polite, silent = house.gateway(), house.program("polite"), house.program("silent")
    house.seconds(SETTLED, gateway, polite, silent)
    house.rotator.begin()
    house.rotator.confirm("google")
    gone(house.client, polite.peer)
    house.seconds(LEASE.total_seconds() + 5, gateway)
    (wait,) = rotation(house.client)["waits"]
    assert wait["who"] == f"run {CHECKOUT} (silent)"
    assert "silent" in wait["why"]


# What the doors refuse ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"instance": ""},
        {"instance": "a b"},
        {"instance": "x" * 129},
        {"instance": 1},
        {"kind": "run!"},
        {"kind": "x" * 33},
        {"trusts": "x"},
        {"trusts": ["x"]},
        {"trusts": [FINGERPRINT] * 257},
        {"trusts": [FINGERPRINT.upper() + "F"]},
        {"uses": "x"},
        {"uses": None},
        {"met": -1},
        {"met": True},
        {"met": "1"},
        {"more": 1},
        {"identity": None},
    ],
)
def test_a_report_that_is_not_exactly_one_is_refused(house: House, change: dict[str, object]) -> None:
    assert house.post("/peers", {**REPORT, **change})[0] == 400
    assert house.peers.all() == ()


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 10_000, b"\xff"])
@pytest.mark.parametrize("path", ["/peers", "/gone", "/rotation"])
def test_what_is_no_object_is_refused(house: House, path: str, body: bytes) -> None:
    assert house.post(path, body)[0] == 400


def test_a_long_body_is_refused(house: House) -> None:
    assert house.post("/peers", b"x" * (BODY_BYTES_MAX + 1))[0] == 413


def test_nobody_speaks_for_the_gateway_at_the_operators_door(house: House) -> None:
    gateway = house.gateway()
    gateway.reporter.once()
    assert house.post("/peers", {**REPORT, "identity": str(GATEWAY)})[0] == 403
    assert house.post("/peers", {**REPORT, "instance": "gateway"})[0] == 403
    assert house.post("/gone", {"instance": "gateway"})[0] == 403
    with pytest.raises(YourFault, match="nobody reports"):
        report(SvidClient(house.own_door, SystemKeys()), Peer("x", CHECKOUT, "run"), holding(gateway.taken.in_use()))


@pytest.mark.parametrize(
    "body", [{}, {"do": "go"}, {"do": "begin", "x": 1}, {"do": "confirm"}, {"do": "confirm", "store": 1}]
)
def test_a_rotation_does_only_what_there_is(house: House, body: object) -> None:
    assert house.post("/rotation", body)[0] == 400
    assert house.phase is Phase.STEADY


def test_a_rotation_under_way_is_not_begun_again_and_none_is_not_turned_back(house: House) -> None:
    with pytest.raises(YourFault, match="no rotation is under way"):
        rotate(house.client, "abandon")
    with pytest.raises(YourFault, match="nothing is to be changed"):
        rotate(house.client, "confirm", "google")
    with pytest.raises(YourFault, match="no trust store"):
        rotate(house.client, "confirm", "other")
    rotate(house.client, "begin")
    with pytest.raises(YourFault, match="a rotation is under way"):
        rotate(house.client, "begin")


def test_peers_have_a_limit(house: House) -> None:
    for number in range(PEERS_MAX):
        house.peers.seen(str(number), str(CHECKOUT), kind="run", trusts=frozenset(), uses="")
    with pytest.raises(TryAgain, match="more than"):
        house.peers.seen("one more", str(CHECKOUT), kind="run", trusts=frozenset(), uses="")
    # The more there are, the less often each is asked.
    assert house.peers.seen("1", str(CHECKOUT), kind="run", trusts=frozenset(), uses="").again.total_seconds() == 100
    # But not those without whom nothing goes on.
    assert house.peers.seen("gateway", str(GATEWAY), kind="gateway", trusts=frozenset(), uses="").again == AGAIN


def test_however_many_are_waited_for_where_it_stands_can_be_seen(house: House) -> None:
    gateway = house.gateway()
    house.seconds(1, gateway)
    rotate(house.client, "begin")
    long = "spiffe://shop.example/" + "x" * (SPIFFE_ID_BYTES_MAX - len("spiffe://shop.example/"))
    for number in range(WAITS_MAX + 100):
        house.peers.seen(str(number), long, kind="run", trusts=frozenset(), uses="")
    found = rotation(house.client)
    assert len(found["waits"]) == WAITS_MAX
    assert found["waiting"] >= WAITS_MAX + 100


def test_of_roots_that_are_not_ours_nothing_is_kept(house: House) -> None:
    ours = house.authority.state.signer.fingerprint
    house.peers.seen("a", str(CHECKOUT), kind="run", trusts=frozenset({ours, FINGERPRINT}), uses="")
    (seen,) = house.peers.all()
    assert seen.trusts == {ours}


def test_a_process_whose_certificates_have_ended_is_forgotten_at_the_next_start(house: House) -> None:
    """Nobody sees it end, if it belonged to another run of the machine."""
    elsewhere = Life("another run", 1, "1")
    house.program("here")
    house.program("there")
    for name in ("here", "there", "nothing"):
        house.ledger.belongs(name, elsewhere)
    house.ledger.given_up("there")
    house.ledger.belongs("there", elsewhere)
    Peers(lambda: house.authority.state, house.ledger, house.clock, ended=ended)
    assert set(house.ledger.lives()) == {"here"}


# The reporter ---------------------------------------------------------------------------------------------------------


def test_a_bundle_under_which_ones_own_certificate_is_nobodys_is_not_taken(house: House) -> None:
    program = house.program()
    program.envoy()
    stranger = Authority.create("shop.example", house.clock, SystemKeys()).bundle_pem()
    reporter = Reporter(
        program.source,
        program.taken,
        lambda _: Answer(False, stranger, 1.0),
        program.renew,
        problem=lambda text: pytest.fail(text),
    )
    before = program.source.current()
    assert reporter.once() == 1.0
    assert before is not None
    assert program.renewals == 1
    current = program.source.current()
    assert current is not None
    assert current.bundle_pem == before.bundle_pem


def test_a_certificate_that_envoy_has_not_taken_yet_is_not_replaced_again(house: House) -> None:
    program = house.program()
    program.envoy()
    reporter = Reporter(
        program.source,
        program.taken,
        lambda _: Answer(True, None, 1.0),
        program.renew,
        problem=lambda text: pytest.fail(text),
    )
    for _ in range(3):
        reporter.once()
    assert program.renewals == 1


@pytest.mark.parametrize(("said", "taken"), [(0.0, 0.2), (1e9, 120.0), (3.0, 3.0)])
def test_the_authority_does_not_say_anything_it_likes_of_time(house: House, said: float, taken: float) -> None:
    program = house.program()
    reporter = Reporter(program.source, program.taken, lambda _: Answer(False, None, said), program.renew, problem=str)
    assert reporter.once() == taken


def test_an_authority_that_is_away_is_asked_again_and_told_of_once(house: House) -> None:
    told: list[str] = []
    asked = threading.Event()

    def away(_: object) -> Answer:
        asked.set()
        raise TryAgain("not now")

    reporter = Reporter(SecretSource(), Taken(), away, lambda: None, problem=told.append)
    reporter.start()
    assert asked.wait(5)
    reporter.stop()
    assert told == []


def test_an_answer_that_is_none_is_the_authoritys_fault() -> None:
    class Odd(SvidClient):
        def __init__(self, answer: dict[str, object]) -> None:
            self.answer = answer

        def ask(self, *_: object) -> dict[str, object]:
            return self.answer

    held = holding(Taken().in_use())
    good = {"renew": False, "bundle": None, "again_ms": 5}
    assert report(Odd(good), Peer("a", CHECKOUT, "run"), held) == Answer(False, None, 0.005)
    for change in ({"renew": 1}, {"bundle": 1}, {"again_ms": "1"}, {"again_ms": True}, {"again_ms": None}):
        with pytest.raises(PeersFault, match="the authority's answer"):
            report(Odd({**good, **change}), Peer("a", CHECKOUT, "run"), held)


def test_a_renewer_renews_at_once_when_it_is_told_to(house: House) -> None:
    fetched: list[Svid] = []
    renewed = threading.Event()

    def fetch() -> Svid:
        fetched.append(house.client.fetch(CHECKOUT, "x"))
        if len(fetched) > 1:
            renewed.set()
        return fetched[-1]

    renewer = Renewer(fetch, SecretSource(), clock=house.clock, problem=lambda text: pytest.fail(text))
    renewer.start()
    renewer.renew_now()
    assert renewed.wait(10)
    renewer.stop()
    assert len(fetched) == 2
