"""Which processes have a certificate of the Workload API is known beyond the end of whoever gave it out."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fakes.tokens import jwt_authority
from fakes.workload import CHECKOUT, TRUST_DOMAIN, SwitchedIssuer, raw, refusal, stream
from spangate.adapters import workload_supply
from spangate.adapters.clock import SystemClock
from spangate.adapters.keys import SystemKeys
from spangate.adapters.process_life import life_of
from spangate.adapters.workload_issuers import AuthorityIssuer
from spangate.adapters.workload_server import BySelectors, WorkloadServer
from spangate.authority.ledger import Life, Taker
from spangate.authority.rotation import AllTrustNewRoot, RootStaged
from spangate.errors import TryAgain
from spangate.model.unix import UnixSelectors

TESTS = Path(__file__).parents[1]
LOOK_SECONDS = 0.05
# Long enough for whoever looks to have looked several times.
LOOKED_SECONDS = 12 * LOOK_SECONDS


class Switched:
    """Takings of an issuer's ledger that a test may break or hold up."""

    def __init__(self, issuer: SwitchedIssuer) -> None:
        self.issuer = issuer
        self.failing: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.writes = 0

    def taken(self, takers: Iterable[Taker], gone: Iterable[tuple[str, Life]] = ()) -> None:
        self.writes += 1
        self.open.wait(10)
        if self.failing is not None:
            raise self.failing
        self.issuer.ledger.taken(takers, gone)

    def takers(self, now: datetime) -> tuple[Taker, ...]:
        return self.issuer.ledger.takers(now)


class Site:
    """One server after another, of the same authority."""

    def __init__(self, folder: Path, *, kept: bool) -> None:
        folder.chmod(0o700)
        self.path = folder / "workload.sock"
        self.issuer = SwitchedIssuer()
        self.kept = Switched(self.issuer)
        self._is_kept = kept
        self.said: list[str] = []
        self.server = self._started()

    def _started(self) -> WorkloadServer:
        server = WorkloadServer(
            self.issuer,
            BySelectors({CHECKOUT: UnixSelectors(user=str(os.getuid()))}),
            self.path,
            clock=SystemClock(),
            problem=self.said.append,
            look_seconds=LOOK_SECONDS,
            kept=self.kept if self._is_kept else None,
        )
        server.start()
        return server

    def another(self) -> None:
        """As after a kill: nothing is said to anybody."""
        self.server.stop()
        self.server = self._started()

    def holders(self) -> set[str]:
        return {one.holder for one in self.issuer.ledger.held(SystemClock().now())}

    def takers(self) -> list[tuple[Life, int]]:
        found = self.issuer.ledger.takers(SystemClock().now())
        return [(one.life, one.streams) for one in found if one.life.pid]


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """That writes down who has what, if nothing else is said."""
    monkeypatch.setattr(workload_supply, "REPORT_SECONDS", LOOK_SECONDS)
    found = Site(tmp_path, kept=getattr(request, "param", True))
    yield found
    found.server.stop()


@pytest.fixture
def me() -> Life:
    found = life_of(os.getpid())
    assert found is not None
    return found


def given(site: Site, stack: ExitStack) -> Any:
    """A stream that has been given a certificate, on a connection of its own."""
    call = stream(stack.enter_context(raw(site.path)), "FetchX509SVID")
    # One that nobody holds is cancelled.
    stack.callback(call.cancel)
    next(call)
    return call


def another_root_signs(site: Site) -> None:
    site.issuer.made.step(RootStaged())
    site.issuer.made.step(AllTrustNewRoot())


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def stays(condition: Callable[[], bool], seconds: float = 10 * LOOK_SECONDS) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition(), "it does not stay so"
        time.sleep(0.01)


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from fakes.workload import raw, stream
with raw(Path(sys.argv[1])) as channel:
    call = stream(channel, "FetchX509SVID")
    next(call)
    if sys.argv[3] == "once":
        call.cancel()
        channel.close()
    print("given", flush=True)
    sys.stdin.read(1)
"""


class Program:
    """Another process that is given a certificate, and has it `once` or listens; ends when it is told to."""

    def __init__(self, site: Site, how: str) -> None:
        argv = [sys.executable, "-c", PROGRAM, str(site.path), str(TESTS), how]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"given\n"
        life = life_of(self.process.pid)
        assert life is not None
        self.life = life

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_process_is_written_down_with_its_streams_before_it_is_given_anything(site: Site, me: Life) -> None:
    with ExitStack() as stack:
        first = given(site, stack)
        assert site.takers() == [(me, 1)]
        second = given(site, stack)
        assert site.takers() == [(me, 2)]
        with Program(site, "listens") as other:
            assert set(site.takers()) == {(me, 2), (other.life, 1)}
        until(lambda: site.takers() == [(me, 2)])
        second.cancel()
        until(lambda: site.takers() == [(me, 1)])
        # It does not wait any more, and has it.
        first.cancel()
        until(lambda: site.takers() == [(me, 0)])
    assert site.said == []


def test_what_cannot_be_written_down_is_not_given(site: Site) -> None:
    site.kept.failing = TryAgain("the disk is full")
    with raw(site.path) as channel:
        assert refusal(stream(channel, "FetchX509SVID")) == ("UNAVAILABLE", "the disk is full")
        site.kept.failing = None
        listening = stream(channel, "FetchX509SVID")
        next(listening)
        until(lambda: [streams for _, streams in site.takers()] == [1])


def test_many_that_come_at_once_are_written_down_at_once_and_none_is_sent_away(site: Site, me: Life) -> None:
    with ExitStack() as stack:
        given(site, stack)
        channels = [stack.enter_context(raw(site.path)) for _ in range(8)]
        site.kept.open.clear()
        before = site.kept.writes
        calls = [stream(channel, "FetchX509SVID") for channel in channels for _ in range(40)]
        time.sleep(0.5)
        site.kept.open.set()
        for call in calls:
            next(call)
        assert site.takers() == [(me, 321)]
        assert site.kept.writes - before < 40


def test_many_that_ask_for_bundles_at_once_wait_for_one_answer_and_none_is_sent_away(site: Site) -> None:
    with ExitStack() as stack:
        site.issuer.open.clear()
        channels = [stack.enter_context(raw(site.path)) for _ in range(5)]
        calls = [stream(channel, "FetchX509Bundles") for channel in channels for _ in range(60)]
        assert site.issuer.entered.wait(10)
        time.sleep(0.5)
        site.issuer.open.set()
        for call in calls:
            next(call)
    assert site.said == []


def test_the_next_one_knows_that_a_process_is_back_when_all_its_streams_are(site: Site, me: Life) -> None:
    with ExitStack() as stack:
        given(site, stack)
        given(site, stack)
        (before,) = site.holders()
        site.another()
        given(site, stack)
        stays(lambda: before in site.holders())
        given(site, stack)
        until(lambda: before not in site.holders())
        assert len(site.holders()) == 1
        assert site.takers() == [(me, 2)]
    assert site.said == []


def test_the_next_one_sees_the_end_of_a_process(site: Site) -> None:
    with ExitStack() as stack:
        given(site, stack)
        (before,) = site.holders()
        with Program(site, "listens"):
            site.another()
            given(site, stack)
            # It does not connect anew, and lives.
            stays(lambda: before in site.holders())
        until(lambda: before not in site.holders())


def test_who_did_not_listen_and_lives_has_it(site: Site) -> None:
    with Program(site, "once") as other:
        until(lambda: site.takers() == [(other.life, 0)])
        (before,) = site.holders()
        site.another()
        stays(lambda: site.holders() == {before})
    until(lambda: site.holders() == set())


def test_a_process_that_takes_one_and_then_listens_follows(site: Site, me: Life) -> None:
    """As SPIFFE's client for Rust does: a call to begin with, then a connection that it keeps."""
    with raw(site.path) as channel:
        next(stream(channel, "FetchX509SVID"))
    until(lambda: site.takers() == [(me, 0)])
    time.sleep(LOOKED_SECONDS)
    with ExitStack() as stack:
        listening = given(site, stack)
        until(lambda: site.takers() == [(me, 1)])
        another_root_signs(site)
        next(listening)
        new = site.issuer.made.state.signing
        until(lambda: [one.generation for one in site.issuer.ledger.held(SystemClock().now())] == [new])


def asks_once(site: Site, method: str = "FetchX509SVID") -> bytes:
    """What is answered to one who does not listen."""
    with raw(site.path) as channel:
        call = stream(channel, method)
        answer: bytes = next(call)
        call.cancel()
    return answer


def test_who_asks_once_is_given_nothing_that_is_older_than_a_look(site: Site) -> None:
    """Nobody listens, so nobody is told of a change: the next one who asks has to get what holds by then."""
    methods = ("FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles")
    before = [asks_once(site, method) for method in methods]
    time.sleep(LOOKED_SECONDS)
    site.issuer.made.step(RootStaged())
    site.issuer.tokens = jwt_authority(SystemClock(), TRUST_DOMAIN)
    site.issuer.inner = AuthorityIssuer(site.issuer.made, site.issuer.tokens, SystemKeys(), site.issuer.peers)
    time.sleep(2 * LOOK_SECONDS)
    new = site.issuer.made.state.newest.root
    after = [asks_once(site, method) for method in methods]
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert all(new.public_bytes(Encoding.DER) in one for one in after[:2])
    assert site.said == []


@pytest.mark.parametrize("site", [True, False], indirect=True)
def test_a_process_that_asks_again_and_again_follows_a_rotation(site: Site) -> None:
    """As programs do that fetch a certificate by a timer, or for each connection, and never listen."""
    made, ledger = site.issuer.made, site.issuer.ledger

    def trusts_the_new_root() -> bool:
        return any(made.state.newest.fingerprint in one.trusts for one in site.issuer.peers.all())

    def signed_by() -> set[int]:
        return {one.generation for one in ledger.held(SystemClock().now())}

    asks_once(site)
    until(lambda: len(site.issuer.peers.all()) == 1)
    made.step(RootStaged())
    # It has not asked since.
    stays(lambda: not trusts_the_new_root(), LOOKED_SECONDS)
    asks_once(site)
    until(trusts_the_new_root)
    old = made.state.signing
    made.step(AllTrustNewRoot())
    stays(lambda: signed_by() == {old}, LOOKED_SECONDS)
    asks_once(site)
    until(lambda: signed_by() == {made.state.signing})


def test_who_listened_to_an_authority_that_was_killed_is_not_back_by_asking_once(site: Site) -> None:
    with ExitStack() as stack:
        given(site, stack)
        (before,) = site.holders()
        site.another()
        asks_once(site)
        stays(lambda: before in site.holders())
        given(site, stack)
        until(lambda: before not in site.holders())


@pytest.mark.parametrize("site", [True, False], indirect=True)
def test_who_was_given_up_and_listens_again_has_what_is_new(site: Site) -> None:
    with ExitStack() as stack:
        with raw(site.path) as channel:
            next(stream(channel, "FetchX509SVID"))
        (before,) = site.holders()
        with Program(site, "listens"):
            time.sleep(LOOKED_SECONDS)
            another_root_signs(site)
            until(lambda: len(site.holders()) == 2)
            stays(lambda: before in site.holders())
            given(site, stack)
            until(lambda: before not in site.holders())


@pytest.mark.parametrize("site", [True, False], indirect=True)
def test_what_a_name_that_is_given_up_stands_for_counts_until_its_processes_have_ended(site: Site) -> None:
    with ExitStack() as stack:
        listening = given(site, stack)
        with Program(site, "once"):
            time.sleep(LOOKED_SECONDS)
            (before,) = site.holders()
            # Another root signs: all are given another one, but not who has gone.
            another_root_signs(site)
            next(listening)
            until(lambda: len(site.holders()) == 2)
            stays(lambda: before in site.holders())
        until(lambda: before not in site.holders())


def test_a_process_that_was_lost_and_has_ended_is_no_hindrance(site: Site, me: Life) -> None:
    with ExitStack() as stack:
        given(site, stack)
        (before,) = site.holders()
        with Program(site, "once"):
            until(lambda: len(site.takers()) == 2)
            time.sleep(LOOKED_SECONDS)
        until(lambda: site.takers() == [(me, 1)])
        assert site.holders() == {before}
