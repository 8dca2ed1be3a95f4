"""Spanner's types as ZetaSQL takes them.

Rules: a parameter's type is carried over exactly or refused. Protocol buffers and enumerations, whose descriptors are
not known here, become BYTES in columns and parameters alike: they can be read, written and compared as a whole, and
nobody can look inside. A statement that is read both ways makes no more accesses in Spanner than here: a message's
fields are names that only add to a scope, and so can only take the place of a column that counts as read here.
Not here: who has these types (catalog.py, functions.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zetasql.wasi._pb2.zetasql.public import type_pb2

from spangate.model.sqltype import SqlType

# Nobody nests types this deep, and recursion has to end somewhere.
_TYPE_DEPTH_MAX = 32

# google.spanner.v1.TypeCode's words, of which no column's type is spelled.
_OPAQUE = frozenset({"PROTO", "ENUM"})
_SCALARS: Mapping[str, int] = {
    "BOOL": type_pb2.TYPE_BOOL,
    "BYTES": type_pb2.TYPE_BYTES,
    "DATE": type_pb2.TYPE_DATE,
    "FLOAT32": type_pb2.TYPE_FLOAT,
    "FLOAT64": type_pb2.TYPE_DOUBLE,
    "INT64": type_pb2.TYPE_INT64,
    "INTERVAL": type_pb2.TYPE_INTERVAL,
    "JSON": type_pb2.TYPE_JSON,
    "NUMERIC": type_pb2.TYPE_NUMERIC,
    "STRING": type_pb2.TYPE_STRING,
    "TIMESTAMP": type_pb2.TYPE_TIMESTAMP,
    "TOKENLIST": type_pb2.TYPE_TOKENLIST,
    "UUID": type_pb2.TYPE_UUID,
}


class UnknownType(ValueError):
    """A type that cannot be carried over; the message names it."""


def type_of_parameter(type_: SqlType, depth: int = 0) -> type_pb2.TypeProto:
    """ZetaSQL's form of a parameter's type. Raises UnknownType."""
    if depth > _TYPE_DEPTH_MAX:
        raise UnknownType(f"the type of a parameter is nested more than {_TYPE_DEPTH_MAX} deep")
    if type_.code == "ARRAY" and type_.element is not None and type_.element.code != "ARRAY":
        return _array(type_of_parameter(type_.element, depth + 1))
    if type_.code == "STRUCT":
        return _struct((name, type_of_parameter(field, depth + 1)) for name, field in type_.fields)
    kind = type_pb2.TYPE_BYTES if type_.code in _OPAQUE else _SCALARS.get(type_.code)
    if kind is None:
        raise UnknownType(f"the type `{type_.code}` is not supported for parameters")
    return type_pb2.TypeProto(type_kind=kind)


def type_of_text(text: str) -> type_pb2.TypeProto:
    """ZetaSQL's form of a type as the schema spells it: `STRING(MAX)`, `ARRAY<STRUCT<a INT64, b ARRAY<BOOL>>>`.

    Anything else is taken for a protocol buffer message or enumeration, and becomes BYTES.
    """
    text = text.strip()
    word, bracket, rest = text.partition("<")
    inside = _until_closed(rest)
    if bracket and word.upper() == "ARRAY":
        return _array(type_of_text(inside))
    if bracket and word.upper() == "STRUCT":
        fields = (field.strip().partition(" ") for field in split_fields(inside))
        return _struct((name, type_of_text(type_)) for name, _, type_ in fields)
    kind = _SCALARS.get(text.partition("(")[0].strip().upper(), type_pb2.TYPE_BYTES)
    return type_pb2.TypeProto(type_kind=kind)


def _until_closed(text: str) -> str:
    """`INT64>(VECTOR_LENGTH=>3)` -> `INT64`: up to the bracket that closes what has been opened before."""
    depth = 1
    for at, letter in enumerate(text):
        depth += (letter == "<") - (letter == ">")
        if not depth:
            return text[:at]
    return text


def split_fields(text: str) -> list[str]:
    """`a INT64, b ARRAY<STRUCT<c BOOL, d BOOL>>` at its outer commas."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "<") - (letter == ">")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _array(element: type_pb2.TypeProto) -> type_pb2.TypeProto:
    return type_pb2.TypeProto(type_kind=type_pb2.TYPE_ARRAY, array_type=type_pb2.ArrayTypeProto(element_type=element))


def _struct(fields: Iterable[tuple[str, type_pb2.TypeProto]]) -> type_pb2.TypeProto:
    return type_pb2.TypeProto(
        type_kind=type_pb2.TYPE_STRUCT,
        struct_type=type_pb2.StructTypeProto(
            field=[type_pb2.StructFieldProto(field_name=name, field_type=type_) for name, type_ in fields]
        ),
    )
