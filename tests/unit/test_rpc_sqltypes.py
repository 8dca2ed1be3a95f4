"""Types of parameters: read from their bytes as google.spanner.v1.Type means them, refused where not certain."""

from __future__ import annotations

import contextlib
from random import Random

import pytest
from google.cloud.spanner_v1 import types
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.spanner_oracle import sql_type
from fakes.spanner_requests import random_type
from spangate.model.sqltype import SqlType
from spangate.rpc.sqltypes import NESTING_MAX, TYPE_CODES, BadType, read_param_type

ENTRY = types.ExecuteSqlRequest.pb()
STRING = b"\x12\x02\x08\x06"
NAME = b"\x0a\x01a"


def entry(name: str, **fields: object) -> bytes:
    """An entry of param_types as google.protobuf writes it."""
    request = types.ExecuteSqlRequest.pb(types.ExecuteSqlRequest(param_types={name: types.Type(**fields)}))
    return _only_entry(request.SerializeToString())


def _only_entry(data: bytes) -> bytes:
    """The payload of the one field 5 that `data` consists of."""
    assert data[0] == 0x2A
    at, length, shift = 1, 0, 0
    while True:
        length |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            break
    assert at + length == len(data)
    return data[at:]


def nested(depth: int) -> bytes:
    """A STRING in `depth` arrays, as google.protobuf writes it."""
    request = ENTRY()
    type_ = request.param_types["a"]
    for _ in range(depth):
        type_.code = types.TypeCode.ARRAY
        type_ = type_.array_element_type
    type_.code = types.TypeCode.STRING
    return _only_entry(request.SerializeToString())


def test_every_code_of_the_api_but_unspecified_is_known():
    assert {int(code): code.name for code in types.TypeCode if code} == TYPE_CODES


@pytest.mark.parametrize(
    "code", [c for c in types.TypeCode if c.name not in {"TYPE_CODE_UNSPECIFIED", "ARRAY", "STRUCT"}]
)
def test_a_scalar_is_its_code(code):
    assert read_param_type(entry("a", code=code)) == ("a", SqlType(code.name))


def test_annotations_and_names_of_protos_do_not_change_the_type():
    numeric = entry("n", code="NUMERIC", type_annotation="PG_NUMERIC")
    assert read_param_type(numeric) == ("n", SqlType("NUMERIC"))
    assert read_param_type(entry("p", code="PROTO", proto_type_fqn="shop.Order")) == ("p", SqlType("PROTO"))


def test_an_array_has_its_element():
    data = entry("a", code="ARRAY", array_element_type={"code": "INT64"})
    assert read_param_type(data) == ("a", SqlType("ARRAY", element=SqlType("INT64")))


def test_a_struct_has_its_fields_in_order_and_their_names_may_be_empty_or_the_same():
    fields = [
        {"name": "x", "type_": {"code": "INT64"}},
        {"type_": {"code": "BOOL"}},
        {"name": "x", "type_": {"code": "DATE"}},
    ]
    expected = SqlType("STRUCT", fields=(("x", SqlType("INT64")), ("", SqlType("BOOL")), ("x", SqlType("DATE"))))
    assert read_param_type(entry("s", code="STRUCT", struct_type={"fields": fields})) == ("s", expected)


def test_a_struct_may_be_empty_and_a_name_may_be_any_text():
    assert read_param_type(entry("ä😀\0", code="STRUCT", struct_type={})) == ("ä😀\0", SqlType("STRUCT"))


def test_nesting_has_a_limit():
    assert read_param_type(nested(NESTING_MAX))[0] == "a"
    with pytest.raises(BadType, match="nested more than"):
        read_param_type(nested(NESTING_MAX + 1))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "an unknown type code"),
        (NAME, "an unknown type code"),
        (NAME + b"\x12\x00", "an unknown type code"),
        (NAME + b"\x12\x02\x08\x00", "an unknown type code"),
        (NAME + b"\x12\x02\x08\x0c", "an unknown type code"),
        # 2**32 + 2: truncated to 32 bits it would be INT64.
        (NAME + b"\x12\x06\x08\x82\x80\x80\x80\x10", "an unknown type code"),
        # -1 has ten bytes.
        (NAME + b"\x12\x0b\x08" + b"\xff" * 9 + b"\x01", "a number out of range"),
        (NAME + b"\x12\x03\x08\x86\x00", "longer than it need be"),
        (NAME + b"\x92\x00\x02\x08\x06", "longer than it need be"),
        (NAME + STRING + STRING, "field 2 twice"),
        (NAME + NAME + STRING, "field 1 twice"),
        (NAME + b"\x12\x04\x08\x06\x08\x02", "field 1 twice"),
        (NAME + STRING + b"\x1a\x00", "an unknown field 3"),
        (NAME + b"\x12\x04\x08\x06\x30\x01", "an unknown field 6"),
        (b"\x08\x01" + STRING, "an unknown field 1"),
        (NAME + b"\x10\x06", "an unknown field 2"),
        (NAME + b"\x13\x14", "an unknown field 2"),
        (NAME + b"\x12\x03\x0a\x01\x06", "an unknown field 1"),
        (b"\x0a\x02a", "it breaks off"),
        (NAME + b"\x12\x03\x08\x06", "it breaks off"),
        (NAME + b"\x12", "it breaks off"),
        (NAME + b"\x12\x02\x08\x86", "it breaks off"),
        (b"\x0a\x01\xff" + STRING, "not UTF-8"),
        (NAME + b"\x12\x05\x08\x0d\x2a\x01\xff", "not UTF-8"),
        (b"\x0a\x03\xed\xa0\x80" + STRING, "not UTF-8"),
        (NAME + b"\x12\x02\x08\x08", "parts of another type"),
        (NAME + b"\x12\x02\x08\x09", "parts of another type"),
        (NAME + b"\x12\x06\x08\x06\x12\x02\x08\x06", "parts of another type"),
        (NAME + b"\x12\x04\x08\x06\x1a\x00", "parts of another type"),
        (NAME + b"\x12\x04\x08\x08\x12\x00", "an unknown type code"),
        (NAME + b"\x12\x08\x08\x09\x1a\x04\x0a\x02\x12\x00", "an unknown type code"),
        (NAME + b"\x12\x06\x08\x09\x1a\x02\x12\x00", "an unknown field 2"),
    ],
)
def test_what_is_not_certain_is_refused(data, why):
    with pytest.raises(BadType, match=why):
        read_param_type(data)


@given(st.text(), st.integers(0, 2**64 - 1))
@settings(max_examples=200, deadline=None)
def test_any_type_that_google_protobuf_writes_is_read_as_it_is_meant(name, seed):
    request = ENTRY()
    random_type(request.param_types[name], Random(seed))
    read = read_param_type(_only_entry(request.SerializeToString()))
    assert read == (name, sql_type(request.param_types[name]))


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=400, deadline=None)
def test_whatever_is_read_of_damaged_bytes_google_protobuf_reads_the_same_way(seed):
    random = Random(seed)
    request = ENTRY()
    random_type(request.param_types["a"], random)
    data = bytearray(_only_entry(request.SerializeToString()))
    for _ in range(random.randrange(1, 3)):
        at = random.randrange(len(data))
        data[at : at + random.randrange(2)] = random.choice((b"", bytes([random.randrange(256)]), data[: at // 2]))
        if not data:
            return
    try:
        name, type_ = read_param_type(bytes(data))
    except BadType:
        return
    length = len(data)
    prefix = bytes([length]) if length < 128 else bytes([length % 128 + 128, length // 128])
    parsed = ENTRY.FromString(b"\x2a" + prefix + bytes(data))
    assert {name: type_} == {key: sql_type(value) for key, value in parsed.param_types.items()}


@given(st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything_else(data):
    with contextlib.suppress(BadType):
        read_param_type(data)
