"""Serves the Workload API on a Unix socket, on one event loop in a thread of its own.

Rules: the socket is for the own user, or, where the operator has named its path, for every user of the machine: who
connects is asked of the kernel. As many connections are taken as a half of the descriptors allow. What a dead process
left behind is removed; what somebody listens on is not.
Not here: who is served (workload_door.py), and what (workload_supply.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from spangate.adapters.grpc_connection import Connection
from spangate.adapters.process_life import ended
from spangate.adapters.unix_peers import SystemAccounts
from spangate.adapters.unix_server import START_SECONDS_MAX, bind, bind_for_all
from spangate.adapters.workload_door import CONNECTIONS_MAX, Attester, WorkloadDoor
from spangate.adapters.workload_supply import LOOK_SECONDS, Clock, Supply
from spangate.authority.ledger import Takings
from spangate.authority.unix_attestation import attest
from spangate.authority.workload_api import Issuer
from spangate.errors import Broken
from spangate.model.identity import SpiffeId
from spangate.model.unix import UnixPeer, UnixSelectors

# A connection and its pidfd; the other half of the descriptors is for everything else.
_DESCRIPTORS_OF_CONNECTION = 2
_DESCRIPTORS_WANTED = 2 * _DESCRIPTORS_OF_CONNECTION * CONNECTIONS_MAX
_BACKLOG = 1024
# Ends are a matter of milliseconds; a certificate being signed is waited for.
_END_SECONDS_MAX = 10.0


class BySelectors:
    """An identity for each process, by what the intent says under `unix`."""

    def __init__(self, selectors: Mapping[SpiffeId, UnixSelectors], accounts: SystemAccounts | None = None) -> None:
        self._selectors = selectors
        self._accounts = accounts or SystemAccounts()
        self._wants_executable = any(one.executable is not None for one in selectors.values())

    @property
    def wants_executable(self) -> bool:
        """Whether any identity names one."""
        return self._wants_executable

    def identity(self, peer: UnixPeer) -> SpiffeId | None:
        """The identity of `peer`, None if it has none. Raises SeveralFit."""
        return attest(peer, self._selectors, self._accounts)


class OneForUser:
    """One identity, for every process of one user."""

    wants_executable = False

    def __init__(self, identity: SpiffeId, uid: int) -> None:
        self._identity = identity
        self._uid = uid

    def identity(self, peer: UnixPeer) -> SpiffeId | None:
        """The identity, None for another user."""
        return self._identity if peer.uid == self._uid else None


class WorkloadServer:
    """`start` returns once the socket accepts connections; `stop` once the thread has ended and the file is gone.

    `listener`: a socket that listens at `path` already; its file is somebody else's to remove. `kept`: see Supply.
    """

    def __init__(
        self,
        issuer: Issuer,
        attester: Attester,
        path: Path,
        *,
        clock: Clock,
        problem: Callable[[str], None],
        for_all: bool = False,
        listener: socket.socket | None = None,
        look_seconds: float = LOOK_SECONDS,
        takes_all_along: bool = False,
        kept: Takings | None = None,
    ) -> None:
        self.path = path
        self._for_all = for_all
        self._listener = listener
        supply = Supply(
            issuer,
            clock=clock,
            problem=problem,
            look_seconds=look_seconds,
            takes_all_along=takes_all_along,
            kept=kept,
            ended=ended,
        )
        self._door = WorkloadDoor(issuer, attester, supply, problem=problem, connections_max=_connections_max())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._ready = threading.Event()
        self._inode: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bind and serve. Raises YourFault, TryAgain."""
        if self._thread is not None:
            raise Broken("the Workload API is started twice")
        listener = self._listener or (bind_for_all if self._for_all else bind)(self.path)
        if self._listener is None:
            status = self.path.stat()
            self._inode = (status.st_dev, status.st_ino)

        async def serve() -> None:
            self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
            server = await self._loop.create_unix_server(
                lambda: Connection(self._door), sock=listener, backlog=_BACKLOG
            )
            self._door.begin()
            self._ready.set()
            await self._ended.wait()
            server.close()
            await self._door.end()

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="spangate-workload-api", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_SECONDS_MAX):
            raise Broken(f"the Workload API at `{self.path}` did not start")

    def attester_changed(self, attester: Attester) -> None:
        """Processes are somebody else from now on."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._door.attester_changed, attester)

    def stop(self) -> None:
        """Safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._ended is None:
            return
        self._loop.call_soon_threadsafe(self._ended.set)
        thread.join(timeout=_END_SECONDS_MAX)
        with contextlib.suppress(FileNotFoundError):
            status = self.path.lstat()
            if (status.st_dev, status.st_ino) == self._inode:
                self.path.unlink()

    def __enter__(self) -> WorkloadServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def raise_descriptors() -> None:
    """Lets this process have as many file descriptors as it may: 1,024, the usual start, are 256 connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS_WANTED)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _connections_max() -> int:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, descriptors // (2 * _DESCRIPTORS_OF_CONNECTION))
