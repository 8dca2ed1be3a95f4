"""A client that sends any bytes as the body of a gRPC call: the least of HTTP/2 that a server understands.

One request after the other, on one connection; answers are awaited, not read: what was decided is in the gateway's log.
Source: RFC 9113 (frames), RFC 7541 section 6.2.2 (literal header fields, not indexed, no Huffman code).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
FRAME_BYTES_MAX = 16_384
SECONDS = 30.0


def alert(address: str, context: ssl.SSLContext) -> str:
    """The TLS alert by which the other side ends the handshake, as OpenSSL calls it; empty if there is none.

    In TLS 1.3 the client's handshake is done before the other side has looked at its certificate, so the alert comes
    with what is read next. Nothing is sent: a write on a connection that is closed already would hide the alert.
    """
    host, _, port = address.rpartition(":")
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, int(port)), timeout=SECONDS) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                # The first bytes are the settings of one who has accepted the handshake.
                secure.recv(1)
        except ssl.SSLError as error:
            return error.reason or str(error)
    return ""


class Http2:
    """A connection. Raises OSError when it ends too early."""

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        host, _, port = address.rpartition(":")
        plain = socket.create_connection((host, int(port)), timeout=SECONDS)
        # Without it, each request waits 40 ms for an acknowledgement that is held back.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context.set_alpn_protocols(["h2"])
        self._socket = context.wrap_socket(plain, server_hostname="localhost")
        self._received = b""
        self._stream = -1
        # So much may be answered before this client would have to say that it has read it.
        window = _frame(WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big"))
        try:
            self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, b"") + window)
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def call(self, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Sends the request and waits until its stream has ended."""
        self._stream += 2
        fields = {
            ":method": "POST",
            ":scheme": "https",
            ":path": path,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
            **headers,
        }
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
        self._socket.sendall(_frame(HEADERS, END_HEADERS, self._stream, block))
        chunks = [body[at : at + FRAME_BYTES_MAX] for at in range(0, len(body), FRAME_BYTES_MAX)] or [b""]
        for i, chunk in enumerate(chunks):
            self._socket.sendall(_frame(DATA, END_STREAM if i == len(chunks) - 1 else 0, self._stream, chunk))
        self._wait()

    def _wait(self) -> None:
        while True:
            kind, flags, stream, payload = self._next()
            if kind == SETTINGS and not flags & ACK:
                self._socket.sendall(_frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                self._socket.sendall(_frame(PING, ACK, 0, payload))
            elif kind == GOAWAY:
                raise ConnectionError("the gateway ends the connection")
            elif stream == self._stream and (kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM)):
                return

    def _next(self) -> tuple[int, int, int, bytes]:
        head = self._read(9)
        return head[3], head[4], int.from_bytes(head[5:9], "big"), self._read(int.from_bytes(head[:3], "big"))

    def _read(self, size: int) -> bytes:
        while len(self._received) < size:
            block = self._socket.recv(65_536)
            if not block:
                raise ConnectionError("the gateway has closed the connection")
            self._received += block
        found, self._received = self._received[:size], self._received[size:]
        return found


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _text(text: str) -> bytes:
    data = text.encode()
    assert len(data) < 127 + 128
    # A length of seven bits, or 127 and the rest.
    return (bytes([len(data)]) if len(data) < 127 else bytes([127, len(data) - 127])) + data
