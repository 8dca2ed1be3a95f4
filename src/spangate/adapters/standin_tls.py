"""TLS in front of the stand-in: it asks for a client certificate, and takes any.

Rules: whether a certificate is believed is the provider's question and gets an answer with a reason (standin/); the
handshake proves only that the client holds its key. The standard library cannot ask without judging, so OpenSSL is
spoken to by pyOpenSSL, through memory. No session is resumed: each connection shows its certificate. The stand-in's own
certificate is made anew with each start, for 127.0.0.1 and `localhost`; clients are given it as their only root.
Not here: HTTP (uvicorn's protocol runs inside), who is let in (standin/certificates.py).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from spangate.adapters.standin_door import CERTIFICATE

# A stand-in that runs longer is started again.
LIFETIME = timedelta(days=30)
BACKDATE = timedelta(minutes=5)
# A handshake takes milliseconds; who is not through by then holds a connection for nothing.
HANDSHAKE_SECONDS_MAX = 10.0
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The stand-in's own certificate, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> str:
        """What clients have to trust."""
        return self.certificate.public_bytes(Encoding.PEM).decode("ascii")


def new_identity(now: datetime) -> ServerIdentity:
    """Self-signed, for loopback only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Spangate's stand-in for Google (not Google)")])
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return ServerIdentity(certificate, key)


def tls_protocol(identity: ServerIdentity) -> type[asyncio.Protocol]:
    """What uvicorn takes as its HTTP protocol: TLS with HTTP/1.1 inside."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate(identity.certificate)
    context.use_privatekey(identity.key)
    # Asked for, and not judged: the callback says yes to whatever chain there is.
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)

    class Tls(_TlsProtocol):
        tls_context = context

    return Tls


class _TlsProtocol(asyncio.Protocol):
    """One connection: bytes through OpenSSL, then in plain to uvicorn's protocol, together with the certificate."""

    tls_context: SSL.Context

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._inner = H11Protocol(config, server_state, app_state, _loop)
        self._tls = SSL.Connection(self.tls_context, None)
        self._tls.set_accept_state()
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream is needed")
        self._transport = transport
        self._patience = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS_MAX, self._impatient)

    def _impatient(self) -> None:
        if not self._open:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._tls.bio_write(data)
        try:
            if not self._open:
                self._shake_hands()
            while True:
                self._inner.data_received(self._tls.recv(_CHUNK_BYTES))
        except SSL.WantReadError:
            self.flush()
        except SSL.ZeroReturnError:
            self.flush()
            self._transport.close()
        except SSL.Error:
            # The alert that says why, then the end.
            self.flush()
            self._transport.close()

    def _shake_hands(self) -> None:
        self._tls.do_handshake()
        self._open = True
        self._patience.cancel()
        shown = self._tls.get_peer_certificate(as_cryptography=True)
        der = None if shown is None else shown.public_bytes(Encoding.DER)
        self._inner.app = _showing(self._inner.app, der)
        self._inner.connection_made(_Plain(self._transport, self._tls, self))

    def flush(self) -> None:
        """What OpenSSL has to say, to the socket."""
        while True:
            try:
                data = self._tls.bio_read(_CHUNK_BYTES)
            except SSL.Error:  # nothing more
                return
            if not self._transport.is_closing():
                self._transport.write(data)

    def eof_received(self) -> bool | None:
        self._transport.close()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        if self._open:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._open:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._open:
            self._inner.resume_writing()


class _Plain(asyncio.Transport):
    """The inside of the connection, as uvicorn sees it."""

    def __init__(self, outer: asyncio.Transport, tls: SSL.Connection, protocol: _TlsProtocol) -> None:
        super().__init__()
        self._outer = outer
        self._tls = tls
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        left = bytes(data)
        while left and not self._outer.is_closing():
            # Into memory, which takes all of it; a part at a time at most.
            left = left[self._tls.send(left[:_CHUNK_BYTES]) :]
        self._protocol.flush()

    def close(self) -> None:
        if not self._outer.is_closing():
            self._tls.shutdown()
            self._protocol.flush()
        self._outer.close()

    def abort(self) -> None:
        self._outer.abort()

    def is_closing(self) -> bool:
        return self._outer.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's
        # What uvicorn tells https by.
        return self._tls if name == "sslcontext" else self._outer.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._outer.pause_reading()

    def resume_reading(self) -> None:
        self._outer.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        raise NotImplementedError("there is one protocol inside")


def _showing(application: ASGIApp, certificate: bytes | None) -> Any:  # noqa: ANN401 - uvicorn's own type of it
    """`application`, told what the client showed."""

    async def shown(scope: Scope, receive: Receive, send: Send) -> None:
        extended: Mapping[str, Any] = {**scope, CERTIFICATE: certificate}
        await application(dict(extended), receive, send)

    return shown
