"""Encoded messages read in place say what the protobuf library says, and nonsense is refused."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_pb2 as ast
from zetasql.wasi._pb2.zetasql.resolved_ast.serialization_pb2 import ResolvedColumnProto

from spangate.sql.wire import BadMessage, Node

COMPARED = {
    FieldDescriptor.TYPE_BOOL,
    FieldDescriptor.TYPE_ENUM,
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_STRING,
}


@st.composite
def scans(draw: Any) -> Any:
    """Table scans with random content."""
    made = ast.ResolvedTableScanProto()
    made.column_index_list.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4)))
    for number in draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)):
        made.parent.column_list.add(column_id=number, name=draw(st.text(max_size=5)))
    if draw(st.booleans()):
        made.alias = draw(st.text(max_size=5))
    if draw(st.booleans()):
        made.read_as_row_type = draw(st.booleans())
    if draw(st.booleans()):
        made.table.serialization_id = draw(st.integers(-(2**63), 2**63 - 1))
    if draw(st.booleans()):
        made.for_system_time_expr.resolved_literal_node.value.value.double_value = draw(st.floats(allow_nan=False))
    return made


def agrees(node: Node, message: Any) -> bool:
    """Whether both say the same, at every depth."""
    for field in message.DESCRIPTOR.fields:
        mine: Any
        theirs: Any = getattr(message, field.name)
        if field.message_type is not None:
            mine = node.messages(field.name)
            theirs = list(theirs) if field.is_repeated else ([theirs] if message.HasField(field.name) else [])
            if len(mine) != len(theirs) or not all(map(agrees, mine, theirs)):
                return False
        elif field.is_repeated:
            if node.numbers(field.name) != list(theirs):
                return False
        elif node.has(field.name) != message.HasField(field.name):
            return False
        elif node.has(field.name) and field.type in COMPARED:
            mine = node.text(field.name) if field.type == FieldDescriptor.TYPE_STRING else node.number(field.name)
            if mine != theirs:
                return False
    return True


@given(message=scans())
def test_a_message_reads_as_the_library_reads_it(message: Any) -> None:
    assert agrees(Node(message.DESCRIPTOR, message.SerializeToString()), message)


@settings(max_examples=300)
@given(data=st.binary(max_size=40))
def test_bytes_are_refused_or_read_as_the_library_reads_them(data: bytes) -> None:
    try:
        node = Node(ResolvedColumnProto.DESCRIPTOR, data)
        mine = (node.number("column_id"), node.text("name"))
    except BadMessage:
        return
    try:
        message = ResolvedColumnProto.FromString(data)
    except DecodeError:
        # The library looks into every message and every text at once, this reader only when asked.
        return
    assert mine == (message.column_id, message.name)


@given(message=scans(), cut=st.integers(1, 30))
def test_a_message_that_breaks_off_is_refused_or_shorter(message: Any, cut: int) -> None:
    data = message.SerializeToString()
    try:
        node = Node(message.DESCRIPTOR, data[:-cut])
    except BadMessage:
        return
    assert len(node.numbers("column_index_list")) <= len(message.column_index_list)


def test_a_second_value_for_one_field_is_refused() -> None:
    one = ResolvedColumnProto(column_id=1).SerializeToString()
    with pytest.raises(BadMessage, match="twice"):
        Node(ResolvedColumnProto.DESCRIPTOR, one + one)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(BadMessage, match="ResolvedColumnProto has no field 127"):
        Node(ResolvedColumnProto.DESCRIPTOR, b"\xf8\x07\x01")


def test_any_depth_can_be_read() -> None:
    data = b""
    for _ in range(20_000):  # a filter over a filter over ...
        scan = b"\x12" + length(data) + data  # ResolvedFilterScanProto.input_scan
        data = b"\xc2\x01" + length(scan) + scan  # AnyResolvedScanProto.resolved_filter_scan_node
    node, depth = Node(ast.AnyResolvedScanProto.DESCRIPTOR, data), 0
    while children := list(node.children()):
        node, depth = children[0], depth + 1
    assert depth >= 39_999


def length(data: bytes) -> bytes:
    number, found = len(data), bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
