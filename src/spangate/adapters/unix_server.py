"""Serves one ASGI application on a Unix-domain socket, in a thread of its own.

Rules: only the own user gets in, by two locks: the socket (0600) lies in a directory that nobody else may enter
(0700), and every connection's peer is asked of the kernel (SO_PEERCRED) before a byte is read. A socket left behind by
a dead process is removed; one that somebody listens on is not. A socket that was handed over is served as it is.
Not here: what is served (svid_door.py, sds_door.py, the checkpoint's door).
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from spangate.adapters.http_admission import admitting
from spangate.errors import Broken, TryAgain, YourFault

# sockaddr_un.sun_path has 108 bytes, one for the final NUL (unix(7)); Envoy's `pipe` address has the same bound.
SOCKET_PATH_BYTES_MAX = 107
SOCKET_MODE = 0o600
DIRECTORY_MODE = 0o700
# Who connects is asked of the kernel, connection by connection.
SHARED_SOCKET_MODE = 0o666
# struct ucred { pid_t pid; uid_t uid; gid_t gid; }  (unix(7), SO_PEERCRED)
_UCRED = struct.Struct("iII")

# Idle ones cost a file descriptor each, and clients keep theirs: a gateway up to 64 (compiler/gateway.py), so this is
# for a few dozen gateways. Past it, or past half of the descriptors that the process may have (the rest is for files
# and other doors), a new connection is closed unread.
CONNECTIONS_MAX = 4096
# Being answered at once, over all connections. Past it: 503, and the client tries again.
REQUESTS_MAX = 256
# Connections that wait while nobody serves a socket of `listening`: all that may be open, and the kernel's own bound.
_WAITING_MAX = CONNECTIONS_MAX
# Envoy closes an idle upstream connection after 1 h. Were we to close first, a request just being sent would be lost.
KEEP_ALIVE_SECONDS = 2 * 3600
# As the kernel follows (path_resolution(7)).
_LINKS_MAX = 40
# In the state of a request's scope.
PEER_PID = "spangate_peer_pid"
# Answers take milliseconds; whoever is not done by then is hanging.
GRACE_SECONDS = 2
# Starting is a matter of milliseconds; a machine under load gets patience.
START_SECONDS_MAX = 10.0


class UnixServer:
    """`start` returns once the socket accepts connections; `stop` once the thread has ended and the file is gone.

    `application` is an ASGI application without a lifespan; it runs on one event loop in one thread. `listener`: a
    socket that listens at `path` already and belongs to somebody else, whose it stays; whoever connects to it while
    nobody serves it waits. `peer_pid`: the one process that gets in; `admits`: what decides which one of the user's
    does; else every one.
    """

    def __init__(
        self,
        application: ASGIApp,
        path: Path,
        *,
        name: str = "door",
        peer_uid: int | None = None,
        peer_pid: int | None = None,
        admits: Callable[[socket.socket], bool] | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self.path = path
        self._listener = listener
        self._peer = _Peer(os.getuid() if peer_uid is None else peer_uid, peer_pid, admits)
        self._server = uvicorn.Server(
            uvicorn.Config(
                bounded(application),
                http=_only(self._peer, _connections_max()),
                ws="none",
                loop="asyncio",
                lifespan="off",
                # The program that starts us owns the terminal: nothing below an error speaks, and no request is logged.
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                # uvicorn would count connections, idle ones too: a few gateways could not ask any more.
                limit_concurrency=None,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._name = name
        self._thread: threading.Thread | None = None
        self._inode: tuple[int, int] | None = None

    def start(self) -> None:
        """Bind and serve. Raises YourFault (path too long, directory open to others), TryAgain (somebody listens)."""
        if self._thread is not None:
            raise Broken(f"the {self._name} is started twice")
        listener = self._listener or bind(self.path)
        if self._listener is None:
            status = self.path.stat()
            self._inode = (status.st_dev, status.st_ino)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name=f"spangate-{self._name}", daemon=True
        )
        self._thread.start()
        self._wait_until_started(listener)

    def _wait_until_started(self, listener: socket.socket) -> None:
        waited = threading.Event()
        step = 0.005
        for _ in range(int(START_SECONDS_MAX / step)):
            if self._server.started:
                return
            if self._thread is None or not self._thread.is_alive():
                break
            waited.wait(step)
        self._server.should_exit = True
        listener.close()
        self._remove_socket()
        raise Broken(f"the {self._name} at `{self.path}` did not start")

    def stop(self) -> None:
        """Stop accepting, let open requests end (at most GRACE_SECONDS), remove the socket. Safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._server.should_exit = True
        thread.join(timeout=GRACE_SECONDS + 3)
        self._remove_socket()

    def _remove_socket(self) -> None:
        """Only if it is still ours: a successor may have bound the same path already."""
        with contextlib.suppress(FileNotFoundError):
            status = self.path.lstat()
            if (status.st_dev, status.st_ino) == self._inode:
                self.path.unlink()

    def __enter__(self) -> UnixServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def bind(path: Path) -> socket.socket:
    """A listening-ready socket at `path`, 0600, in a directory of 0700 that is made if need be."""
    check_socket_path(path)
    _check_directory(path.parent)
    return _bound(path, SOCKET_MODE)


def bind_for_all(path: Path) -> socket.socket:
    """A listening-ready socket at `path` that every user may connect to, in a directory that no other user may write.

    Whoever could write there, or exchange a directory or link on the way there, could put a socket of its own in our
    place. Raises YourFault, TryAgain.
    """
    check_socket_path(path)
    try:
        shared = next(filter(_others_may_exchange, _way_to(path.parent)), None)
        if shared is None and _others_may_write(path.parent):
            shared = path.parent
    except OSError as e:
        raise YourFault(f"cannot use the directory `{path.parent}`: {e.strerror}", help="make it first") from e
    if shared is not None:
        raise YourFault(
            f"other users may write in `{shared}`, and could put a socket of their own in the place of `{path}`",
            help="choose a directory of your own below directories of root: mkdir -m 755 /run/spangate",
        )
    return _bound(path, SHARED_SOCKET_MODE)


def _way_to(directory: Path) -> Iterator[Path]:
    """Every directory and link by which `directory` is found, from the root on. Raises OSError."""
    waiting, at, links = list(reversed(directory.absolute().parts[1:])), Path("/"), 0
    yield at
    while waiting:
        name = waiting.pop()
        at = at.parent if name == ".." else at / name
        yield at
        if at.is_symlink():
            links += 1
            if links > _LINKS_MAX:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = at.readlink()
            waiting.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
            at = Path("/") if target.is_absolute() else at.parent


def _others_may_write(directory: Path) -> bool:
    status = directory.stat()
    return status.st_uid not in {0, os.getuid()} or bool(stat.S_IMODE(status.st_mode) & 0o022)


def _others_may_exchange(step: Path) -> bool:
    """Whether others than root may exchange what lies in a directory, or to where a link leads."""
    status = step.lstat()
    if status.st_uid not in {0, os.getuid()}:
        return True
    # A link's mode says nothing. In a directory such as /tmp nobody may take away what is another's (inode(7)).
    mode = status.st_mode
    return stat.S_ISDIR(mode) and bool(mode & 0o022) and not mode & stat.S_ISVTX


def _bound(path: Path, mode: int) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(mode)
    except OSError as e:
        listener.close()
        raise TryAgain(f"cannot listen at `{path}`: {e.strerror}") from e
    return listener


def listening(path: Path, *, for_all: bool = False) -> socket.socket:
    """As `bind`, or `bind_for_all`, and listening: for a process that is started, and started again, to serve it. The
    opener closes it and removes the file.
    """
    listener = bind_for_all(path) if for_all else bind(path)
    listener.listen(_WAITING_MAX)
    return listener


def check_socket_path(path: Path) -> Path:
    """`path`, if a Unix socket can lie there; else YourFault."""
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_BYTES_MAX:
        raise YourFault(
            f"the path `{path}` is {length} bytes long; the path of a Unix socket has at most {SOCKET_PATH_BYTES_MAX}",
            help="choose a state directory with a shorter path",
        )
    return path


def peer_uid(connection: socket.socket) -> int:
    """The user id at the other end of a connected Unix socket, as the kernel noted it on connect or listen."""
    return _peer_of(connection)[1]


def _peer_of(connection: socket.socket) -> tuple[int, int]:
    """Process id and user id, likewise."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(credentials)
    return int(pid), int(uid)


def pid_of(request: Request) -> int:
    """The process at the other end of a request's connection, as the kernel noted it; 0 if it does not say."""
    found = request.scope.get("state", {}).get(PEER_PID, 0)
    return found if isinstance(found, int) else 0


@dataclass(frozen=True, slots=True)
class _Peer:
    """Who gets in: a user's processes, or one of them."""

    uid: int
    pid: int | None
    admits: Callable[[socket.socket], bool] | None

    def is_at(self, connection: socket.socket) -> bool:
        pid, uid = _peer_of(connection)
        if uid != self.uid or self.pid not in (None, pid):
            return False
        return self.admits is None or self.admits(connection)


async def read_body(request: Request, bytes_max: int) -> bytes | None:
    """The body, or None if it is longer than `bytes_max`. Never holds more than that and one chunk."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > bytes_max:
            return None
    return bytes(body)


def _check_directory(directory: Path) -> None:
    directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.getuid():
        raise YourFault(f"the directory `{directory}` belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise YourFault(
            f"the directory `{directory}` is open to other users",
            help=f"chmod 700 {directory}",
        )


def _remove_stale(path: Path) -> None:
    """A socket that nobody listens on is what a killed process left behind. Anything else stays."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise YourFault(f"`{path}` exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError as e:
            raise TryAgain(f"cannot tell whether `{path}` is in use: {e}") from e
    raise TryAgain(f"another process listens at `{path}`", help="is `spangate up` running already?")


def _connections_max() -> int:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if descriptors == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, descriptors // 2)


def bounded(application: ASGIApp) -> ASGIApp:
    """`application` for REQUESTS_MAX at once. All on one event loop, so a number is enough."""
    running = 0

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        if running >= REQUESTS_MAX:
            await PlainTextResponse("too many requests at once", 503)(scope, receive, send)
            return
        running += 1
        try:
            await application(scope, receive, send)
        finally:
            running -= 1

    return answer


def _only(peer: _Peer, connections_max: int) -> type[H11Protocol]:
    def admitted(connection: socket.socket, others: int) -> Mapping[str, object] | None:
        if others >= connections_max or not peer.is_at(connection):
            return None
        # For the application: whose process it is, by the kernel.
        return {PEER_PID: _peer_of(connection)[0]}

    return admitting(admitted)
