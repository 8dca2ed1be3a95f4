"""Requests that no client sends: mutated bytes of the corpus, and messages made up along Google's descriptors.

Rules: everything follows from the `random.Random` given, so that a seed and a number stand for an input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from conformance import cases, seals, wire, world
from fakes.reference import reference

Edit = Callable[[Random, bytes], bytes]

_NUMBERS = (0, 1, 2, 3, 5, 127, 128, 255, 300, 2**21, 2**28, 2**29 + 3, 2**31 - 1, 2**32, 2**35, 2**63, 2**64 - 1)
_TEXTS = (
    "",
    "Orders",
    "orders",
    "Customers",
    "Notes",
    "Jobs",
    "OrdersByCustomer",
    "OrderId",
    "Status",
    "Total",
    "Email",
    "*",
    "spangate-owner",
    "ä",
    "\0",
    "3:abc,",
)


def varint(random: Random) -> bytes:
    """A number, now and then longer than it need be or without an end."""
    value = random.choice(_NUMBERS)
    found = wire.varint(value, random.choice((0, 0, 0, 0, 1, 2, 7)))
    return found if random.random() < 0.9 else found[:-1]


def field(random: Random) -> bytes:
    """A field of any number and wire type."""
    number, wire_type = random.choice((0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 16, 18, 19, 1999)), random.choice(range(8))
    payload = random.randbytes(random.choice((0, 1, 2, 4, 8)))
    if wire_type == 2:
        return wire.field(number, random.choice(_TEXTS).encode() if random.random() < 0.5 else payload)
    if wire_type == 0:
        return wire.tag(number, 0) + varint(random)
    return wire.tag(number, wire_type) + payload


# Bytes as such -----------------------------------------------------------------------------------------------------


def flip(random: Random, data: bytes) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]


def overwrite(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    new = random.randbytes(random.choice((1, 1, 2, 4)))
    return data[:at] + new + data[at + len(new) :]


def insert(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.choice((varint(random), field(random), random.randbytes(2))) + data[at:]


def delete(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at + random.choice((1, 1, 2, 8)) :]


def repeat(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    end = at + random.choice((1, 2, 8, 40))
    return data[:end] + data[at:end] + data[end:]


def truncate(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def append(random: Random, data: bytes) -> bytes:
    return data + field(random)


# Fields ------------------------------------------------------------------------------------------------------------


def _parts(data: bytes) -> list[wire.Part]:
    try:
        return wire.parts(data)
    except IndexError:
        return []


def _with_parts(change: Callable[[Random, list[wire.Part]], Sequence[bytes]]) -> Edit:
    def edit(random: Random, data: bytes) -> bytes:
        found = _parts(data)
        return b"".join(change(random, found)) if found else data

    return edit


def _shuffled(random: Random, parts: list[wire.Part]) -> list[bytes]:
    return random.sample([part.encoded for part in parts], len(parts))


def _doubled(random: Random, parts: list[wire.Part]) -> list[bytes]:
    found = [part.encoded for part in parts]
    found.insert(random.randrange(len(found) + 1), random.choice(found))
    return found


def _dropped(random: Random, parts: list[wire.Part]) -> list[bytes]:
    found = [part.encoded for part in parts]
    del found[random.randrange(len(found))]
    return found


def _renumbered(random: Random, parts: list[wire.Part]) -> list[bytes]:
    at = random.randrange(len(parts))
    part = parts[at]
    body = part.encoded[len(wire.tag(part.number, part.wire_type)) :]
    number, wire_type = part.number, part.wire_type
    if random.random() < 0.5:
        number = random.choice((1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 18, 19))
    else:
        wire_type = random.randrange(8)
    return [wire.tag(number, wire_type) + body if i == at else one.encoded for i, one in enumerate(parts)]


def _overlong(random: Random, parts: list[wire.Part]) -> list[bytes]:
    at = random.randrange(len(parts))
    part = parts[at]
    longer = wire.varint(part.number * 8 + part.wire_type, random.choice((0, 1, 3)))
    length = wire.varint(len(part.payload), random.choice((0, 1, 3))) if part.wire_type == 2 else b""
    return [longer + length + part.payload if i == at else one.encoded for i, one in enumerate(parts)]


def _inside(random: Random, parts: list[wire.Part]) -> list[bytes]:
    """One of the edits, a level deeper."""
    deep = [i for i, part in enumerate(parts) if part.wire_type == 2]
    if not deep:
        return [part.encoded for part in parts]
    at = random.choice(deep)
    inner = mutated(random, parts[at].payload)
    return [wire.field(part.number, inner) if i == at else part.encoded for i, part in enumerate(parts)]


EDITS: tuple[Edit, ...] = (
    flip,
    overwrite,
    insert,
    delete,
    repeat,
    truncate,
    append,
    _with_parts(_shuffled),
    _with_parts(_doubled),
    _with_parts(_dropped),
    _with_parts(_renumbered),
    _with_parts(_overlong),
    _with_parts(_inside),
    _with_parts(_inside),
    _with_parts(_inside),
)


def mutated(random: Random, data: bytes) -> bytes:
    """`data` after one edit, or a few."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice(EDITS)(random, data)
    return data


# Messages made up ---------------------------------------------------------------------------------------------------

_STATEMENTS = tuple(entry["sql"] for entry in world.read_yaml("statements.yaml"))
_SESSIONS = {
    (fact["identity"], name.partition("/sessions/")[0]): name for name, fact in seals.WORLD["sessions"].items()
}
_HANDLES = tuple(seals.WORLD["handles"])
_OWN = {
    who: tuple(value for value, fact in seals.WORLD["handles"].items() if fact["identity"] == world.spiffe_id(who))
    for who in (*world.POLICY["identities"], "nobody")
}
_DEPTH_MAX = 6


def made_up(random: Random, path: str, who: str) -> bytes:
    """A message for the RPC, of words that mean something; mostly of this identity's own things."""
    rpc = reference.RPCS[path]
    request = rpc.message()
    _fill(random, request, 0, who)
    database = world.POLICY["databases"]["shop"]["path"]
    if rpc.at == "database":
        request.database = database
    elif "Operation" in path:
        request.name = f"{database}/operations/o"
    elif random.random() < 0.9:
        owner = who if random.random() < 0.95 else random.choice(PEOPLE)
        setattr(request, rpc.at, _SESSIONS[world.spiffe_id(owner), database])
    data: bytes = request.SerializeToString()
    return data


def _fill(random: Random, message: Any, depth: int, who: str) -> None:
    for descriptor in message.DESCRIPTOR.fields:
        if random.random() < 0.45 or (depth > _DEPTH_MAX and descriptor.message_type is not None):
            continue
        if descriptor.containing_oneof is not None and message.WhichOneof(descriptor.containing_oneof.name):
            continue
        type_ = descriptor.message_type
        if type_ is not None and type_.GetOptions().map_entry:
            key = random.choice(_TEXTS)
            value = type_.fields_by_name["value"]
            if value.message_type is not None:
                _fill(random, getattr(message, descriptor.name)[key], depth + 1, who)
            elif value.type == FieldDescriptor.TYPE_STRING:
                getattr(message, descriptor.name)[key] = random.choice(_TEXTS)
        elif descriptor.is_repeated:
            for _ in range(random.choice((0, 1, 1, 2, 3))):
                if type_ is not None:
                    _fill(random, getattr(message, descriptor.name).add(), depth + 1, who)
                else:
                    getattr(message, descriptor.name).append(_scalar(random, descriptor, who))
        elif type_ is not None:
            part = getattr(message, descriptor.name)
            part.SetInParent()
            _fill(random, part, depth + 1, who)
        else:
            setattr(message, descriptor.name, _scalar(random, descriptor, who))


def _scalar(random: Random, descriptor: FieldDescriptor, who: str) -> Any:
    match descriptor.type:
        case FieldDescriptor.TYPE_STRING:
            return random.choice(_STATEMENTS if descriptor.name in ("sql", "statements") else _TEXTS)
        case FieldDescriptor.TYPE_BYTES:
            return random.choice(_OWN[who]) if random.random() < 0.8 else random.choice((b"", b"x", *_HANDLES[:8]))
        case FieldDescriptor.TYPE_BOOL:
            return random.random() < 0.5
        case FieldDescriptor.TYPE_ENUM:
            return random.choice([value.number for value in descriptor.enum_type.values])
        case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
            return 0.5
        case _:
            return random.choice((0, 1, 2, 127, 128, 2**31 - 1))


# Inputs -------------------------------------------------------------------------------------------------------------

PEOPLE = (*world.POLICY["identities"], "nobody")
_BODIES = tuple((case.who, case.path, case.message(seals.sealing())) for case in cases.CASES if not case.edit)
_PATHS = tuple(reference.RPCS)


def request(random: Random) -> tuple[str, str, bytes]:
    """Who, path, gRPC body."""
    who, path, data = random.choice(_BODIES)
    if random.random() < 0.4:
        who, path = random.choice(PEOPLE) if random.random() < 0.5 else "root", random.choice(_PATHS)
        data = made_up(random, path, who)
    if random.random() < 0.05:
        path = random.choice(_PATHS)
    if random.random() < 0.1 and who != "no-certificate":
        who = random.choice(PEOPLE)
    if random.random() < 0.75:
        data = mutated(random, data)
    body = wire.framed(data)
    if random.random() < 0.03:
        body = mutated(random, body)
    return "nobody" if who == "no-certificate" else who, path, body
