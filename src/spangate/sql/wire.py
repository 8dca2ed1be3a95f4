"""Encoded protocol buffer messages, read where they lie.

Rules: nothing here recurses, because a statement's tree may be deeper than a parser's limit (100 levels for Python's,
some 25 nested function calls; Spanner allows 75). Strict: a field that the message type does not have, a wire type
that the field cannot have, a second value for a field that holds one, a length that leads outside: all raise.
Source: https://protobuf.dev/programming-guides/encoding/
Not here: what the messages mean (tree.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_LENGTH = {_FIXED64: 8, _FIXED32: 4}
_VARINT_BYTES_MAX = 10

_WIRE_TYPES = {
    FieldDescriptor.TYPE_DOUBLE: _FIXED64,
    FieldDescriptor.TYPE_FIXED64: _FIXED64,
    FieldDescriptor.TYPE_SFIXED64: _FIXED64,
    FieldDescriptor.TYPE_FLOAT: _FIXED32,
    FieldDescriptor.TYPE_FIXED32: _FIXED32,
    FieldDescriptor.TYPE_SFIXED32: _FIXED32,
    FieldDescriptor.TYPE_STRING: _BYTES,
    FieldDescriptor.TYPE_BYTES: _BYTES,
    FieldDescriptor.TYPE_MESSAGE: _BYTES,
    FieldDescriptor.TYPE_BOOL: _VARINT,
    FieldDescriptor.TYPE_ENUM: _VARINT,
    FieldDescriptor.TYPE_INT32: _VARINT,
    FieldDescriptor.TYPE_INT64: _VARINT,
    FieldDescriptor.TYPE_UINT32: _VARINT,
    FieldDescriptor.TYPE_UINT64: _VARINT,
}


class BadMessage(ValueError):
    """The bytes are not a message of the type they should be."""


class _Field(NamedTuple):
    name: str
    wire_type: int
    repeated: bool
    message: Descriptor | None


@cache
def _fields_of(descriptor: Descriptor) -> dict[int, _Field]:
    return {
        field.number: _Field(field.name, _WIRE_TYPES[field.type], field.is_repeated, field.message_type)
        for field in descriptor.fields
        if field.type in _WIRE_TYPES
    }


class Node:
    """One message; its fields are found at once, the messages in them when they are asked for."""

    __slots__ = ("_data", "_end", "_start", "_values", "descriptor")

    def __init__(self, descriptor: Descriptor, data: bytes, start: int = 0, end: int | None = None) -> None:
        """Raises BadMessage."""
        self.descriptor = descriptor
        self._data = data
        self._start = start
        self._end = len(data) if end is None else end
        # A number for what is encoded as one, the place (start, end) of anything else.
        self._values: dict[str, list[int | tuple[int, int]]] = {}
        self._read(start, self._end)

    @property
    def name(self) -> str:
        """The message type's name, `ResolvedTableScanProto`."""
        return self.descriptor.name

    @property
    def encoded(self) -> bytes:
        """The message as it stands."""
        return self._data[self._start : self._end]

    def has(self, field: str) -> bool:
        """Whether the field is there."""
        return field in self._values

    def number(self, field: str) -> int:
        """The field's number, 0 if it is not there."""
        numbers = self.numbers(field)
        return numbers[0] if numbers else 0

    def numbers(self, field: str) -> list[int]:
        """A repeated field's numbers, however they are packed."""
        found: list[int] = []
        for value in self._values.get(field, ()):
            if isinstance(value, int):
                found.append(value)
                continue
            at, end = value
            while at < end:
                number, at = self._varint(at, end)
                found.append(number)
        return found

    def text(self, field: str) -> str:
        """The field's text, empty if it is not there."""
        for value in self._values.get(field, ()):
            if isinstance(value, tuple):
                return self._data[value[0] : value[1]].decode("utf-8", "replace")
        return ""

    def message(self, field: str) -> Node:
        """The field's message, an empty one if it is not there."""
        messages = self.messages(field)
        return messages[0] if messages else Node(self._message_type(field), b"")

    def messages(self, field: str) -> list[Node]:
        """A repeated field's messages."""
        return [self._child(field, value) for value in self._values.get(field, ())]

    def children(self, *, skip: tuple[str, ...] = (), leaves: frozenset[str] = frozenset()) -> Iterator[Node]:
        """All messages in this one but those in the fields `skip` and those of the types `leaves`."""
        for field, values in self._values.items():
            message_type = self.descriptor.fields_by_name[field].message_type
            if message_type is None or field in skip or message_type.name in leaves:
                continue
            for value in values:
                yield self._child(field, value)

    def _child(self, field: str, value: int | tuple[int, int]) -> Node:
        if isinstance(value, int):
            raise BadMessage(f"`{field}` of {self.name} is not a message")
        return Node(self._message_type(field), self._data, *value)

    def _message_type(self, field: str) -> Descriptor:
        found = self.descriptor.fields_by_name[field].message_type
        if found is None:
            raise BadMessage(f"`{field}` of {self.name} is not a message")
        return found

    def _read(self, at: int, end: int) -> None:
        fields = _fields_of(self.descriptor)
        while at < end:
            tag, at = self._varint(at, end)
            field = fields.get(tag >> 3)
            if field is None:
                raise BadMessage(f"{self.name} has no field {tag >> 3}")
            value: int | tuple[int, int]
            wire_type = tag & 7
            if wire_type == _VARINT:
                value, at = self._varint(at, end)
            elif wire_type == _BYTES:
                length, at = self._varint(at, end)
                value, at = (at, at + length), at + length
            elif wire_type in _FIXED_LENGTH:
                value, at = (at, at + _FIXED_LENGTH[wire_type]), at + _FIXED_LENGTH[wire_type]
            else:
                raise BadMessage(f"{self.name} holds the wire type {wire_type}")
            if at > end:
                raise BadMessage(f"`{field.name}` of {self.name} breaks off")
            packed = field.repeated and wire_type == _BYTES and field.wire_type == _VARINT
            if wire_type != field.wire_type and not packed:
                raise BadMessage(f"`{field.name}` of {self.name} has the wire type {wire_type}")
            values = self._values.setdefault(field.name, [])
            if values and not field.repeated:
                raise BadMessage(f"`{field.name}` of {self.name} is there twice")
            values.append(value)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """The number at `at`, as a signed 64-bit one, and where it ends."""
        number = 0
        for count in range(_VARINT_BYTES_MAX):
            if at + count >= end:
                break
            byte = self._data[at + count]
            number |= (byte & 0x7F) << 7 * count
            if not byte & 0x80:
                number &= 0xFFFF_FFFF_FFFF_FFFF
                return (number - (1 << 64) if number >> 63 else number), at + count + 1
        raise BadMessage(f"{self.name} holds a number that breaks off")
