"""Programs that take certificates of a real Supply, in a world that goes on one random step at a time.

Nothing runs by itself: the event loop, its worker thread, time, the kernel and the disk move when the world says so.
The world knows who really has which certificate, which the Supply can only conclude.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fakes.clock import FakeClock
from fakes.tokens import jwt_authority
from spangate.adapters.keys import SystemKeys
from spangate.adapters.unix_peers import Gone
from spangate.adapters.workload_issuers import AuthorityIssuer
from spangate.adapters.workload_supply import Supply
from spangate.adapters.workload_takers import BACK_SECONDS
from spangate.authority.ca import Authority
from spangate.authority.ledger import HeldLedger, Life, Taker
from spangate.authority.peers import Peers
from spangate.authority.rotation import AWAITED, REPLACING, Phase, RootStaged
from spangate.authority.workload_api import Issuer, Method, Status, X509Svid
from spangate.authority.workload_messages import X509SVIDResponse
from spangate.errors import SpangateError, TryAgain
from spangate.model.identity import SpiffeId

TRUST_DOMAIN = "shop.example"
IDENTITIES = tuple(SpiffeId.workload(TRUST_DOMAIN, "shop", name) for name in ("checkout", "reports"))


@functools.cache
def _keys() -> tuple[ec.EllipticCurvePrivateKey, ...]:
    """To make them is most of what a certificate costs."""
    return tuple(ec.generate_private_key(ec.SECP256R1()) for _ in range(8))


class FewKeys(SystemKeys):
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def new_key(self) -> ec.EllipticCurvePrivateKey:
        return self._chance.choice(_keys())


class Loop(asyncio.SelectorEventLoop):
    """Whose time stands still until told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def time(self) -> float:
        return self.seconds

    def once(self) -> None:
        self.call_soon(self.stop)
        self.run_forever()

    def now(self, what: Callable[[], None]) -> None:
        """As if it had called it, and nothing else with it."""
        asyncio._set_running_loop(self)
        try:
            what()
        finally:
            asyncio._set_running_loop(None)


class Worker(ThreadPoolExecutor):
    """One worker, which does the next piece when it is told to."""

    def __init__(self) -> None:
        super().__init__(1)
        self._pieces: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._pieces.append((future, functools.partial(work, *args, **named)))
        return future

    def once(self) -> None:
        if not self._pieces:
            return
        future, work = self._pieces.popleft()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except SpangateError as error:
                future.set_exception(error)

    @property
    def busy(self) -> bool:
        return bool(self._pieces)


@dataclass(eq=False)
class Process:
    """`life` is None where the kernel does not tell. `ended` is so before anybody has noticed."""

    number: int
    identity: SpiffeId
    life: Life | None
    ended: bool = False
    clients: list[Client] = field(default_factory=list)
    # Which of them was given anything last.
    last: Client | None = None


class Peer:
    """As unix_peers.PeerProcess."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pidfd = 0
        self.closed = False

    def alive(self) -> bool:
        assert not self.closed, "a descriptor is used after it was given back"
        return not self._process.ended

    def life(self) -> Life | None:
        if self._process.ended:
            raise Gone
        return self._process.life

    def close(self) -> None:
        self.closed = True


class Connection:
    """As grpc_connection.Connection; `lost` once the server knows that it has ended."""

    def __init__(self, site: Site, process: Process) -> None:
        self.site, self.peer = site, Peer(process)
        self.calls: list[Call] = []
        self.lost = False

    def abort(self) -> None:
        self.site.world.loop.call_soon(self.end)

    def end(self) -> None:
        if self.lost or not self.site.lives:
            return
        self.lost = True
        for call in tuple(self.calls):
            call.over()
        self.site.supply.left(self, self.peer)  # type: ignore[arg-type]


class Call:
    """As grpc_connection.Call, of FetchX509SVID."""

    method = Method.X509_SVID

    def __init__(self, client: Client, connection: Connection) -> None:
        self.client, self.connection = client, connection
        self.open, self.sent, self.given = True, b"", False
        self.slow = False
        connection.calls.append(self)

    @property
    def delivered(self) -> bool:
        return not self.sent

    def send(self, message: bytes) -> None:
        if self.open:
            self.sent, self.given, self.client.cut_off = message, True, False
            self.client.may_have.add(_serial(message))
            # Mostly it has left when it was sent.
            if not self.slow and self.connection.site.world.chance.random() < 0.6:
                self.arrive()

    def finish(self, _status: Status, _text: str = "") -> None:
        if self.open:
            self.arrive()
            self.over()

    def arrive(self) -> None:
        if self.sent and self.open:
            self.client.may_have = {_serial(self.sent)}
            self.client.process.last = self.client
            self.sent = b""

    def over(self) -> None:
        """Nothing can be sent to it any more, and the server knows."""
        if self.open:
            self.open = False
            self.connection.calls.remove(self)
            self.connection.site.supply.ended(self)  # type: ignore[arg-type]


@dataclass(eq=False)
class Client:
    """A part of a process with a stream of its own. `cut_off`: its stream ended with a killed authority, and it has not
    had the time to come back.
    """

    process: Process
    call: Call | None = None
    connection: Connection | None = None
    cut_off: bool = False
    # Serial numbers of the certificates of which it may use one.
    may_have: set[int] = field(default_factory=set)

    @property
    def listens(self) -> bool:
        return self.call is not None and self.call.open

    @property
    def has_stream(self) -> bool:
        """Whether it listens, and has been given something over that."""
        return self.call is not None and self.call.open and self.call.given


class Disk:
    """Takings, which may fail."""

    def __init__(self, ledger: HeldLedger) -> None:
        self._ledger = ledger
        self.full = False

    def taken(self, takers: Iterable[Taker], gone: Iterable[tuple[str, Life]] = ()) -> None:
        if self.full:
            raise TryAgain("the disk is full")
        self._ledger.taken(takers, gone)

    def takers(self, now: datetime) -> tuple[Taker, ...]:
        return self._ledger.takers(now)


class FailingIssuer:
    """A real one, whose authority cannot be asked, or whose answers are lost, while the disk is full."""

    def __init__(self, inner: Issuer, disk: Disk, world: World) -> None:
        self._inner, self._disk, self._world = inner, disk, world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def x509_svid(self, identity: SpiffeId, holder: str) -> X509Svid:
        if self._disk.full and self._world.chance.random() < 0.5:
            raise TryAgain("the disk is full")
        svid = self._inner.x509_svid(identity, holder)
        if self._disk.full:
            raise TryAgain("the answer is lost")
        return svid

    def gone(self, holder: str) -> None:
        if self._disk.full:
            raise TryAgain("the disk is full")
        self._inner.gone(holder)


class Site:
    """One run of the authority."""

    def __init__(self, world: World) -> None:
        self.world, self.lives, self.since = world, True, world.loop.seconds
        self.worker = Worker()
        world.loop.set_default_executor(self.worker)
        issuer = AuthorityIssuer(world.authority, world.tokens, FewKeys(world.chance), world.peers())
        self.supply = Supply(
            FailingIssuer(issuer, world.disk, world),  # type: ignore[arg-type]
            clock=world.clock,
            problem=world.said.append,
            jitter=lambda: 0.5,
            kept=world.disk,
            ended=world.has_ended,
        )
        self.tasks: set[asyncio.Task[None]] = set()
        self.looking: asyncio.Task[None] | None = None

    def spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self.world.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, SpangateError):
            self.world.defects.append(repr(error))

    def kill(self) -> None:
        """Nothing that was under way goes on, and nobody is told."""
        self.lives = False
        pending = [task for task in asyncio.all_tasks(self.world.loop) if not task.done()]
        for task in pending:
            task.cancel()
        if pending:
            self.world.loop.run_until_complete(asyncio.wait(pending))
        for task in tuple(self.tasks):
            self._done(task)


class World:
    def __init__(self, seed: int, *, kills: bool, strangers: bool) -> None:
        self.chance = random.Random(seed)
        self.kills, self.strangers = kills, strangers
        self.loop = Loop()
        self.clock = FakeClock()
        self.ledger = HeldLedger(self.clock.now)
        keys = FewKeys(self.chance)
        self.serials: dict[int, tuple[str, int, datetime]] = {}
        self.authority = Authority.create(TRUST_DOMAIN, self.clock, keys, record=self._record)
        self.tokens = jwt_authority(self.clock, TRUST_DOMAIN)
        self.disk = Disk(self.ledger)
        self.said: list[str] = []
        self.defects: list[str] = []
        self.processes: list[Process] = []
        self.numbers = 0
        self.site = Site(self)

    def _record(self, issued: Any) -> None:
        self.ledger.record(issued)
        if issued.kind == "svid":
            self.serials[issued.serial] = issued.holder, issued.generation, issued.not_after

    def peers(self) -> Peers:
        self._peers = Peers(lambda: self.authority.state, self.ledger, self.clock)
        return self._peers

    def has_ended(self, life: Life) -> bool:
        return bool(life.system) and all(one.ended for one in self.processes if one.life == life)

    # What may happen

    def step(self) -> None:
        """One thing, of those that are possible."""
        what = self.chance.choices(
            *zip(
                *(
                    (self.turn, 30),
                    (self.work, 15),
                    (self.second, 8),
                    (self.whole_look, 5),
                    (self.arrive, 12),
                    (self.open_stream, 12),
                    (self.close_stream, 3),
                    (self.close_connection, 3),
                    (self.process_ends, 2),
                    (self.dead_are_noticed, 4),
                    # A slow reader that became somebody else is known by the authority that saw it alone.
                    (self.identity_changes, 0 if self.kills else 1),
                    (self.minutes, 1),
                    (self.rotate, 2),
                    (self.disk_fills, 1),
                    (self.kill, 1 if self.kills else 0),
                ),
                strict=True,
            )
        )[0]
        if what in (self.turn, self.whole_look, self.kill):
            what()
        else:
            self.loop.now(what)
        self.check()

    def turn(self) -> None:
        self.loop.once()

    def work(self) -> None:
        self.site.worker.once()

    def second(self) -> None:
        self.loop.seconds += 1
        self.clock.advance(timedelta(seconds=1))
        if self.site.looking is None or self.site.looking.done():
            self.site.looking = self.site.spawn(self.site.supply.look())

    def whole_look(self) -> None:
        self.loop.now(self.second)
        self._all_under_way()

    def _all_under_way(self) -> None:
        for _ in range(400):
            self.turn()
            self.work()
            if not self.site.worker.busy and all(task.done() for task in self.site.tasks):
                return

    def minutes(self) -> None:
        for _ in range(self.chance.randint(1, 40)):
            self.clock.advance(timedelta(minutes=1))

    def arrive(self) -> None:
        for process in self.processes:
            for client in process.clients:
                if client.call and not client.call.slow and self.chance.random() < 0.7:
                    client.call.arrive()

    def open_stream(self) -> None:
        process = self._process()
        # While a part of it is cut off, another one of its streams would be taken for that one's.
        cut_off = any(one.cut_off for one in process.clients)
        idle = [one for one in process.clients if not one.listens and one.cut_off == cut_off]
        if cut_off and not idle:
            return
        if cut_off or (idle and self.chance.random() < 0.7):
            client = self.chance.choice(idle)
        elif len(process.clients) < 3:
            client = Client(process)
            process.clients.append(client)
        else:
            return
        self.opens(client)

    def opens(self, client: Client) -> None:
        if client.connection is None or client.connection.lost or self.chance.random() < 0.3:
            if client.connection is not None and client.connection.site is self.site:
                client.connection.end()
            shared = [
                one.connection
                for one in client.process.clients
                if one.connection and not one.connection.lost and one.connection.site is self.site
            ]
            # Of who is not told apart each connection counts by itself, and so does each of its parts here.
            fresh = not shared or client.process.life is None or self.chance.random() < 0.6
            client.connection = Connection(self.site, client.process) if fresh else self.chance.choice(shared)
        call = client.call = Call(client, client.connection)
        call.slow = self.chance.random() < 0.1
        process, peer = client.process, client.connection.peer

        async def given() -> None:
            identity = process.identity
            try:
                await self.site.supply.give(
                    call,  # type: ignore[arg-type]
                    identity,
                    peer,  # type: ignore[arg-type]
                    still=lambda: call.open and not process.ended and process.identity == identity,
                )
            except Gone:
                call.connection.abort()
            except SpangateError:
                call.over()
            else:
                if call not in self.site.supply.streams:
                    call.over()

        self.site.spawn(given())

    def close_stream(self) -> None:
        listening = [one for process in self.processes for one in process.clients if one.listens]
        if listening:
            client = self.chance.choice(listening)
            if client.call:
                client.call.over()

    def close_connection(self) -> None:
        connected = [one for process in self.processes for one in process.clients if one.connection]
        if connected:
            client = self.chance.choice(connected)
            if client.connection and client.connection.site is self.site:
                client.connection.end()

    def process_ends(self) -> None:
        if self.processes:
            self.chance.choice(self.processes).ended = True

    def dead_are_noticed(self) -> None:
        for process in self.processes:
            if process.ended:
                for client in process.clients:
                    if client.connection and client.connection.site is self.site:
                        client.connection.end()

    def identity_changes(self) -> None:
        if self.processes:
            process = self.chance.choice(self.processes)
            process.identity = self.chance.choice(IDENTITIES)
            for call, before in tuple(self.site.supply.streams.items()):
                client = call.client  # type: ignore[attr-defined]
                if client.process is process and before != process.identity:
                    call.finish(Status.UNAVAILABLE)

    def rotate(self) -> None:
        phase = self.authority.state.phase
        # Whether its gate is open is not asked: what is given out and let go is looked at, whatever the order.
        self.authority.step(RootStaged() if phase is Phase.STEADY else AWAITED[phase])

    def disk_fills(self) -> None:
        self.disk.full = not self.disk.full and self.chance.random() < 0.5

    def kill(self) -> None:
        if any(process.life is None and not process.ended for process in self.processes) and not self.strangers:
            return
        self.site.kill()
        for process in self.processes:
            # One that had nothing yet would be taken for one that is back.
            process.clients = [one for one in process.clients if one.may_have or not one.listens]
            for client in process.clients:
                client.cut_off |= client.has_stream
                client.call = client.connection = None
        self.disk.full = False
        self.site = Site(self)

    def _process(self) -> Process:
        living = [one for one in self.processes if not one.ended]
        if living and (len(living) >= 4 or self.chance.random() < 0.8):
            return self.chance.choice(living)
        self.numbers += 1
        told = not self.strangers or self.chance.random() < 0.5
        # Numbers are used again.
        life = Life("here", self.numbers % 3 + 1, str(self.numbers)) if told else None
        process = Process(self.numbers, self.chance.choice(IDENTITIES), life)
        self.processes.append(process)
        return process

    # What must be so

    def in_use(self) -> set[tuple[str, int]]:
        return {(one.holder, one.generation) for one in self.ledger.held(self.clock.now())}

    def check(self) -> None:
        """Nobody who lives and does not follow has something that is said to be out of use."""
        assert not self.defects
        in_use, now = self.in_use(), self.clock.now()
        for process in self.processes:
            if process.ended:
                continue
            if self.loop.seconds > self.site.since + BACK_SECONDS:
                for client in process.clients:
                    client.cut_off = False
            if process.life is None:
                # Each of its connections has to listen.
                for client in process.clients:
                    self._check_parts(process, [client], in_use, now)
            else:
                self._check_parts(process, process.clients, in_use, now)

    def _check_parts(
        self, process: Process, clients: list[Client], in_use: set[tuple[str, int]], now: datetime
    ) -> None:
        listening = [one for one in clients if one.has_stream]
        if not listening or any(one.call and one.call.delivered for one in listening):
            # What parts of it took before, and closed their streams themselves, is their own affair.
            for one in clients if len(clients) > 1 else ():
                if not one.has_stream and not one.cut_off and (listening or one is not process.last):
                    one.may_have.clear()
        for client in clients:
            for serial in client.may_have:
                holder, generation, until = self.serials[serial]
                if until > now:
                    assert (holder, generation) in in_use, (
                        f"{process.life or 'somebody'} has what is said to be out of use: {holder} {generation}"
                    )

    def settle(self) -> None:
        """Everybody who lives listens with all of its parts, or has ended; and time passes."""
        self.disk.full = False
        for process in self.processes:
            # Of who is not told apart it is not known that it is back.
            if self.chance.random() < 0.3 or process.life is None:
                process.ended = True
        self.loop.now(self.dead_are_noticed)
        self.looks(3)
        for process in self.processes:
            # A stream that ended in the moments of a kill may have been written down, and is waited for.
            written = [one.streams for one in self.ledger.takers(self.clock.now()) if one.life == process.life]
            while len(process.clients) < max(written, default=0):
                process.clients.append(Client(process))
        # One that connects anew takes those with it that shared its connection.
        for _ in range(3):
            for process in self.processes:
                for client in process.clients:
                    if not process.ended and not client.listens:
                        self.loop.now(functools.partial(self.opens, client))
            self.looks(1)
        if self.authority.state.phase is Phase.STEADY:
            self.rotate()
        while self.authority.state.phase not in REPLACING:
            self.rotate()
        self.looks(12)

    def peers_know(self) -> set[str]:
        """The holders of whom the authority remembers anything."""
        return {one.instance for one in self._peers.all()}

    def looks(self, count: int, *, all_read: bool = True) -> None:
        """A second each, in which all that is under way is done, and arrives."""
        for _ in range(count):
            self.whole_look()
            for process in self.processes:
                for client in process.clients:
                    if client.call and (all_read or not client.call.slow):
                        client.call.slow = False
                        self.loop.now(client.call.arrive)
            self.check()

    def close(self) -> None:
        self.site.kill()
        self.loop.close()


@functools.lru_cache(512)
def _serial(message: bytes) -> int:
    leaf = X509SVIDResponse.FromString(message).svids[0].x509_svid
    # Leaf and intermediate stand one behind the other.
    length = int.from_bytes(leaf[2:4], "big") + 4
    return x509.load_der_x509_certificate(leaf[:length]).serial_number
