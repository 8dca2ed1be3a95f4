"""Serves one ASGI application over TLS on TCP, with a certificate that is renewed while it serves.

Rules: TLS 1.3 only. Key and certificate are in memory: Python's ssl reads them from a file, so they are put into one
that has no name and no disk (memfd), for the moment of reading. A renewed pair is for handshakes from then on. A
connection lives for seconds, whatever it does: it is for a request or two. There are so many at once, from the moment
that they are accepted; when they are all taken the oldest has to go, so that nobody holds a place by being slow.
Not here: what is served (attest_door.py), who renews (renewer.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from spangate.adapters.nameless_file import nameless_file
from spangate.adapters.sds_door import InUse, PublicParts, Secrets, SecretSource
from spangate.adapters.unix_server import GRACE_SECONDS, START_SECONDS_MAX, bounded
from spangate.errors import Broken, TryAgain, YourFault

CONNECTIONS_MAX = 1024
CONNECTION_SECONDS_MAX = 30.0
_WAITING_MAX = 256


class TlsSecrets(SecretSource):
    """The pair that a TLS server shows, as the renewer fills it."""

    def __init__(self) -> None:
        super().__init__()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        # Each handshake is a new one: what was believed before a renewal is not taken up again.
        self.context.num_tickets = 0
        self.context.set_alpn_protocols(["http/1.1"])

    def replace(self, secrets: Secrets) -> None:
        """From now on, `secrets`, whole."""
        super().replace(secrets)
        with nameless_file(secrets.chain_pem + secrets.key_pem) as path:
            self.context.load_cert_chain(path)

    def in_use(self) -> InUse:
        """What is shown: that with which it was filled last. Nobody is verified by the bundle."""
        current = self.current()
        parts = None if current is None else PublicParts(current.chain_pem, current.bundle_pem)
        return InUse(parts, parts)


class TlsServer:
    """Serves in a thread of its own. The pair must be there before `start`."""

    def __init__(
        self,
        application: ASGIApp,
        listener: socket.socket,
        secrets: TlsSecrets,
        *,
        name: str,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """Takes `listener` over."""
        self._listener = BoundedListener(listener, connections_max)
        self._name = name
        self._server = uvicorn.Server(
            uvicorn.Config(
                bounded(application),
                http=_ShortConnection,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ssl_context_factory=lambda _config, _default: secrets.context,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Returns once it answers."""
        if self._thread is not None:
            raise Broken(f"the {self._name} is started twice")
        self._thread = threading.Thread(
            target=self._server.run, args=([self._listener],), name=f"spangate-{self._name}", daemon=True
        )
        self._thread.start()
        waited = threading.Event()
        step = 0.005
        for _ in range(int(START_SECONDS_MAX / step)):
            if self._server.started:
                return
            waited.wait(step)
        raise Broken(f"the {self._name} did not start")

    def stop(self) -> None:
        """Safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._server.should_exit = True
            thread.join(timeout=GRACE_SECONDS + 3)
            self._listener.close()

    def __enter__(self) -> TlsServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _ShortConnection(H11Protocol):
    """One for not too long."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._end = asyncio.get_running_loop().call_later(CONNECTION_SECONDS_MAX, transport.abort)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)


class BoundedListener(socket.socket):
    """A listening socket whose connections are counted from their first moment, before any handshake."""

    def __init__(self, listener: socket.socket, connections_max: int) -> None:
        """Takes `listener` over."""
        super().__init__(fileno=listener.detach())
        self._open: dict[_Counted, None] = {}
        self._connections_max = connections_max

    def accept(self) -> tuple[socket.socket, Any]:
        """As of every socket; the oldest connection ends if there would be too many."""
        accepted, address = super().accept()
        connection = _Counted(self._open, accepted.detach())
        if len(self._open) >= self._connections_max:
            oldest = next(iter(self._open))
            del self._open[oldest]
            with contextlib.suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        self._open[connection] = None
        return connection, address


class _Counted(socket.socket):
    def __init__(self, among: dict[_Counted, None], fileno: int) -> None:
        super().__init__(fileno=fileno)
        self._among = among

    def __hash__(self) -> int:
        return id(self)

    def close(self) -> None:
        self._among.pop(self, None)
        super().close()


def tcp_listener(address: str) -> socket.socket:
    """A listening socket at `host:port`; port 0 lets the kernel choose. Raises YourFault, TryAgain."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise YourFault(f"`{address}` is not of the form `host:port`", help="for instance `0.0.0.0:8443`")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][0]
    except OSError as error:
        raise YourFault(f"`{host}` is not an address of this machine in numbers") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, int(port)))
        listener.listen(_WAITING_MAX)
    except OSError as error:
        listener.close()
        raise TryAgain(f"cannot listen at {address}: {error.strerror}", help="choose another address") from error
    return listener
