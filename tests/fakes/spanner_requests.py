"""Random requests to Spanner that Spangate can decide on: any field of the published API, filled by its descriptor."""

from __future__ import annotations

from random import Random
from typing import Any

from google.cloud.spanner_v1 import types
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from fakes.envoy import IDENTITY
from fakes.seals import POLICY, change_ids, seal
from fakes.spanner_oracle import DATABASE, NAMES, REQUESTS, mutations_of

_DEPTH_MAX = 7
_TEXTS = ("", "a", "Orders", "OrderId", "SELECT 1", "12:x,", ",", "\0", "\n", "ä€😀", "x" * 200)
_SCALAR_CODES = (1, 2, 3, 4, 5, 6, 7, 10, 11, 13, 14, 15, 16, 17)
_INTEGERS = (0, 1, 127, 128, 300, 2**31 - 1)
_OF_64_BITS = {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64}


def random_request(method: str, random: Random) -> Any:
    """A google.protobuf message for `method`."""
    request = REQUESTS[method]()
    _fill(request, random, 0)
    field, name = NAMES[method]
    setattr(request, field, name)
    for mutation in mutations_of(request):
        _settle(mutation, random)
    change_ids(request, lambda value, kinds: _sealed(value, kinds, random))
    if method == "ExecuteBatchDml" and not request.statements:
        request.statements.add(sql="UPDATE Orders SET Status = 'x' WHERE TRUE")
    return request


def random_type(type_: Any, random: Random, depth: int = 0) -> None:
    """Fills a google.spanner.v1.Type that has a meaning."""
    type_.Clear()
    choice = random.random()
    if depth < 4 and choice < 0.2:
        type_.code = types.TypeCode.ARRAY
        random_type(type_.array_element_type, random, depth + 1)
    elif depth < 4 and choice < 0.4:
        type_.code = types.TypeCode.STRUCT
        type_.struct_type.SetInParent()
        for _ in range(random.randrange(3)):
            field = type_.struct_type.fields.add(name=random.choice(_TEXTS))
            random_type(field.type_, random, depth + 1)
    else:
        type_.code = random.choice(_SCALAR_CODES)
        type_.type_annotation = random.choice((0, 0, 2, 3))
        if type_.code in (types.TypeCode.PROTO, types.TypeCode.ENUM):
            type_.proto_type_fqn = "shop.Order"


def _sealed(value: bytes, kinds: bytes, random: Random) -> bytes:
    kind = bytes([random.choice(kinds.replace(b"p", b""))])
    return seal(value or b"x", kind, IDENTITY, DATABASE.encode(), policy=POLICY)


def _settle(mutation: Any, random: Random) -> None:
    """A mutation needs a kind."""
    if mutation.WhichOneof("operation") is None:
        getattr(mutation, random.choice(("insert", "delete"))).table = "Orders"


def _fill(message: Any, random: Random, depth: int) -> None:
    descriptor: Descriptor = message.DESCRIPTOR
    if descriptor.full_name == "google.spanner.v1.Type":
        random_type(message, random)
        return
    chosen = {oneof.name: random.choice(list(oneof.fields)).name for oneof in descriptor.oneofs}
    for field in descriptor.fields:
        oneof = field.containing_oneof
        if oneof is not None and chosen[oneof.name] != field.name:
            continue
        if random.random() < 0.5:
            _set(message, field, random, depth)


def _set(message: Any, field: FieldDescriptor, random: Random, depth: int) -> None:
    is_message = field.type == FieldDescriptor.TYPE_MESSAGE
    if is_message and depth >= _DEPTH_MAX:
        return
    if is_message and field.message_type.GetOptions().map_entry:
        _set_map(getattr(message, field.name), field.message_type, random, depth)
    elif field.is_repeated:
        values = getattr(message, field.name)
        for _ in range(random.randrange(4)):
            if is_message:
                _fill(values.add(), random, depth + 1)
            else:
                values.append(_scalar(field, random))
    elif is_message:
        part = getattr(message, field.name)
        part.SetInParent()
        _fill(part, random, depth + 1)
    else:
        setattr(message, field.name, _scalar(field, random))


def _set_map(entries: Any, entry: Descriptor, random: Random, depth: int) -> None:
    value = entry.fields_by_name["value"]
    for _ in range(random.randrange(4)):
        key = random.choice(_TEXTS)
        if value.type == FieldDescriptor.TYPE_MESSAGE:
            _fill(entries[key], random, depth + 1)
        else:
            entries[key] = _scalar(value, random)


def _scalar(field: FieldDescriptor, random: Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return random.choice(_TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return random.randbytes(random.choice((0, 1, 20, 130)))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return random.random() < 0.5
    if field.type == FieldDescriptor.TYPE_ENUM:
        return random.choice(list(field.enum_type.values)).number
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return random.choice((0.0, -1.5, 1e300)) if field.type == FieldDescriptor.TYPE_DOUBLE else 0.5
    value = random.choice(_INTEGERS)
    if field.type in _OF_64_BITS:
        value = random.choice((value, 2**63 - 1))
    return -value if random.random() < 0.2 and field.type != FieldDescriptor.TYPE_UINT64 else value
