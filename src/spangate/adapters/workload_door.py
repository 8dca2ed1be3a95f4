"""The SPIFFE Workload API: who asks, whether they may, and what they are answered.

Rules: each call asks the kernel again who the process is, and gives it what its one identity has; without one,
PERMISSION_DENIED and no word on why. A change of identities reaches every open stream at once. Users have equal bounds.
Not here: what there is to give, and news of it (workload_supply.py), messages (authority/workload_api.py), HTTP/2
(grpc_connection.py), the socket (workload_server.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from spangate.adapters.grpc_connection import Call, Connection
from spangate.adapters.unix_peers import Gone, PeerProcess
from spangate.adapters.workload_supply import Supply
from spangate.authority.jwt_reader import BadToken
from spangate.authority.unix_attestation import SeveralFit
from spangate.authority.workload_api import (
    Issuer,
    Method,
    Refused,
    Status,
    jwt_svid_answer,
    read_empty_request,
    read_jwt_request,
    read_validation_request,
    validated_answer,
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
# Sentences about processes that fit several identities; each is said once.
_TOLD_MAX = 100


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
        supply: Supply,
        *,
        problem: Callable[[str], None],
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """`supply` is of the same `issuer`."""
        self._issuer = issuer
        self._attester = attester
        self._supply = supply
        self._problem = problem
        self._connections_max = connections_max
        self._processes: dict[Connection, PeerProcess] = {}
        self._connections_of: Counter[int] = Counter()
        # Streams, also those that still wait for their first answer, each with its user.
        self._user_of: dict[Call, int] = {}
        self._streams_of: Counter[int] = Counter()
        self._work_of: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: set[str] = set()

    # Life

    def begin(self) -> None:
        """From here on the event loop runs."""
        self._supply.begin()

    async def end(self) -> None:
        """Ends every connection; waits for what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in tuple(self._processes):
            connection.abort()
        await asyncio.sleep(0)  # until they know that they have ended
        await self._supply.end()

    def attester_changed(self, attester: Attester) -> None:
        """Another intent: streams whose process is somebody else by it end, and are opened anew by their clients."""
        self._attester = attester
        for call, before in tuple(self._supply.streams.items()):
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
        self._supply.left(connection, process)

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
        uid = self._user_of.pop(call, None)
        if uid is not None:
            self._streams_of[uid] -= 1
            if self._streams_of[uid] <= 0:
                del self._streams_of[uid]
        self._supply.ended(call)

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
        uid = self._processes[call.connection].uid
        if len(self._user_of) >= STREAMS_MAX or self._streams_of[uid] >= STREAMS_MAX * USER_SHARE:
            raise Refused(Status.UNAVAILABLE, "there are too many streams")
        self._user_of[call] = uid
        self._streams_of[uid] += 1
        # Not bounded as other work: a stream has its place already, and many wait for one signature, record or answer.
        if call.method is Method.X509_SVID:
            process, still = self._processes[call.connection], partial(self._still, call, identity)
            self._spawn(self._handled(call, self._supply.give(call, identity, process, still=still)))
        elif self._supply.bundles is not None:
            self._supply.wait_for_bundles(call, identity)
        else:
            self._spawn(self._handled(call, self._first_bundles(call, identity)))

    async def _first_bundles(self, call: Call, identity: SpiffeId) -> None:
        await self._supply.known_bundles()
        if self._still(call, identity):
            self._supply.wait_for_bundles(call, identity)

    async def _jwt_svid(self, call: Call, identity: SpiffeId, audiences: tuple[str, ...]) -> None:
        token = await self._supply.in_worker(lambda: self._issuer.jwt_svid(identity, audiences))
        if self._still(call, identity):
            call.send(jwt_svid_answer(identity, token))
            call.finish(Status.OK)

    async def _validation(self, call: Call, token: str, audience: str) -> None:
        try:
            found = await self._supply.in_worker(lambda: self._issuer.validate(token, audience))
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
                await self._handled(call, answer)
            finally:
                self._work_of[uid] -= 1
                if self._work_of[uid] <= 0:
                    del self._work_of[uid]

        self._spawn(answered())

    async def _handled(self, call: Call, answer: Awaitable[None]) -> None:
        """The answer, or the call's end with what was raised instead."""
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

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_OTHER = (Status.UNAVAILABLE, "this process has another identity now")
_NOBODY = (Status.PERMISSION_DENIED, "no identity is defined for this process")


def _status(error: SpangateError) -> Status:
    if isinstance(error, TryAgain):
        return Status.UNAVAILABLE
    return Status.INVALID_ARGUMENT if isinstance(error, YourFault) else Status.INTERNAL
