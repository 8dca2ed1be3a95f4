"""The SPIFFE Workload API: who asks, what it gets, and news for those who wait.

Rules: each call asks the kernel again who the process is, and gives it what its one identity has; without one,
PERMISSION_DENIED and no word on why. One certificate and key serve all processes of an identity; they are in memory
only, made when first asked for, and made anew in time, or when another signer signs. A change of roots, token keys or
identities reaches every open stream within a look. The authority is told which roots and which certificate those who
listen have been given, once it has reached their sockets; who has been given one and does not listen is not spoken for,
and a rotation waits for the end of that certificate, or of that process. Whatever blocks (signing, recording, asking an
authority) is done in one worker thread, in turn; users have equal bounds.
Not here: what is held by whom (workload_held.py), messages (authority/workload_api.py), HTTP/2 (grpc_connection.py),
the socket (workload_server.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

from spangate.adapters.grpc_connection import Call, Connection
from spangate.adapters.renewer import renew_at, retry_after
from spangate.adapters.unix_peers import Gone, PeerProcess
from spangate.adapters.workload_held import Departures, Held, new_holder
from spangate.authority.jwt_reader import BadToken
from spangate.authority.unix_attestation import SeveralFit
from spangate.authority.workload_api import (
    Bundles,
    Issuer,
    Method,
    Refused,
    Status,
    fingerprints,
    jwt_bundles_answer,
    jwt_svid_answer,
    read_empty_request,
    read_jwt_request,
    read_validation_request,
    root_over,
    validated_answer,
    x509_bundles_answer,
    x509_svid_answer,
)
from spangate.errors import SpangateError, TryAgain, YourFault
from spangate.model.identity import SpiffeId
from spangate.model.unix import UnixPeer

# Two descriptors each, socket and pidfd; workload_server.py lowers this to what the process may have.
CONNECTIONS_MAX = 16_384
STREAMS_MAX = 32_768
# No user can take all that there is.
USER_SHARE = 0.75
# Calls that wait for the worker thread, at a millisecond or two each.
WORK_MAX = 256
# How late a change is noticed.
LOOK_SECONDS = 1.0
# A peer of the authority is heard of for 15 s (authority/peers.py).
REPORT_SECONDS = 2.0
# Sentences about processes that fit several identities; each is said once.
_TOLD_MAX = 100
_RANDOM = random.SystemRandom()

T = TypeVar("T")


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""


class Attester(Protocol):
    """Which identity a process has."""

    @property
    def wants_executable(self) -> bool:
        """Whether it depends on the executable."""
        ...

    def identity(self, peer: UnixPeer) -> SpiffeId | None:
        """The identity of `peer`, None if it has none. Raises SeveralFit."""
        ...


class WorkloadDoor:
    """Handles the calls of all connections. All but the constructor runs on one event loop."""

    def __init__(
        self,
        issuer: Issuer,
        attester: Attester,
        *,
        clock: Clock,
        problem: Callable[[str], None],
        look_seconds: float = LOOK_SECONDS,
        connections_max: int = CONNECTIONS_MAX,
        jitter: Callable[[], float] = _RANDOM.random,
        takes_all_along: bool = False,
    ) -> None:
        """`takes_all_along`: with this door end all programs that it serves, and so the keys that they were given."""
        self._takes_all_along = takes_all_along
        self._issuer = issuer
        self._attester = attester
        self._clock = clock
        self._problem = problem
        self._look_seconds = look_seconds
        self._connections_max = connections_max
        self._jitter = jitter
        self._processes: dict[Connection, PeerProcess] = {}
        self._connections_of: Counter[int] = Counter()
        self._work_of: Counter[int] = Counter()
        self._held: dict[SpiffeId, Held] = {}
        self._issuing: dict[SpiffeId, asyncio.Future[Held]] = {}
        self._bundles: Bundles | None = None
        # Which identity's certificate was given over a connection.
        self._given: dict[Connection, SpiffeId] = {}
        self._departures = Departures()
        self._bundle_holder = new_holder()
        self._report_at = 0.0
        # Streams of bundles, by method, and what they were last told.
        self._bundle_streams: dict[Method, set[Call]] = {Method.X509_BUNDLES: set(), Method.JWT_BUNDLES: set()}
        # Open streams, each with the identity it was opened by.
        self._streams: dict[Call, SpiffeId] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: set[str] = set()
        self._worker: ThreadPoolExecutor | None = None

    # Life

    def begin(self) -> None:
        """From here on the event loop runs."""
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="spangate-workload-issuer")
        self._spawn(self._look_again())

    async def end(self) -> None:
        """Ends every connection; waits for what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in tuple(self._processes):
            connection.abort()
        await asyncio.sleep(0)  # until they know that they have ended
        self._departures.close()
        for held in self._held.values() if self._takes_all_along else ():
            # Nobody who is away has to be told; the certificate ends by itself.
            with contextlib.suppress(SpangateError):
                await self._in_worker(partial(self._issuer.gone, held.holder))
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)

    def attester_changed(self, attester: Attester) -> None:
        """Another intent: streams whose process is somebody else by it end, and are opened anew by their clients."""
        self._attester = attester
        for call, before in tuple(self._streams.items()):
            try:
                now = self._identity(call.connection)
            except Gone:
                call.connection.abort()
                continue
            if now != before:
                call.finish(*(_NOBODY if now is None else _OTHER))

    # What grpc_connection.py calls

    def arrived(self, connection: Connection, transport: asyncio.Transport) -> bool:
        """Whether the connection is taken: its process lives, and there is room."""
        try:
            process = PeerProcess(transport.get_extra_info("socket"))
        except (Gone, OSError):
            return False
        of_user = self._connections_of[process.uid]
        if len(self._processes) >= self._connections_max or of_user >= self._connections_max * USER_SHARE:
            process.close()
            return False
        self._processes[connection] = process
        self._connections_of[process.uid] += 1
        if process.pidfd >= 0:
            asyncio.get_running_loop().add_reader(process.pidfd, connection.abort)
        return True

    def left(self, connection: Connection) -> None:
        """Gives back what it held."""
        process = self._processes.pop(connection)
        self._connections_of[process.uid] -= 1
        if self._connections_of[process.uid] <= 0:
            del self._connections_of[process.uid]
        if process.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(process.pidfd)
        identity = self._given.pop(connection, None)
        if identity is None or identity not in self._held:
            process.close()
        else:
            self._departures.left(connection, process, self._held[identity], asyncio.get_running_loop().time())

    def called(self, call: Call, request: bytes) -> None:
        """Answers it, or has it answered."""
        try:
            self._answer(call, request)
        except Refused as refused:
            call.finish(refused.status, refused.message)
        except Gone:
            call.connection.abort()

    def ended(self, call: Call) -> None:
        """It waits for nothing any more."""
        identity = self._streams.pop(call, None)
        if identity is not None and identity in self._held:
            self._held[identity].waiting.discard(call)
        for streams in self._bundle_streams.values():
            streams.discard(call)

    # Calls

    def _answer(self, call: Call, request: bytes) -> None:
        if not call.guarded:
            raise Refused(Status.INVALID_ARGUMENT, "the metadata `workload.spiffe.io: true` is missing")
        identity = self._identity(call.connection)
        if identity is None:
            raise Refused(*_NOBODY)
        if call.method is Method.JWT_SVID:
            self._work(call, self._jwt_svid(call, identity, read_jwt_request(request, identity).audiences))
        elif call.method is Method.VALIDATE_JWT_SVID:
            asked = read_validation_request(request)
            self._work(call, self._validation(call, asked.token, asked.audience))
        else:
            read_empty_request(call.method, request)
            self._open_stream(call, identity)

    def _identity(self, connection: Connection) -> SpiffeId | None:
        process = self._processes[connection]
        if not process.alive():
            raise Gone
        try:
            return self._attester.identity(process.facts(executable=self._attester.wants_executable))
        except SeveralFit as several:
            if several.message not in self._told and len(self._told) < _TOLD_MAX:
                self._told.add(several.message)
                self._problem(f"{several.message}; {several.help}")
            return None

    def _still(self, call: Call, identity: SpiffeId) -> bool:
        """Whether the call is still open, and its process still who it was before it waited. Raises Refused, Gone.

        While it waited it was no stream that `attester_changed` could end. Nothing may be awaited between this and the
        answer.
        """
        if not call.open:
            return False
        now = self._identity(call.connection)
        if now != identity:
            raise Refused(*(_NOBODY if now is None else _OTHER))
        return True

    def _open_stream(self, call: Call, identity: SpiffeId) -> None:
        if len(self._streams) >= STREAMS_MAX:
            raise Refused(Status.UNAVAILABLE, "there are too many streams")
        if call.method is Method.X509_SVID:
            held = self._held.get(identity)
            if held is not None and held.svid.not_after > self._clock.now():
                self._wait_for_svid(call, identity, held)
            else:
                self._work(call, self._first_svid(call, identity))
        elif self._bundles is not None:
            self._wait_for_bundles(call, identity, self._bundles)
        else:
            self._work(call, self._first_bundles(call, identity))

    async def _first_svid(self, call: Call, identity: SpiffeId) -> None:
        # One that nobody is given after all is said to be gone at the next look.
        held = await self._issue(identity)
        if self._still(call, identity):
            self._wait_for_svid(call, identity, held)

    async def _first_bundles(self, call: Call, identity: SpiffeId) -> None:
        bundles = await self._known_bundles()
        if self._still(call, identity):
            self._wait_for_bundles(call, identity, bundles)

    def _wait_for_svid(self, call: Call, identity: SpiffeId, held: Held) -> None:
        self._streams[call] = identity
        held.waiting.add(call)
        held.takers.add(call.connection)
        self._given[call.connection] = identity
        call.send(held.answer)

    def _wait_for_bundles(self, call: Call, identity: SpiffeId, bundles: Bundles) -> None:
        self._streams[call] = identity
        self._bundle_streams[call.method].add(call)
        call.send(_BUNDLE_ANSWERS[call.method](bundles))

    async def _jwt_svid(self, call: Call, identity: SpiffeId, audiences: tuple[str, ...]) -> None:
        token = await self._in_worker(lambda: self._issuer.jwt_svid(identity, audiences))
        if self._still(call, identity):
            call.send(jwt_svid_answer(identity, token))
            call.finish(Status.OK)

    async def _validation(self, call: Call, token: str, audience: str) -> None:
        try:
            found = await self._in_worker(lambda: self._issuer.validate(token, audience))
        except BadToken as bad:
            raise Refused(Status.INVALID_ARGUMENT, f"the token is refused: {bad}") from None
        call.send(validated_answer(found))
        call.finish(Status.OK)

    def _work(self, call: Call, answer: Awaitable[None]) -> None:
        """Has it answered beside the others, within the bounds."""
        uid = self._processes[call.connection].uid
        if self._work_of.total() >= WORK_MAX or self._work_of[uid] >= WORK_MAX * USER_SHARE:
            asyncio.ensure_future(answer).cancel()
            raise Refused(Status.UNAVAILABLE, "too much is asked at once")
        self._work_of[uid] += 1

        async def answered() -> None:
            try:
                await answer
            except Refused as refused:
                call.finish(refused.status, refused.message)
            except Gone:
                call.connection.abort()
            except SpangateError as error:
                call.finish(_status(error), error.message)
            # A defect must end this call and no other, and be told.
            except Exception as error:  # noqa: BLE001
                call.finish(Status.INTERNAL, "a defect of the Workload API")
                self._problem(f"the Workload API failed: {error or type(error).__name__}")
            finally:
                self._work_of[uid] -= 1
                if self._work_of[uid] <= 0:
                    del self._work_of[uid]

        self._spawn(answered())

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _in_worker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    # Certificates and bundles

    async def _issue(self, identity: SpiffeId) -> Held:
        """A new certificate, in place of the one before; one at a time for each identity."""
        if identity in self._issuing:
            return await asyncio.shield(self._issuing[identity])
        future = self._issuing[identity] = asyncio.ensure_future(self._issue_now(identity))
        try:
            return await asyncio.shield(future)
        finally:
            self._issuing.pop(identity, None)

    async def _issue_now(self, identity: SpiffeId) -> Held:
        bundles = await self._known_bundles()
        before = self._held.get(identity)
        holder = new_holder() if before is None or before.lost else before.holder
        signer = await self._in_worker(self._issuer.signer)
        svid = await self._in_worker(lambda: self._issuer.x509_svid(identity, holder))
        due = renew_at(self._clock.now(), svid.not_after, self._jitter())
        held = Held(svid, signer, x509_svid_answer(svid, self._bundles or bundles), due, holder)
        if (before := self._held.get(identity)) is not None:
            held.waiting = before.waiting
            # Who went meanwhile has been given another one, of which a new name does not speak.
            held.lost = before.lost and before.holder == holder
            held.takers = before.takers if before.holder == holder else {call.connection for call in before.waiting}
        self._held[identity] = held
        return held

    async def _known_bundles(self) -> Bundles:
        if self._bundles is None:
            self._bundles = await self._in_worker(self._issuer.bundles)
        return self._bundles

    async def _look_again(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(self._look_seconds)
            try:
                await self._look()
                await self._report()
                told = ""
            # What is tended here must outlive any defect: without it certificates would end, unexplained.
            except Exception as error:  # noqa: BLE001
                text = f"the Workload API cannot look for changes: {error or type(error).__name__}"
                if text != told:
                    self._problem(text)
                told = text

    async def _look(self) -> None:
        """Tells whoever waits of what has changed since the last look."""
        if self._streams:
            await self._look_at_bundles()
        signer = await self._in_worker(self._issuer.signer) if self._held else ""
        self._departures.let_go(self._held.values(), asyncio.get_running_loop().time())
        now = self._clock.now()
        for identity, held in tuple(self._held.items()):
            if held.signer != signer:
                held.signer, held.renew_at = signer, now
            if not held.waiting:
                if not held.takers and not held.lost:
                    del self._held[identity]
                    await self._in_worker(partial(self._issuer.gone, held.holder))
                elif held.renew_at <= now:
                    del self._held[identity]  # whoever asks next gets a new one
            elif held.renew_at <= now:
                await self._renew(identity, held, now)

    async def _report(self) -> None:
        """Tells the authority what those who listen have been given."""
        loop, now = asyncio.get_running_loop(), self._clock.now()
        if self._bundles is None or loop.time() < self._report_at:
            return
        self._report_at = loop.time() + REPORT_SECONDS
        reports: list[tuple[Held | None, Callable[[], bool]]] = []
        for identity, held in self._held.items():
            if held.spoken_for():
                trusts = self._trusts(identity.trust_domain)
                uses = root_over(held.svid.chain_pem, held.svid.bundle_pem)
                reports.append((held, partial(self._issuer.report, held.holder, identity, trusts, uses)))
        streams = self._bundle_streams[Method.X509_BUNDLES]
        if streams and all(call.delivered for call in streams):
            trusts = self._trusts(next(iter(self._streams.values())).trust_domain)
            reports.append((None, partial(self._issuer.report, self._bundle_holder, None, trusts, "")))
        answers = await self._in_worker(lambda: [report() for _, report in reports])
        for (held_or_none, _), renew in zip(reports, answers, strict=True):
            if renew and held_or_none is not None:
                held_or_none.renew_at = now

    def _trusts(self, trust_domain: str) -> frozenset[str]:
        pem = self._bundles.x509_pem.get(trust_domain) if self._bundles else None
        return fingerprints(pem) if pem else frozenset()

    async def _look_at_bundles(self) -> None:
        bundles = await self._in_worker(self._issuer.bundles)
        if bundles == self._bundles:
            return
        self._bundles = bundles
        for method, streams in self._bundle_streams.items():
            answer = _BUNDLE_ANSWERS[method](bundles)
            for call in tuple(streams):
                call.send(answer)
        for held in tuple(self._held.values()):
            self._tell(held, x509_svid_answer(held.svid, bundles))

    async def _renew(self, identity: SpiffeId, held: Held, now: datetime) -> None:
        try:
            renewed = await self._issue(identity)
        except Exception as error:  # noqa: BLE001 - the others must be renewed whatever is wrong with this one
            held.failures += 1
            held.renew_at = now + timedelta(seconds=retry_after(held.failures, self._jitter()))
            self._problem(f"cannot renew the certificate of `{identity}`: {error or type(error).__name__}")
            if held.svid.not_after <= now:
                for call in tuple(held.waiting):
                    call.finish(Status.UNAVAILABLE, "the certificate has ended and there is no new one")
            return
        self._tell(renewed, renewed.answer)

    @staticmethod
    def _tell(held: Held, answer: bytes) -> None:
        held.answer = answer
        for call in tuple(held.waiting):
            call.send(answer)


_BUNDLE_ANSWERS: dict[Method, Callable[[Bundles], bytes]] = {
    Method.X509_BUNDLES: x509_bundles_answer,
    Method.JWT_BUNDLES: jwt_bundles_answer,
}
_OTHER = (Status.UNAVAILABLE, "this process has another identity now")
_NOBODY = (Status.PERMISSION_DENIED, "no identity is defined for this process")


def _status(error: SpangateError) -> Status:
    if isinstance(error, TryAgain):
        return Status.UNAVAILABLE
    return Status.INVALID_ARGUMENT if isinstance(error, YourFault) else Status.INTERNAL
