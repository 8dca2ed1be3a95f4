"""Types of query parameters from their protobuf bytes.

An entry of `param_types` (map<string, Type>) is a message {key = 1, value = 2}; google.spanner.v1.Type is
{code = 1, array_element_type = 2, struct_type = 3, type_annotation = 4, proto_type_fqn = 5}, StructType is
{fields = 1 {name = 1, type = 2}}.

Rules: strict. A field that is not in this list, one that stands there twice, an unknown code or a number encoded
longer than need be raises BadType: read otherwise by Spanner, it could change what a statement means.
Sources: google/spanner/v1/type.proto; https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from spangate.model.sqltype import SqlType

# google.spanner.v1.TypeCode.
TYPE_CODES = {
    1: "BOOL",
    2: "INT64",
    3: "FLOAT64",
    4: "TIMESTAMP",
    5: "DATE",
    6: "STRING",
    7: "BYTES",
    8: "ARRAY",
    9: "STRUCT",
    10: "NUMERIC",
    11: "JSON",
    13: "PROTO",
    14: "ENUM",
    15: "FLOAT32",
    16: "INTERVAL",
    17: "UUID",
}
# Spanner allows arrays of structs of arrays ..., but nobody nests them this deep.
NESTING_MAX = 32

_Fields = dict[int, list[bytes]]
_VARINT, _BYTES = 0, 2


class BadType(ValueError):
    """The bytes are not a parameter's type; the message says why."""


def read_param_type(entry: bytes) -> tuple[str, SqlType]:
    """Name and type of one entry of `param_types`. Raises BadType."""
    fields = _scan(entry, once={1: _BYTES, 2: _BYTES})
    return _text(_one(fields, 1)), _type(_one(fields, 2), 0)


def _type(data: bytes, depth: int) -> SqlType:
    if depth > NESTING_MAX:
        raise BadType(f"nested more than {NESTING_MAX} deep")
    fields = _scan(data, once={1: _VARINT, 2: _BYTES, 3: _BYTES, 4: _VARINT, 5: _BYTES})
    _text(_one(fields, 5))  # the name of a proto or enum: means nothing here, but must be text
    code = TYPE_CODES.get(int.from_bytes(_one(fields, 1), "big"))
    if code is None:
        raise BadType("an unknown type code")
    if (2 in fields) != (code == "ARRAY") or (3 in fields) != (code == "STRUCT"):
        raise BadType(f"{code} with the parts of another type")
    if code == "ARRAY":
        return SqlType(code, element=_type(_one(fields, 2), depth + 1))
    if code == "STRUCT":
        return SqlType(code, fields=_struct_fields(_one(fields, 3), depth + 1))
    return SqlType(code)


def _struct_fields(data: bytes, depth: int) -> tuple[tuple[str, SqlType], ...]:
    found = []
    for field in _scan(data, once={}, many=1).get(1, []):
        parts = _scan(field, once={1: _BYTES, 2: _BYTES})
        found.append((_text(_one(parts, 1)), _type(_one(parts, 2), depth)))
    return tuple(found)


def _one(fields: _Fields, number: int) -> bytes:
    """The field's payload; as in proto3, one that is not there is empty."""
    return fields.get(number, [b""])[0]


def _scan(data: bytes, *, once: dict[int, int], many: int | None = None) -> _Fields:
    """Payloads by field number; a number's payload is its value in big-endian bytes."""
    found: _Fields = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type != (_BYTES if number == many else once.get(number)):
            raise BadType(f"an unknown field {number}")
        if number in found and number != many:
            raise BadType(f"field {number} twice")
        value, at = _varint(data, at)
        if wire_type == _VARINT:
            payload = value.to_bytes(8, "big")
        else:
            payload, at = data[at : at + value], at + value
            if at > len(data):
                raise BadType("it breaks off")
        found.setdefault(number, []).append(payload)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count in range(5):
        if at + count >= len(data):
            raise BadType("it breaks off")
        byte = data[at + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if byte == 0 and count:
                raise BadType("a number encoded longer than it need be")
            return value, at + count + 1
    raise BadType("a number out of range")


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadType("text that is not UTF-8") from error
