"""What the Workload API has to give: certificates for identities, bundles, and news of both for those who wait.

Rules: one certificate and key serve all processes of an identity; they are in memory only, made when first asked for,
and made anew in time, or when another signer signs. A change of roots or token keys reaches every open stream within a
look, and whoever asks is given nothing older than that. The authority is told which roots and which certificate those
have been given who asked, once it has reached their sockets; who was given something older and does not listen is not
spoken for, and a rotation waits until it asks again, or for the end of that certificate, or of that process. Whatever
blocks (signing, recording, asking an authority) is done in one worker thread, in turn.
Not here: who asks and may have it (workload_door.py), of whom it is still known (workload_held.py), also beyond the end
of this process (workload_takers.py), messages (authority/workload_api.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

from spangate.adapters.grpc_connection import Call, Connection
from spangate.adapters.renewer import renew_at, retry_after
from spangate.adapters.unix_peers import PeerProcess
from spangate.adapters.workload_held import Departures, Held, new_holder
from spangate.adapters.workload_takers import UNKNOWN, Takers
from spangate.authority.ledger import Life, Takings
from spangate.authority.workload_api import (
    Bundles,
    Issuer,
    Method,
    Status,
    fingerprints,
    jwt_bundles_answer,
    root_over,
    x509_bundles_answer,
    x509_svid_answer,
)
from spangate.errors import SpangateError
from spangate.model.identity import SpiffeId

# How late a change is noticed.
LOOK_SECONDS = 1.0
# A peer of the authority is heard of for 15 s (authority/peers.py).
REPORT_SECONDS = 2.0
_RANDOM = random.SystemRandom()

T = TypeVar("T")


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""


class Supply:
    """All but the constructor runs on one event loop."""

    def __init__(
        self,
        issuer: Issuer,
        *,
        clock: Clock,
        problem: Callable[[str], None],
        look_seconds: float = LOOK_SECONDS,
        jitter: Callable[[], float] = _RANDOM.random,
        takes_all_along: bool = False,
        kept: Takings | None = None,
        ended: Callable[[Life], bool] = lambda _: False,
    ) -> None:
        """`takes_all_along`: with this end all programs that it serves, and so the keys that they were given; else
        `kept` should outlive it. `ended`: whether a process has certainly ended.
        """
        self._issuer = issuer
        self._clock = clock
        self._problem = problem
        self._look_seconds = look_seconds
        self._jitter = jitter
        self._takes_all_along = takes_all_along
        self._held: dict[SpiffeId, Held] = {}
        self._issuing: dict[SpiffeId, asyncio.Future[Held]] = {}
        self._bundles: Bundles | None = None
        self._bundles_until = 0.0
        self._asking: asyncio.Future[Bundles] | None = None
        # Which identity's certificate was given over a connection.
        self._given: dict[Connection, SpiffeId] = {}
        self._departures = Departures()
        # Streams that are about to be given a certificate.
        self._coming: dict[Call, tuple[SpiffeId, Life]] = {}
        # Whether who has what may be other than it was at the last look.
        self._moved = False
        self._takers = Takers(kept, clock.now, self.in_worker, ended)
        self._bundle_holder = new_holder()
        self._report_at = 0.0
        # Streams of bundles, by method.
        self._bundle_streams: dict[Method, set[Call]] = {Method.X509_BUNDLES: set(), Method.JWT_BUNDLES: set()}
        # Open streams, each with the identity it was opened by.
        self._streams: dict[Call, SpiffeId] = {}
        self._worker: ThreadPoolExecutor | None = None
        self._looks: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """From here on the event loop runs."""
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="spangate-workload-issuer")
        self._looks = asyncio.ensure_future(self._look_again())

    async def end(self) -> None:
        """Nobody is connected any more."""
        if self._looks is not None:
            self._looks.cancel()
            await asyncio.gather(self._looks, return_exceptions=True)
        self._departures.close()
        for held in self._held.values() if self._takes_all_along else ():
            # Nobody who is away has to be told; the certificate ends by itself.
            with contextlib.suppress(SpangateError):
                await self.in_worker(partial(self._issuer.gone, held.holder))
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)

    async def in_worker(self, work: Callable[[], T]) -> T:
        """What `work` gives, which may block."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    # Who waits

    @property
    def streams(self) -> Mapping[Call, SpiffeId]:
        """Those that wait for news, each with the identity it was opened by."""
        return self._streams

    def ended(self, call: Call) -> None:
        """It waits for nothing any more."""
        self._moved = True
        identity = self._streams.pop(call, None)
        if identity is not None and identity in self._held:
            self._held[identity].waiting.discard(call)
        for streams in self._bundle_streams.values():
            streams.discard(call)

    def left(self, connection: Connection, process: PeerProcess) -> None:
        """The connection has ended. Takes `process` over."""
        identity = self._given.pop(connection, None)
        if identity is None or identity not in self._held:
            process.close()
        else:
            self._departures.left(connection, process, self._held[identity], asyncio.get_running_loop().time())

    async def give(self, call: Call, identity: SpiffeId, process: PeerProcess, *, still: Callable[[], bool]) -> None:
        """Gives what `identity` has, and what comes in its place, if `still` says so then. Raises Gone, and what
        issuing and `still` raise.
        """
        life = process.life() or UNKNOWN
        self._coming[call] = identity, life
        try:
            held = await self._for_one_more(identity, life)
            if still():
                self._streams[call] = identity
                held.waiting.add(call)
                held.takers[call.connection] = life
                self._given[call.connection] = identity
                held.tell(call)
        finally:
            del self._coming[call]
            self._moved = True

    async def _for_one_more(self, identity: SpiffeId, life: Life) -> Held:
        """What is there already, or a new one; that a process is given it has been written down."""
        noted = ""
        await self.known_bundles()
        while True:
            held = self._held.get(identity)
            if held is None or held.svid.not_after <= self._clock.now():
                await self.issue(identity)
            elif held.holder == noted:
                return held
            else:
                noted = held.holder
                await self._takers.comes(noted, life)

    def wait_for_bundles(self, call: Call, identity: SpiffeId, bundles: Bundles) -> None:
        """Gives `bundles`, and what comes in their place."""
        self._streams[call] = identity
        self._bundle_streams[call.method].add(call)
        call.send(_BUNDLE_ANSWERS[call.method](bundles))

    # Certificates and bundles

    async def issue(self, identity: SpiffeId) -> Held:
        """A new certificate, in place of the one before; one at a time for each identity."""
        if identity in self._issuing:
            return await asyncio.shield(self._issuing[identity])
        future = self._issuing[identity] = asyncio.ensure_future(self._issue_now(identity))
        try:
            return await asyncio.shield(future)
        finally:
            self._issuing.pop(identity, None)

    async def _issue_now(self, identity: SpiffeId) -> Held:
        bundles = await self.known_bundles()
        before = self._held.get(identity)
        holder = new_holder() if before is None or before.lost else before.holder
        signer = await self.in_worker(self._issuer.signer)
        svid = await self.in_worker(lambda: self._issuer.x509_svid(identity, holder))
        due = renew_at(self._clock.now(), svid.not_after, self._jitter())
        held = Held(svid, signer, x509_svid_answer(svid, self._bundles or bundles), due, holder)
        if (before := self._held.get(identity)) is not None:
            held.waiting = before.waiting
            if before.holder == holder:
                held.lost, held.takers, held.last = before.lost, before.takers, before.last
            else:
                await self._renamed(identity, before, held)
        self._held[identity] = held
        return held

    async def _renamed(self, identity: SpiffeId, before: Held, held: Held) -> None:
        """Who waits gets `held` under its new name, which does not speak of those who went: they have `before`."""
        written: dict[Life, int] | None = None
        while True:
            held.takers = {call.connection: before.takers[call.connection] for call in before.waiting}
            streams = held.streams(self._coming_for(identity))
            if streams == written:
                break
            # Meanwhile others may come, or go.
            await self._takers.are(held.holder, streams)
            written = streams
        self._takers.succeeded(before.holder)

    def _coming_for(self, identity: SpiffeId) -> Iterator[Life]:
        return (life for known, life in self._coming.values() if known == identity)

    @property
    def bundles(self) -> Bundles | None:
        """Those of the last look, if that was just now."""
        return self._bundles if asyncio.get_running_loop().time() < self._bundles_until else None

    async def known_bundles(self) -> Bundles:
        """Those of now, or of less than a look ago: who asks once is not told of a change later. Those of before while
        the authority does not answer.
        """
        if (known := self.bundles) is not None:
            return known
        try:
            return await self._bundles_now()
        except SpangateError:
            if self._bundles is None:
                raise
            return self._bundles

    async def _bundles_now(self) -> Bundles:
        """Asked of the authority once for all who come meanwhile."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._look_at_bundles())
        asking = self._asking
        try:
            return await asyncio.shield(asking)
        finally:
            if asking.done() and self._asking is asking:
                self._asking = None

    async def _look_again(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(self._look_seconds)
            try:
                await self._look()
                await self._report()
                await self._write_down()
                told = ""
            # What is tended here must outlive any defect: without it certificates would end, unexplained.
            except Exception as error:  # noqa: BLE001
                text = f"the Workload API cannot look for changes: {error or type(error).__name__}"
                if text != told:
                    self._problem(text)
                told = text

    async def _look(self) -> None:
        """Tells whoever waits of what has changed since the last look."""
        if self._streams or self._held:
            await self._bundles_now()
        signer = await self.in_worker(self._issuer.signer) if self._held else ""
        self._moved |= self._departures.let_go(asyncio.get_running_loop().time())
        now = self._clock.now()
        for identity in tuple(self._held):
            held = self._held.get(identity)
            if held is None:
                continue
            if held.signer != signer:
                held.signer, held.renew_at = signer, now
            if not held.waiting:
                if any(self._coming_for(identity)):
                    continue
                if not held.takers and not held.lost:
                    del self._held[identity]
                    await self._gone(held.holder)
                elif held.renew_at <= now:
                    del self._held[identity]  # whoever asks next gets a new one
                    self._takers.succeeded(held.holder)
            elif held.renew_at <= now:
                await self._renew(identity, held, now)

    async def _write_down(self) -> None:
        """For whoever comes after this process; and lets go of what was given out before, and nobody has any more."""
        for held in [one for one in self._held.values() if one.lost]:
            found = await self._takers.ended(held.lost) | (held.listening().keys() - {UNKNOWN})
            self._moved |= bool(found & held.lost)
            held.lost -= found
            held.forget()
        if not self._moved and not self._takers.wait:
            return
        self._moved = False
        try:
            for identity in tuple(self._held):
                if now := self._held.get(identity):
                    await self._takers.are(now.holder, now.streams(self._coming_for(identity)))
        except BaseException:
            self._moved = True
            raise
        listening: Counter[Life] = Counter()
        up_to_date: set[Life] = set()
        for one in self._held.values():
            one.forget()
            listening.update(one.listening())
            up_to_date |= one.up_to_date()
        for holder in await self._takers.out_of_use(listening, up_to_date):
            await self._gone(holder)

    async def _gone(self, holder: str) -> None:
        await self.in_worker(partial(self._issuer.gone, holder))
        self._takers.gone(holder)

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
        answers = await self.in_worker(lambda: [report() for _, report in reports])
        for (held_or_none, _), renew in zip(reports, answers, strict=True):
            if renew and held_or_none is not None:
                held_or_none.renew_at = now

    def _trusts(self, trust_domain: str) -> frozenset[str]:
        pem = self._bundles.x509_pem.get(trust_domain) if self._bundles else None
        return fingerprints(pem) if pem else frozenset()

    async def _look_at_bundles(self) -> Bundles:
        """Those of now; tells of a change."""
        # Also if it fails: an authority that is away is asked once in a look, and not by everybody who comes.
        self._bundles_until = asyncio.get_running_loop().time() + self._look_seconds
        bundles = await self.in_worker(self._issuer.bundles)
        self._bundles_until = asyncio.get_running_loop().time() + self._look_seconds
        if bundles == self._bundles:
            return bundles
        self._bundles = bundles
        for method, streams in self._bundle_streams.items():
            answer = _BUNDLE_ANSWERS[method](bundles)
            for call in tuple(streams):
                call.send(answer)
        for held in tuple(self._held.values()):
            self._tell(held, x509_svid_answer(held.svid, bundles))
        return bundles

    async def _renew(self, identity: SpiffeId, held: Held, now: datetime) -> None:
        try:
            renewed = await self.issue(identity)
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
            held.tell(call)


_BUNDLE_ANSWERS: dict[Method, Callable[[Bundles], bytes]] = {
    Method.X509_BUNDLES: x509_bundles_answer,
    Method.JWT_BUNDLES: jwt_bundles_answer,
}
