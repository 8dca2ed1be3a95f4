"""What the Workload API has to give: certificates for identities, with bundles, and news of both for those who wait.

Rules: one certificate and key serve all processes of an identity; they are in memory only, made when first asked for,
and made anew in time, or when another signer signs. A change of roots or token keys reaches every open stream within a
look, and whoever asks is given nothing older than that. The authority is told which roots and which certificate those
have been given who asked, once it has reached their sockets; who was given something older and does not listen is not
spoken for, and a rotation waits until it asks again, or for the end of that certificate, or of that process. Whatever
blocks (signing, recording, asking an authority) is done in one worker thread, in turn.
Not here: who asks and may have it (workload_door.py), bundles (workload_bundles.py), who has it
(workload_audience.py), also beyond the end of this process (workload_takers.py), messages (authority/workload_api.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

from spangate.adapters.grpc_connection import Call, Connection
from spangate.adapters.renewer import renew_at, retry_after
from spangate.adapters.unix_peers import PeerProcess
from spangate.adapters.workload_audience import Audience, Strangers, new_holder
from spangate.adapters.workload_bundles import BundleNews
from spangate.adapters.workload_takers import Takers
from spangate.authority.ledger import Life, Takings
from spangate.authority.workload_api import (
    Bundles,
    Issuer,
    Status,
    X509Svid,
    root_over,
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


@dataclass(slots=True)
class _Held:
    """The certificate of an identity, and how it is answered."""

    svid: X509Svid
    # The root over it, by its fingerprint.
    root: str
    # Who signed it, as far as it is known: asked just before, so that a change in between is a change.
    signer: str
    answer: bytes
    renew_at: datetime
    failures: int = 0


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
        self._held: dict[SpiffeId, _Held] = {}
        self._audiences: dict[SpiffeId, Audience] = {}
        # The answer that each process was given last, as far as it has certainly reached its socket.
        self._last: dict[Life, bytes] = {}
        self._issuing: dict[SpiffeId, asyncio.Future[None]] = {}
        self._strangers = Strangers()
        self._takers = Takers(kept, clock.now, self.in_worker)
        self._ended = ended
        self._news = BundleNews(lambda: self.in_worker(issuer.bundles), self._carry, look_seconds)
        self._bundle_holder = new_holder()
        self._report_at = 0.0
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
        self._strangers.close()
        names = [name for audience in self._audiences.values() for name in audience.names]
        for holder in (*names, *self._takers.former) if self._takes_all_along else ():
            # Nobody who is away has to be told; the certificate ends by itself.
            with contextlib.suppress(SpangateError):
                await self.in_worker(partial(self._issuer.gone, holder))
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
        identity = self._streams.pop(call, None)
        if identity is None:
            return
        if identity in self._audiences:
            self._audiences[identity].ended(call)
        self._news.ended(call)

    def left(self, connection: Connection, process: PeerProcess) -> None:
        """The connection has ended. Takes `process` over."""
        life = self._strangers.left(connection, process, _seconds())
        if life is not None:
            for audience in self._audiences.values():
                audience.merge(life, self._strangers.anybody)

    async def give(self, call: Call, identity: SpiffeId, process: PeerProcess, *, still: Callable[[], bool]) -> None:
        """Gives what `identity` has, and what comes in its place, if `still` says so then. Raises Gone, and what
        issuing and `still` raise.
        """
        if not call.open:
            return
        life = process.life() or self._strangers.life(call.connection)
        audience = self._audiences.setdefault(identity, Audience())
        audience.comes(life)
        given = False
        try:
            held = await self._for_one_more(identity, audience)
            if given := still():
                self._streams[call] = identity
                audience.listens(call, life, _seconds())
                self._send(call, life, held.answer)
        finally:
            if not given:
                audience.comes_not(life)

    async def _for_one_more(self, identity: SpiffeId, audience: Audience) -> _Held:
        """What is there already, or a new one; that it is given to whoever comes has been written down."""
        noted: tuple[str, ...] = ()
        await self._news.known()
        while True:
            held = self._held.get(identity)
            if held is None or held.svid.not_after <= self._clock.now():
                await self._issue(identity, audience)
            elif audience.holder in noted:
                return held
            else:
                noted = audience.names
                await self._takers.note(audience.changes())

    def wait_for_bundles(self, call: Call, identity: SpiffeId) -> None:
        """Gives those that are known, and what comes in their place."""
        self._streams[call] = identity
        self._news.wait(call)

    # Certificates and bundles

    async def _issue(self, identity: SpiffeId, audience: Audience) -> None:
        """A new certificate, in place of the one before; one at a time for each identity."""
        if identity not in self._issuing:
            future = self._issuing[identity] = asyncio.ensure_future(self._issue_now(identity, audience))
            future.add_done_callback(lambda _: self._issuing.pop(identity))
        await asyncio.shield(self._issuing[identity])

    async def _issue_now(self, identity: SpiffeId, audience: Audience) -> None:
        bundles = await self._news.known()
        if audience.idle:
            audience.follow()
        # Before it is signed: a name of which nobody is written down would be waited for by whoever comes after us.
        name = audience.names[-1]
        await self._takers.note(audience.changes())
        signer = await self.in_worker(self._issuer.signer)
        svid, root = await self.in_worker(partial(self._signed, identity, name))
        due = renew_at(self._clock.now(), svid.not_after, self._jitter())
        held = _Held(svid, root, signer, x509_svid_answer(svid, self._news.last or bundles), due)
        before, self._held[identity] = self._held.get(identity), held
        if before is not None and name != audience.holder:
            self._takers.succeeded(*audience.succeed(), before.svid.not_after)
        self._tell(audience, held)

    def _signed(self, identity: SpiffeId, holder: str) -> tuple[X509Svid, str]:
        svid = self._issuer.x509_svid(identity, holder)
        return svid, root_over(svid.chain_pem, svid.bundle_pem)

    @property
    def bundles(self) -> Bundles | None:
        """Those of the last look, if that was just now."""
        return self._news.fresh

    async def known_bundles(self) -> Bundles:
        """Those of now, or of less than a look ago. Raises SpangateError."""
        return await self._news.known()

    async def _look_again(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(self._look_seconds)
            try:
                await self.look()
                told = ""
            # What is tended here must outlive any defect: without it certificates would end, unexplained.
            except Exception as error:  # noqa: BLE001
                text = f"the Workload API cannot look for changes: {error or type(error).__name__}"
                if text != told:
                    self._problem(text)
                told = text

    async def look(self) -> None:
        """Tells whoever waits of what has changed since the last look, and the authority of who has what."""
        await self._tell_changes()
        unused = await self._settle()
        await self._report()
        for holder in unused:
            await self.in_worker(partial(self._issuer.gone, holder))
            self._takers.gone(holder)

    async def _tell_changes(self) -> None:
        if self._streams or self._held:
            await self._news.look()
        signer = await self.in_worker(self._issuer.signer) if self._held else ""
        now = self._clock.now()
        for identity, audience in tuple(self._audiences.items()):
            held = self._held.get(identity)
            if held is not None and held.signer != signer:
                held.signer, held.renew_at = signer, now
            if audience.empty:
                if held is None or not audience.idle or held.renew_at <= now:
                    self._drop(identity, audience)  # whoever asks next gets a new one
            elif audience.waiting and held is not None and held.renew_at <= now:
                await self._renew(identity, audience, held, now)
            for call in audience.catch_up(_seconds()):
                call.connection.abort()

    def _drop(self, identity: SpiffeId, audience: Audience) -> None:
        """Nobody waits for more of it."""
        del self._audiences[identity]
        held = self._held.pop(identity, None)
        until = self._clock.now() if held is None else held.svid.not_after
        following = audience.following
        audience.following = None
        self._takers.succeeded(*audience.succeed(), until)
        if following is not None:
            self._takers.succeeded(following, {}, (), until)

    async def _settle(self) -> list[str]:
        """Lets go of who has ended, also in what is written down. The names of which nobody has anything."""
        audiences = self._audiences.values()
        departed = self._strangers.ended(_seconds())
        self._settled(departed)
        asked = self._takers.waited_for().union(*(audience.idle for audience in audiences))
        if asked:
            departed = await self.in_worker(lambda: {life for life in asked if self._ended(life)})
        unused = self._settled(departed)
        changes: dict[tuple[str, Life], int | None] = {}
        for audience in audiences:
            changes.update(audience.changes())
        await self._takers.note(changes)
        if departed or unused:
            known = self._takers.waited_for().union(*(one.idle.union(one.streams) for one in audiences))
            self._last = {life: answer for life, answer in self._last.items() if life in known}
        return unused

    def _settled(self, departed: Collection[Life]) -> list[str]:
        """The names of which nobody has anything, now that these have ended."""
        audiences, listening, behind = self._audiences.values(), Counter[Life](), set[Life]()
        answers: set[bytes] = set()
        if self._takers.former or any(audience.idle for audience in audiences):
            for audience in audiences:
                listening.update(audience.streams)
                behind.update(audience.waiting[call] for call in audience.behind)
            answers.update(held.answer for held in self._held.values())
        # Who has not been given the latest on each of its streams may use something else on one.
        for life in behind:
            listening.pop(life, None)
        current = {life for life, answer in self._last.items() if answer in answers} - behind
        for identity, audience in self._audiences.items():
            audience.settle(departed)
            audience.settle(listening)
            if audience.idle and identity in self._held:
                # Who was given another identity's last uses that.
                answer = self._held[identity].answer
                audience.settle({life for life in audience.idle & current if self._last[life] != answer})
        return self._takers.settle(departed, listening, current)

    async def _report(self) -> None:
        """Tells the authority what those who listen have been given."""
        now = self._clock.now()
        if self._news.last is None or _seconds() < self._report_at:
            return
        self._report_at = _seconds() + REPORT_SECONDS
        reports: list[tuple[_Held | None, Callable[[], bool]]] = []
        for identity, audience in self._audiences.items():
            held = self._held.get(identity)
            if held is not None and audience.follows(partial(self._was_given, held.answer)):
                trusts = self._news.roots(identity.trust_domain)
                reports.append((held, partial(self._issuer.report, audience.holder, identity, trusts, held.root)))
        if self._news.all_told():
            trusts = self._news.roots(next(iter(self._streams.values())).trust_domain)
            reports.append((None, partial(self._issuer.report, self._bundle_holder, None, trusts, "")))
        answers = await self.in_worker(lambda: [report() for _, report in reports])
        for (held_or_none, _), renew in zip(reports, answers, strict=True):
            if renew and held_or_none is not None:
                held_or_none.renew_at = now

    def _carry(self, bundles: Bundles) -> None:
        """Certificates come with their bundles."""
        for identity, held in self._held.items():
            held.answer = x509_svid_answer(held.svid, bundles)
            self._tell(self._audiences[identity], held)

    async def _renew(self, identity: SpiffeId, audience: Audience, held: _Held, now: datetime) -> None:
        try:
            await self._issue(identity, audience)
        except Exception as error:  # noqa: BLE001 - the others must be renewed whatever is wrong with this one
            held.failures += 1
            held.renew_at = now + timedelta(seconds=retry_after(held.failures, self._jitter()))
            self._problem(f"cannot renew the certificate of `{identity}`: {error or type(error).__name__}")
            if held.svid.not_after <= now:
                for call in tuple(audience.waiting):
                    call.finish(Status.UNAVAILABLE, "the certificate has ended and there is no new one")

    def _tell(self, audience: Audience, held: _Held) -> None:
        audience.told(_seconds())
        for call, life in tuple(audience.waiting.items()):
            self._send(call, life, held.answer)

    def _send(self, call: Call, life: Life, answer: bytes) -> None:
        call.send(answer)
        if call.delivered and life.system:
            self._last[life] = answer
        else:
            self._last.pop(life, None)

    def _was_given(self, answer: bytes, life: Life) -> bool:
        """Whether that is what the process was given last."""
        return self._last.get(life) == answer


def _seconds() -> float:
    """The event loop's time."""
    return asyncio.get_running_loop().time()
