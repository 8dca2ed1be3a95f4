"""The messages of the SPIFFE Workload API, built from one short table.

Rules: field names and numbers are those of the API; they are in a pool of their own, so that a program that also holds
a SPIFFE library's copy of them has no conflict. `claims` is a google.protobuf.Struct; it is declared as bytes, which
look the same on the wire, and filled with an encoded Struct.
Source: https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_API.md, sections 5.1 and 6.1
Not here: what is answered when (workload_api.py), HTTP/2 (adapters/).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE = "SpiffeWorkloadAPI"
_STRING, _BYTES, _MESSAGE = (
    FieldDescriptorProto.TYPE_STRING,
    FieldDescriptorProto.TYPE_BYTES,
    FieldDescriptorProto.TYPE_MESSAGE,
)
_MAP = "map of bytes"

# Message -> field -> (number, repeated?, type): a scalar type, the name of a message, or a map of texts to bytes.
_FIELDS: Mapping[str, Mapping[str, tuple[int, bool, FieldDescriptorProto.Type.ValueType | str]]] = {
    "X509SVIDRequest": {},
    "X509SVIDResponse": {
        "svids": (1, True, "X509SVID"),
        "crl": (2, True, _BYTES),
        "federated_bundles": (3, True, _MAP),
    },
    "X509SVID": {
        "spiffe_id": (1, False, _STRING),
        "x509_svid": (2, False, _BYTES),
        "x509_svid_key": (3, False, _BYTES),
        "bundle": (4, False, _BYTES),
        "hint": (5, False, _STRING),
    },
    "X509BundlesRequest": {},
    "X509BundlesResponse": {"crl": (1, True, _BYTES), "bundles": (2, True, _MAP)},
    "JWTSVIDRequest": {"audience": (1, True, _STRING), "spiffe_id": (2, False, _STRING)},
    "JWTSVIDResponse": {"svids": (1, True, "JWTSVID")},
    "JWTSVID": {"spiffe_id": (1, False, _STRING), "svid": (2, False, _STRING), "hint": (3, False, _STRING)},
    "JWTBundlesRequest": {},
    "JWTBundlesResponse": {"bundles": (1, True, _MAP)},
    "ValidateJWTSVIDRequest": {"audience": (1, False, _STRING), "svid": (2, False, _STRING)},
    "ValidateJWTSVIDResponse": {"spiffe_id": (1, False, _STRING), "claims": (2, False, _BYTES)},
}


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="spangate/workload.proto", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field_name, (number, repeated, kind) in fields.items():
            label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            field = message.field.add(name=field_name, number=number, label=label)
            if kind == _MAP:
                field.type, field.type_name = _MESSAGE, f".{name}.{_entry(message, field_name)}"
            elif isinstance(kind, str):
                field.type, field.type_name = _MESSAGE, f".{kind}"
            else:
                field.type = kind
    return file


def _entry(message: DescriptorProto, field_name: str) -> str:
    """The message that a map's entry is on the wire; its name is protobuf's own rule."""
    entry = message.nested_type.add(name="".join(part.capitalize() for part in field_name.split("_")) + "Entry")
    entry.options.map_entry = True
    for number, (name, kind) in enumerate((("key", _STRING), ("value", _BYTES)), start=1):
        entry.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL, type=kind)
    return entry.name


_POOL = DescriptorPool()
_POOL.Add(_file())


def message_class(name: str) -> Any:  # noqa: ANN401 - protobuf makes its classes when the program runs
    """The class of the message `name`."""
    return GetMessageClass(_POOL.FindMessageTypeByName(name))


X509SVIDRequest = message_class("X509SVIDRequest")
X509SVIDResponse = message_class("X509SVIDResponse")
X509SVID = message_class("X509SVID")
X509BundlesRequest = message_class("X509BundlesRequest")
X509BundlesResponse = message_class("X509BundlesResponse")
JWTSVIDRequest = message_class("JWTSVIDRequest")
JWTSVIDResponse = message_class("JWTSVIDResponse")
JWTSVID = message_class("JWTSVID")
JWTBundlesRequest = message_class("JWTBundlesRequest")
JWTBundlesResponse = message_class("JWTBundlesResponse")
ValidateJWTSVIDRequest = message_class("ValidateJWTSVIDRequest")
ValidateJWTSVIDResponse = message_class("ValidateJWTSVIDResponse")
