"""gRPC over HTTP/2 on one accepted Unix socket: bytes to calls, answers to bytes.

Rules: a call is one request message and any number of answers; nothing else is served here. Whoever is at the other
end is asked of the kernel before a byte is read, and the connection ends when that process does. A message waits here
only until the next one of its call makes it out of date, so that a reader that is slow, or does not read at all, costs
two messages. No task and no thread belongs to a call: ten thousand that wait for news cost what they hold.
Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md; HTTP/2 itself is h2's
Not here: what is answered (workload_door.py), accepting connections (workload_server.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import Protocol, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from spangate.authority.workload_api import METHODS, REQUEST_BYTES_MAX, SECURITY_HEADER, Method, Status

# A program has a stream for certificates, one or two for bundles, and now and then a token.
STREAMS_OF_CONNECTION_MAX = 100
# Ours are below 1 KiB; gRPC's own default for metadata is 8 KiB.
HEADERS_BYTES_MAX = 16 * 1024
# What may wait to be read by the other side before we stop reading from it. Certificates and bundles are 4 KiB.
UNSENT_BYTES_MAX = 256 * 1024
# What HTTP/2 begins with; RFC 9113, section 6.5.2.
FRAME_BYTES_MAX = 16 * 1024
_FRAME_HEAD_BYTES = 9
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_MESSAGE_PREFIX = struct.Struct(">?I")
_SETTINGS = {
    SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS_OF_CONNECTION_MAX,
    SettingCodes.MAX_HEADER_LIST_SIZE: HEADERS_BYTES_MAX,
}
_ANSWER_HEADERS = ((b":status", b"200"), (b"content-type", b"application/grpc+proto"))


class FrameLengths:
    """Follows the frames of HTTP/2 by their lengths (RFC 9113, section 4.1).

    h2 looks at the length of a frame only once the whole frame is there, which may be 16 MiB.
    """

    __slots__ = ("_head", "_rest")

    def __init__(self) -> None:
        self._rest = len(_PREFACE)
        self._head = b""

    def within_bounds(self, data: bytes) -> bool:
        """Whether no frame that has begun by the end of `data` is longer than was agreed."""
        at = 0
        while at < len(data):
            if self._rest:
                step = min(self._rest, len(data) - at)
                self._rest -= step
                at += step
                continue
            head = data[at : at + _FRAME_HEAD_BYTES - len(self._head)]
            at += len(head)
            self._head += head
            if len(self._head) == _FRAME_HEAD_BYTES:
                self._rest = int.from_bytes(self._head[:3], "big")
                self._head = b""
                if self._rest > FRAME_BYTES_MAX:
                    return False
        return True


class Call:
    """One call: its request when it is complete, and where its answers go."""

    __slots__ = (
        "_connection",
        "_finished",
        "_next",
        "_sending",
        "_sent",
        "_started",
        "guarded",
        "method",
        "received",
        "stream_id",
    )

    def __init__(self, connection: Connection, stream_id: int, method: Method, *, guarded: bool) -> None:
        self.method = method
        # Whether it carries the security header.
        self.guarded = guarded
        self.received = bytearray()
        self._connection = connection
        self.stream_id = stream_id
        # Whole messages: who does not read costs no copy of what all are given. Of the first so much is sent.
        self._sending: bytes | None = None
        self._sent = 0
        self._next: bytes | None = None
        self._started = False
        self._finished: tuple[Status, str] | None = None

    @property
    def connection(self) -> Connection:
        """The connection that it came over."""
        return self._connection

    @property
    def open(self) -> bool:
        """Whether an answer can still reach the asker."""
        return self._finished is None and self._connection.has(self)

    @property
    def delivered(self) -> bool:
        """Whether all that was sent has reached the other end's socket."""
        return self._sending is None and self._next is None and self._connection.delivered

    def send(self, message: bytes) -> None:
        """An answer; it replaces one that nothing has been sent of yet."""
        if self.open:
            self._next = message
            self._connection.flush(self)

    def finish(self, status: Status, text: str = "") -> None:
        """Nothing more comes; what was sent before still arrives."""
        if self.open:
            self._finished = (status, text)
            self._connection.flush(self)

    def write(self, h2: H2Connection) -> bool:
        """Hands to `h2` what the other side has room for; whether the call is over with that."""
        while self._sending is not None or self._next is not None:
            if self._sending is None:
                self._sending, self._next, self._sent = self._next, None, 0
                continue
            self._start(h2)
            room = min(h2.local_flow_control_window(self.stream_id), h2.max_outbound_frame_size)
            if room <= 0:
                return False
            part = _part(self._sending, self._sent, room)
            h2.send_data(self.stream_id, part)
            self._sent += len(part)
            if self._sent == _MESSAGE_PREFIX.size + len(self._sending):
                self._sending = None
        if self._finished is None:
            return False
        status, text = self._finished
        trailers = [(b"grpc-status", str(int(status)).encode())]
        if text:
            trailers.append((b"grpc-message", _percent(text)))
        headers = trailers if self._started else [*_ANSWER_HEADERS, *trailers]
        h2.send_headers(self.stream_id, headers, end_stream=True)
        return True

    def _start(self, h2: H2Connection) -> None:
        if not self._started:
            self._started = True
            h2.send_headers(self.stream_id, _ANSWER_HEADERS)


class Handler(Protocol):
    """What the calls of all connections come to, on one event loop."""

    def arrived(self, connection: Connection, transport: asyncio.Transport) -> bool:
        """Whether the connection is taken; nothing has been read from it."""
        ...

    def called(self, call: Call, request: bytes) -> None:
        """A call with its whole request; answered at once or later."""
        ...

    def ended(self, call: Call) -> None:
        """A call that nothing can be sent to any more, `called` or not."""
        ...

    def left(self, connection: Connection) -> None:
        """A connection that was taken has ended."""
        ...


class Connection(asyncio.Protocol):
    """One connection, and its calls by stream."""

    __slots__ = ("_calls", "_h2", "_handler", "_lengths", "_taken", "_transport")

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._taken = False
        self._calls: dict[int, Call] = {}
        self._lengths = FrameLengths()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks who it is, and only then begins to speak."""
        self._transport = cast("asyncio.Transport", transport)
        self._taken = self._handler.arrived(self, self._transport)
        if not self._taken:
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._h2.local_settings = Settings(client=False, initial_values=_SETTINGS)
        self._h2.decoder.max_header_list_size = HEADERS_BYTES_MAX
        self._h2.initiate_connection()
        self._write()

    def data_received(self, data: bytes) -> None:
        """Reads; whatever is not HTTP/2 ends the connection."""
        if not self._taken:
            return
        if not self._lengths.within_bounds(data):
            self._transport.abort()
            return
        try:
            for event in self._h2.receive_data(data):
                self._handle(event)
        # A defect here, or in h2 (header tables, Unicode), must end this connection and no other.
        except Exception:  # noqa: BLE001
            self._write()
            self._transport.close()
            return
        self._write()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forgets its calls."""
        if self._taken:
            self._taken = False
            for call in self.calls():
                self._forget(call)
            self._handler.left(self)

    def pause_writing(self) -> None:
        """The other side does not read: then neither do we, since each frame may ask for an answer."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Ends it now."""
        self._transport.abort()

    @property
    def delivered(self) -> bool:
        """Whether nothing waits here to be read by the other side."""
        return self._transport.get_write_buffer_size() == 0

    def has(self, call: Call) -> bool:
        """Whether the call is still one of its own."""
        return self._calls.get(call.stream_id) is call

    def flush(self, call: Call) -> None:
        """Sends what can be sent of the call."""
        self._advance(call)
        self._write()

    def calls(self) -> tuple[Call, ...]:
        """Those that are open."""
        return tuple(self._calls.values())

    def _handle(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._begin(event)
        elif isinstance(event, DataReceived):
            self._take(event)
        elif isinstance(event, StreamEnded):
            self._ask(event.stream_id)
        elif isinstance(event, StreamReset):
            if (call := self._calls.get(event.stream_id or 0)) is not None:
                self._forget(call)
        elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
            for call in self.calls():
                self._advance(call)
        elif isinstance(event, ConnectionTerminated):
            self._transport.close()

    def _begin(self, event: RequestReceived) -> None:
        stream_id = event.stream_id or 0
        headers = dict(cast("list[tuple[bytes, bytes]]", event.headers or []))
        if headers.get(b":method") != b"POST" or not headers.get(b"content-type", b"").startswith(b"application/grpc"):
            with contextlib.suppress(ProtocolError):
                self._h2.send_headers(stream_id, [(b":status", b"415")], end_stream=True)
            self._cut_off(stream_id)
            return
        method = METHODS.get(headers.get(b":path", b""))
        guarded = headers.get(SECURITY_HEADER[0]) == SECURITY_HEADER[1]
        call = Call(self, stream_id, method or Method.X509_SVID, guarded=guarded)
        self._calls[stream_id] = call
        if method is None:
            call.finish(Status.UNIMPLEMENTED, "there is no such method")

    def _take(self, event: DataReceived) -> None:
        stream_id = event.stream_id or 0
        self._h2.acknowledge_received_data(event.flow_controlled_length or 0, stream_id)
        call = self._calls.get(stream_id)
        if call is None:
            return
        call.received += event.data or b""
        if len(call.received) > REQUEST_BYTES_MAX + _MESSAGE_PREFIX.size:
            call.finish(Status.RESOURCE_EXHAUSTED, f"a request has at most {REQUEST_BYTES_MAX} bytes")

    def _ask(self, stream_id: int | None) -> None:
        call = self._calls.get(stream_id or 0)
        if call is None:
            return
        received, call.received = bytes(call.received), bytearray()
        if len(received) < _MESSAGE_PREFIX.size:
            call.finish(Status.INVALID_ARGUMENT, "there is no request")
            return
        compressed, length = _MESSAGE_PREFIX.unpack_from(received)
        body = received[_MESSAGE_PREFIX.size :]
        if compressed:
            call.finish(Status.UNIMPLEMENTED, "requests are not compressed here")
        elif length != len(body):
            call.finish(Status.INVALID_ARGUMENT, "the request is not one message")
        else:
            self._handler.called(call, body)

    def _advance(self, call: Call) -> None:
        if not self.has(call):
            return
        try:
            over = call.write(self._h2)
        except ProtocolError:
            over = True  # h2 has read further than we have: the asker has taken it back by now
        if over:
            self._forget(call)
            self._cut_off(call.stream_id)

    def _forget(self, call: Call) -> None:
        del self._calls[call.stream_id]
        self._handler.ended(call)

    def _cut_off(self, stream_id: int) -> None:
        """We have said all: the asker need not say more (RFC 9113, section 8.1)."""
        with contextlib.suppress(ProtocolError):
            self._h2.reset_stream(stream_id, ErrorCodes.NO_ERROR)

    def _write(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)


def _part(message: bytes, begin: int, length: int) -> bytes:
    """As many bytes of the message, behind its prefix, from there on."""
    size = _MESSAGE_PREFIX.size
    prefix = _MESSAGE_PREFIX.pack(False, len(message))[begin : begin + length]
    return prefix + message[max(begin - size, 0) : max(begin + length - size, 0)]


def _percent(text: str) -> bytes:
    """gRPC's own spelling of a message: printable ASCII but `%`, the rest as %XX."""
    return b"".join(
        bytes([byte]) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in text.encode()
    )
