"""What the Workload API sends to who reads slowly, or not at all."""

from __future__ import annotations

import asyncio
import tracemalloc
from dataclasses import dataclass, field
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from spangate.adapters.grpc_connection import STREAMS_OF_CONNECTION_MAX, Call, Connection

HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "localhost"),
    (":path", "/SpiffeWorkloadAPI/FetchX509Bundles"),
    ("content-type", "application/grpc"),
    ("workload.spiffe.io", "true"),
]
NO_MESSAGE = b"\0\0\0\0\0"


@dataclass
class Transport:
    """Takes everything at once."""

    written: bytearray = field(default_factory=bytearray)

    def set_write_buffer_limits(self, high: int) -> None:
        """There is no buffer."""

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.written += data


class Side:
    """A client that gives room for `window` bytes on each stream, and the server's side of its connection."""

    def __init__(self, window: int) -> None:
        self.calls: list[Call] = []
        self.transport = Transport()
        self.connection = Connection(self)
        self.connection.connection_made(cast("asyncio.Transport", self.transport))
        self.h2 = H2Connection(H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})

    def ask(self) -> None:
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, HEADERS)
        self.h2.send_data(stream_id, NO_MESSAGE, end_stream=True)
        self.pass_on()

    def pass_on(self) -> bytes:
        """Both sides read what the other one has said; the bytes that have come."""
        self.connection.data_received(self.h2.data_to_send())
        written, self.transport.written = bytes(self.transport.written), bytearray()
        events = self.h2.receive_data(written)
        return b"".join(one.data or b"" for one in events if isinstance(one, DataReceived))

    # What the connection asks of its handler

    def arrived(self, _connection: Connection, _transport: asyncio.Transport) -> bool:
        return True

    def called(self, call: Call, _request: bytes) -> None:
        self.calls.append(call)

    def ended(self, call: Call) -> None:
        """Nothing is kept of it."""

    def left(self, connection: Connection) -> None:
        """Nothing is kept of it."""


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=3), st.lists(st.integers(1, 70), min_size=1, max_size=8))
def test_whatever_room_there_is_each_message_arrives_whole(messages: list[bytes], rooms: list[int]) -> None:
    side = Side(0)
    side.ask()
    (call,) = side.calls
    for message in messages:
        call.send(message)
        came, turn = side.pass_on(), 0
        while not call.delivered:
            side.h2.increment_flow_control_window(rooms[turn % len(rooms)], call.stream_id)
            came += side.pass_on()
            turn += 1
        assert came == b"\0" + len(message).to_bytes(4) + message


def test_of_messages_that_nobody_reads_the_newest_replaces_what_has_not_begun() -> None:
    side = Side(6)
    side.ask()
    (call,) = side.calls
    for message in (b"first", b"second", b"third"):
        call.send(message)
    side.h2.increment_flow_control_window(100, call.stream_id)
    assert side.pass_on() == b"\0\0\0\0\x05first\0\0\0\0\x05third"


def test_who_does_not_read_costs_no_copy_of_what_all_are_given() -> None:
    side = Side(0)
    for _ in range(STREAMS_OF_CONNECTION_MAX):
        side.ask()
    answers = [bytes(200_000), bytes(200_001)]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for answer in answers:
            for call in side.calls:
                call.send(answer)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not any(call.delivered for call in side.calls)
    assert after - before < len(answers[0])
