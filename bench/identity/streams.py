"""What it costs to hold streams of the Workload API, and how fast news reaches all of them.

The product's server in a process of its own, whose memory is read; the clients are connections of this program, each
with the three streams that a program has open: its certificate, the bundles, the token keys. They speak just enough
HTTP/2: a real client for each of them would need gigabytes here. News is the beginning of a rotation, which every
stream is told.
"""

from __future__ import annotations

import resource
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hpack import Encoder, NeverIndexedHeaderTuple

from bench.parts.numbers import table
from bench.parts.processes import START_SECONDS_MAX, BenchError, cpu_seconds, resident_kib
from bench.parts.program import Found
from bench.parts.rig import listens
from spangate.adapters.workload_server import raise_descriptors

ROOT = Path(__file__).parents[2]
METHODS = ("FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles")
# Of all connections together; the server takes new ones in turn.
OPEN_SECONDS_MAX = 120.0
NEWS_SECONDS_MAX = 60.0
# As many as a server's queue for new connections holds.
AT_ONCE = 100
# As many are looked at where the system sets no bound; enough for all streams that can be asked for.
_DESCRIPTORS_MAX = 131_072
# Descriptors of this program that are no connections.
_OTHERS = 64
# The server's own bound: half of the descriptors, two for a connection, and of that no user has more than this share.
_SERVERS_SHARE, _USERS_SHARE = 4, 0.75
_READ_BYTES = 64 * 1024
# What was received is given back when it is this much; HTTP/2 begins with windows of 64 KiB.
_WINDOW_BYTES = 16 * 1024
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_HEAD_BYTES = 9


def measure(folder: Path, streams: int) -> Found:
    """Opens `streams`, waits for their first answers, then for news. Raises BenchError."""
    connections = -(-streams // len(METHODS))
    if (allowed := _connections_allowed()) < connections:
        raise BenchError(f"{connections} connections are not allowed here, {allowed} are (ulimit -n)")
    path = folder / "workload.sock"
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.identity.workload_process", str(path)],
        stdin=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    clients = _Clients(path)
    try:
        _wait_for(path, server)
        # What a server takes for working at all is not what its streams take.
        clients.open(1)
        before, cpu = resident_kib(server.pid), cpu_seconds(server.pid)
        begin = time.monotonic()
        while (missing := connections - len(clients)) > 0:
            clients.open(min(AT_ONCE, missing))
            if time.monotonic() - begin > OPEN_SECONDS_MAX:
                raise BenchError(f"after {OPEN_SECONDS_MAX:.0f} s there are only {len(clients)} connections")
        opened, cpu_opening = time.monotonic() - begin, cpu_seconds(server.pid) - cpu
        after = resident_kib(server.pid)
        clients.settle()
        idle = _idle_cpu(server.pid, clients)
        cpu = cpu_seconds(server.pid)
        first, last = clients.news(lambda: _say(server, "rotate\n"))
        cpu_news = cpu_seconds(server.pid) - cpu
    finally:
        clients.close()
        if server.stdin is not None:
            server.stdin.close()
        try:
            server.wait(timeout=START_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    held = len(METHODS) * connections
    added = (connections - 1) * len(METHODS)
    per_stream = (after - before) * 1024 / added
    values: dict[str, object] = {
        "held": held,
        "connections": connections,
        "bytes_per_stream": round(per_stream),
        "resident_mib": round(after / 1024, 1),
        "opened_seconds": round(opened, 2),
        "open_cpu_us": round(cpu_opening / added * 1e6, 1),
        "idle_cpu_percent": round(idle * 100, 1),
        "news_seconds": round(last - first, 2),
        "news_cpu_us": round(cpu_news / held * 1e6, 1),
    }
    rows = [
        ("streams held", f"{held:,} on {connections:,} connections"),
        ("memory for each", f"{per_stream / 1024:.1f} KiB ({after / 1024:.0f} MiB in all)"),
        ("opening them", f"{opened:.1f} s, {values['open_cpu_us']} us of CPU each, first answer included"),
        ("while nothing happens", f"{values['idle_cpu_percent']} % of a core"),
        ("news to all of them", f"{last - first:.2f} s from the first to the last, {values['news_cpu_us']} us each"),
    ]
    return Found({"streams": values}, table(("Workload API", ""), rows))


def _connections_allowed() -> int:
    raise_descriptors()
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = _DESCRIPTORS_MAX if descriptors == resource.RLIM_INFINITY else descriptors
    return min(descriptors - _OTHERS, int(descriptors // _SERVERS_SHARE * _USERS_SHARE))


def _wait_for(path: Path, server: subprocess.Popen[str]) -> None:
    end = time.monotonic() + START_SECONDS_MAX
    while not listens(path):
        if server.poll() is not None or time.monotonic() > end:
            raise BenchError("the Workload API did not start")
        time.sleep(0.02)


def _say(server: subprocess.Popen[str], line: str) -> None:
    if server.stdin is None:
        raise BenchError("the Workload API cannot be told anything")
    server.stdin.write(line)
    server.stdin.flush()


def _idle_cpu(pid: int, clients: _Clients) -> float:
    """The server's share of a core while all wait."""
    cpu, begin = cpu_seconds(pid), time.monotonic()
    while time.monotonic() < begin + 2.0:
        clients.turn(0.2)
    return (cpu_seconds(pid) - cpu) / (time.monotonic() - begin)


@dataclass
class _Client:
    """One connection: what is to come of the frame that has begun, and the messages of each stream."""

    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    # Bytes of messages that have begun, by stream.
    parts: dict[int, bytearray] = field(default_factory=dict)
    unreturned: int = 0


class _Clients:
    """All connections, served in turn by this thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._selector = selectors.DefaultSelector()
        self._clients: list[_Client] = []
        self._messages = 0
        self._last = 0.0
        self._opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b"")
        for number, method in enumerate(METHODS):
            stream = 2 * number + 1
            self._opening += _frame(_HEADERS, _END_HEADERS, stream, _headers(method))
            # A message of no bytes: not compressed, of length 0.
            self._opening += _frame(_DATA, _END_STREAM, stream, bytes(5))

    def __len__(self) -> int:
        return len(self._clients)

    def open(self, count: int) -> None:
        """`count` more, each with all of its streams; returns when each stream has its first message."""
        wanted = self._messages + count * len(METHODS)
        for _ in range(count):
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(OPEN_SECONDS_MAX)
            one.connect(str(self._path))
            one.sendall(self._opening)
            one.setblocking(False)
            client = _Client(one)
            self._clients.append(client)
            self._selector.register(one, selectors.EVENT_READ, client)
        self._until(wanted, OPEN_SECONDS_MAX)

    def settle(self) -> None:
        """Until nothing comes for a while: the first look may bring news of its own."""
        before = -1
        while before != self._messages:
            before = self._messages
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                self.turn(0.1)

    def news(self, cause: Callable[[], None]) -> tuple[float, float]:
        """When the first and the last stream of those that are told of a new root had it."""
        # Token keys stay what they are.
        begin, wanted = self._messages, self._messages + len(self._clients) * (len(METHODS) - 1)
        cause()
        self._until(begin + 1, NEWS_SECONDS_MAX)
        first = self._last
        self._until(wanted, NEWS_SECONDS_MAX)
        return first, self._last

    def turn(self, seconds: float) -> None:
        """Reads what is there, or waits for it that long."""
        for key, _ in self._selector.select(seconds):
            self._read(key.data)

    def close(self) -> None:
        """All of them."""
        for client in self._clients:
            client.socket.close()
        self._selector.close()

    def _until(self, messages: int, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._messages < messages:
            if time.monotonic() > end:
                raise BenchError(f"{messages - self._messages} messages of the Workload API are missing")
            self.turn(1.0)

    def _read(self, client: _Client) -> None:
        data = client.socket.recv(_READ_BYTES)
        if not data:
            raise BenchError("the Workload API ended a connection")
        client.received += data
        answer = b""
        while len(client.received) >= _HEAD_BYTES:
            length = int.from_bytes(client.received[:3], "big")
            if len(client.received) < _HEAD_BYTES + length:
                break
            kind, flags = client.received[3], client.received[4]
            stream = int.from_bytes(client.received[5:9], "big")
            payload = bytes(client.received[_HEAD_BYTES : _HEAD_BYTES + length])
            del client.received[: _HEAD_BYTES + length]
            answer += self._frame(client, kind, flags, stream, payload)
        if answer:
            client.socket.sendall(answer)

    def _frame(self, client: _Client, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        """What a frame is answered with."""
        if kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, _ACK, 0, b"")
        if kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, 0, payload)
        if kind in (_RST_STREAM, _GOAWAY) or (kind == _HEADERS and flags & _END_STREAM):
            raise BenchError(f"the Workload API ended a stream: {payload!r}")
        if kind != _DATA:
            return b""
        part = client.parts.setdefault(stream, bytearray())
        part += payload
        while len(part) >= 5 and len(part) >= 5 + int.from_bytes(part[1:5], "big"):
            del part[: 5 + int.from_bytes(part[1:5], "big")]
            self._messages += 1
            self._last = time.monotonic()
        client.unreturned += len(payload)
        if client.unreturned < _WINDOW_BYTES:
            return b""
        # To the stream as much as to the connection: more than it has used, which does no harm.
        given = client.unreturned.to_bytes(4, "big")
        client.unreturned = 0
        return _frame(_WINDOW_UPDATE, 0, 0, given) + _frame(_WINDOW_UPDATE, 0, stream, given)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _headers(method: str) -> bytes:
    """The same bytes on every connection: nothing enters the tables of HPACK."""
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", f"/SpiffeWorkloadAPI/{method}"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("workload.spiffe.io", "true"),
    )
    return bytes(Encoder().encode([NeverIndexedHeaderTuple(*one) for one in fields], huffman=False))
