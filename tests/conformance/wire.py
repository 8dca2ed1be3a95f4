"""Protobuf by hand: encoders that follow the corpus, not the rules, and what can be done to a message's bytes.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


def varint(value: int, longer_by: int = 0) -> bytes:
    """`value` as a varint, so many bytes longer than it need be."""
    found = bytearray()
    while value >= 128:
        found.append(value % 128 + 128)
        value //= 128
    if not longer_by:
        return bytes(found) + bytes([value])
    return bytes(found) + bytes([value + 128]) + b"\x80" * (longer_by - 1) + b"\0"


def tag(number: int, wire_type: int) -> bytes:
    return varint(number * 8 + wire_type)


def field(number: int, payload: bytes) -> bytes:
    return tag(number, 2) + varint(len(payload)) + payload


def framed(message: bytes) -> bytes:
    """A gRPC body of one message."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class Part(NamedTuple):
    """A top-level field as it stands in the bytes."""

    number: int
    wire_type: int
    payload: bytes
    encoded: bytes


def parts(message: bytes) -> list[Part]:
    """The fields of a well-formed message without groups."""
    found = []
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        start = at
        key = number()
        if key % 8 == 2:
            size = number()
            payload = message[at : at + size]
            at += size
        else:
            begin = at
            number()
            payload = message[begin:at]
        found.append(Part(key // 8, key % 8, payload, message[start:at]))
    return found


def _on_last(change: Callable[[Part], bytes]) -> Callable[[bytes], bytes]:
    """The message with its last length-delimited field changed."""

    def edit(message: bytes) -> bytes:
        found = parts(message)
        last = max(i for i, part in enumerate(found) if part.wire_type == 2)
        return b"".join(change(part) if i == last else part.encoded for i, part in enumerate(found))

    return edit


def _as_group(part: Part) -> bytes:
    return tag(part.number, 3) + part.payload + tag(part.number, 4)


# What is done to the bytes of a message -> and whether it still says the same to every reader.
EDITS: dict[str, tuple[Callable[[bytes], bytes], bool]] = {
    "reordered": (lambda m: b"".join(part.encoded for part in reversed(parts(m))), True),
    "truncated by a byte": (lambda m: m[:-1], False),
    "truncated to half a tag": (lambda m: m + b"\x80", False),
    "a trailing zero byte": (lambda m: m + b"\0", False),
    "a trailing tag": (lambda m: m + b"\x0a", False),
    "the first field duplicated": (lambda m: parts(m)[0].encoded + m, False),
    "the first field again, empty": (lambda m: m + tag(parts(m)[0].number, 2) + b"\0", False),
    "an unknown field": (lambda m: m + field(1999, b"x"), False),
    "an unknown field, first": (lambda m: field(1999, b"x") + m, False),
    "an unknown number": (lambda m: m + tag(1999, 0) + b"\x01", False),
    "field number zero": (lambda m: m + b"\x02\0", False),
    "an unknown fixed32": (lambda m: m + tag(1999, 5) + bytes(4), False),
    "an unknown fixed64": (lambda m: m + tag(1999, 1) + bytes(8), False),
    "an unknown group": (lambda m: m + tag(1999, 3) + tag(1999, 4), False),
    "a nested group": (lambda m: m + tag(1999, 3) + tag(3, 3) + tag(3, 4) + tag(1999, 4), False),
    "a group that does not end": (lambda m: m + tag(1999, 3), False),
    "a group's end alone": (lambda m: m + tag(1999, 4), False),
    "a field as group": (_on_last(_as_group), False),
    "a field as number": (_on_last(lambda p: tag(p.number, 0) + b"\x01"), False),
    "a field as fixed32": (_on_last(lambda p: tag(p.number, 5) + bytes(4)), False),
    "wire type 6": (lambda m: m + tag(1, 6), False),
    "wire type 7": (lambda m: m + tag(1, 7), False),
    "an overlong tag": (_on_last(lambda p: varint(p.number * 8 + 2, 1) + varint(len(p.payload)) + p.payload), False),
    "an overlong length": (_on_last(lambda p: tag(p.number, 2) + varint(len(p.payload), 1) + p.payload), False),
    "a tag of six bytes": (
        _on_last(lambda p: varint(p.number * 8 + 2, 5) + varint(len(p.payload)) + p.payload),
        False,
    ),
    # Cut to 32 bits, it would be a known field.
    "a tag of more than 32 bits": (_on_last(lambda p: varint((2**29 + p.number) * 8 + 2) + p.encoded[1:]), False),
    "a length past the end": (_on_last(lambda p: tag(p.number, 2) + varint(len(p.payload) + 1) + p.payload), False),
    "a length of 2 GiB": (_on_last(lambda p: tag(p.number, 2) + varint(2**31 - 1) + p.payload), False),
    "a length of 33 bits": (_on_last(lambda p: tag(p.number, 2) + varint(2**32 + len(p.payload)) + p.payload), False),
    "a negative length": (_on_last(lambda p: tag(p.number, 2) + b"\xff" * 9 + b"\x01" + p.payload), False),
}

# What is done to a gRPC body -> the reason it is refused for.
FRAMES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no body": (lambda b: b"", "malformed-request"),
    "half a frame": (lambda b: b[:4], "malformed-request"),
    "a frame without its last byte": (lambda b: b[:-1], "malformed-request"),
    "a byte after the frame": (lambda b: b + b"\0", "malformed-request"),
    "two messages": (lambda b: b + b, "malformed-request"),
    "a second, empty message": (lambda b: b + framed(b""), "malformed-request"),
    "a frame length too small": (
        lambda b: b[:1] + (len(b) - 6).to_bytes(4, "big") + b[5:],
        "malformed-request",
    ),
    "the compressed flag": (lambda b: b"\x01" + b[1:], "compressed-message"),
    "unknown flags": (lambda b: b"\x02" + b[1:], "malformed-request"),
    "the flag of trailers": (lambda b: b"\x80" + b[1:], "malformed-request"),
}
