"""Shapes: what the filter encodes is decoded; what is not exactly of the form is not."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spangate.model.database import DatabasePath
from spangate.model.sqltype import SqlType
from spangate.rpc.shape import (
    DDL_METHODS,
    METHODS,
    MUTATION_METHODS,
    PLAIN_METHODS,
    READ_METHODS,
    SQL_METHODS,
    BadShape,
    MutationKind,
    MutationShape,
    ReadShape,
    Shape,
    Statement,
    decode_shape,
    netstring,
)

PATH = DatabasePath("p", "i", "d")
DATABASE = str(PATH).encode()
STRING_A = b"\x0a\x01a\x12\x02\x08\x06"


WITHOUT_COLUMNS = {MutationKind.DELETE, MutationKind.SEND, MutationKind.ACK}


def shape(method: bytes, *rest: bytes, database: bytes = DATABASE, flags: bytes = b"") -> bytes:
    return b"".join(netstring(part) for part in (method, database, flags, *rest))


def parts(*values: bytes) -> bytes:
    return b"".join(map(netstring, values))


def test_a_netstring_is_length_colon_bytes_comma():
    assert netstring(b"") == b"0:,"
    assert netstring(b"a,1:b") == b"5:a,1:b,"


def test_a_statement_has_its_text_and_the_types_of_its_parameters():
    types = parts(STRING_A, b"\x0a\x01b\x12\x02\x08\x02")
    expected = Statement("SELECT @a", {"a": SqlType("STRING"), "b": SqlType("INT64")})
    assert decode_shape(shape(b"ExecuteSql", b"SELECT @a", types)) == Shape("ExecuteSql", PATH, statements=(expected,))


def test_a_batch_has_many_statements():
    decoded = decode_shape(shape(b"ExecuteBatchDml", b"A", b"", b"B", parts(STRING_A)))
    assert decoded.statements == (Statement("A", {}), Statement("B", {"a": SqlType("STRING")}))


def test_a_read_has_table_index_and_columns():
    decoded = decode_shape(shape(b"StreamingRead", b"Orders", b"", b"OrderId", b"Total"))
    assert decoded == Shape("StreamingRead", PATH, read=ReadShape("Orders", "", ("OrderId", "Total")))


@pytest.mark.parametrize("method", sorted(MUTATION_METHODS))
@pytest.mark.parametrize("kind", list(MutationKind))
def test_a_mutation_has_kind_table_and_columns(method, kind):
    columns = () if kind in WITHOUT_COLUMNS else ("OrderId", "Total")
    mutation = parts(kind.encode(), b"Orders", *(column.encode() for column in columns))
    decoded = decode_shape(shape(method.encode(), mutation))
    assert decoded == Shape(method, PATH, mutations=(MutationShape(kind, "Orders", columns),))


@pytest.mark.parametrize("method", sorted(PLAIN_METHODS | MUTATION_METHODS))
def test_other_methods_have_method_and_database_only(method):
    assert decode_shape(shape(method.encode())) == Shape(method, PATH)


def test_a_schema_change_has_its_statements():
    assert decode_shape(shape(b"UpdateDatabaseDdl", b"A", b"B")).ddl == ("A", "B")
    assert decode_shape(shape(b"UpdateDatabaseDdl")).ddl == ()


@pytest.mark.parametrize(
    ("flags", "hides", "partitioned"),
    [(b"", False, False), (b"h", True, False), (b"p", False, True), (b"hp", True, True)],
)
def test_flags_say_what_the_transaction_is(flags, hides, partitioned):
    found = decode_shape(shape(b"BeginTransaction", flags=flags))
    assert found == Shape("BeginTransaction", PATH, hides_writes=hides, partitioned=partitioned)


def test_every_method_is_of_one_sort():
    sorts = [SQL_METHODS, READ_METHODS, MUTATION_METHODS, DDL_METHODS, PLAIN_METHODS]
    assert sum(map(len, sorts)) == len(METHODS)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "at least a method, a database and flags"),
        (netstring(b"ExecuteSql"), "at least a method, a database and flags"),
        (netstring(b"Rollback") + netstring(DATABASE), "at least a method, a database and flags"),
        (shape(b"Rollback", flags=b"x"), "unknown flags"),
        (shape(b"Rollback", flags=b"ph"), "unknown flags"),
        (shape(b"Rollback", flags=b"hh"), "unknown flags"),
        (shape(b"Rollback", flags=b"h,p"), "unknown flags"),
        (shape(b"Rollback", flags=b"H"), "unknown flags"),
        (shape(b"UpdateDatabaseDdl", b"\xff"), "not UTF-8"),
        (shape(b"GetOperation", b""), "GetOperation with 1 fields"),
        (b"ExecuteSql", "no length at byte 0"),
        (b":,", "no length at byte 0"),
        (b"1:a", "does not end where it should"),
        (b"2:a,", "does not end where it should"),
        (b"0:a,", "does not end where it should"),
        (b"01:a,", "no length at byte 0"),
        (b"00:,", "no length at byte 0"),
        (b"-1:,", "no length at byte 0"),
        (b"+1:a,", "no length at byte 0"),
        (b" 1:a,", "no length at byte 0"),
        ("\u0661:a,".encode(), "no length at byte 0"),
        (b"1000000000:a,", "no length at byte 0"),
        (b"999999999:a,", "does not end where it should"),
        (shape(b"Rollback") + b"x", "no length at byte"),
        (shape(b"Rollback") + b"\n", "no length at byte"),
        (shape(b"Rollback", b""), "Rollback with 1 fields"),
        (shape(b"PartitionQuery"), "PartitionQuery with 0 fields"),
        (shape(b"FetchCacheUpdate"), "an unknown method"),
        (shape(b"rollback"), "an unknown method"),
        (shape(b""), "an unknown method"),
        (shape(b"Roll\xff"), "not UTF-8"),
        (shape(b"Rollback", database=b"projects/p/instances/i"), "the database is not of the form"),
        (shape(b"Rollback", database=DATABASE + b"\n"), "the database is not of the form"),
        (shape(b"Rollback", database=b"\xff"), "not UTF-8"),
        (shape(b"ExecuteSql"), "ExecuteSql with 0 fields"),
        (shape(b"ExecuteSql", b"S"), "ExecuteSql with 1 fields"),
        (shape(b"ExecuteSql", b"S", b"", b"S"), "ExecuteSql with 3 fields"),
        (shape(b"ExecuteSql", b"S", b"", b"S", b""), "ExecuteSql with 4 fields"),
        (shape(b"ExecuteBatchDml", b"S"), "ExecuteBatchDml with 1 fields"),
        (shape(b"ExecuteBatchDml", b"S", b"", b"S"), "ExecuteBatchDml with 3 fields"),
        (shape(b"ExecuteSql", b"\xff", b""), "not UTF-8"),
        (shape(b"ExecuteSql", b"S", b"x"), "no length at byte 0"),
        (shape(b"ExecuteSql", b"S", parts(b"x")), "a parameter's type"),
        (shape(b"ExecuteSql", b"S", parts(STRING_A, STRING_A)), "a parameter with two types"),
        (shape(b"Read"), "without table and index"),
        (shape(b"Read", b"Orders"), "without table and index"),
        (shape(b"Read", b"Orders", b"", b"\xed\xa0\x80"), "not UTF-8"),
        (shape(b"Commit", b""), "at least a kind and a table"),
        (shape(b"Commit", parts(b"insert")), "at least a kind and a table"),
        (shape(b"Commit", parts(b"merge", b"Queue")), "unknown kind"),
        (shape(b"Commit", parts(b"send", b"Queue", b"A")), "send with columns"),
        (shape(b"Commit", parts(b"ack", b"Queue", b"A")), "ack with columns"),
        (shape(b"Commit", parts(b"INSERT", b"Orders")), "unknown kind"),
        (shape(b"Commit", parts(b"delete", b"Orders", b"OrderId")), "delete with columns"),
        (shape(b"Commit", b"insert"), "no length at byte 0"),
        (shape(b"Commit", parts(b"insert", b"\xc0\x80")), "not UTF-8"),
    ],
)
def test_what_is_not_exactly_a_shape_is_refused(data, why):
    with pytest.raises(BadShape, match=why):
        decode_shape(data)


@given(st.text(), st.text(), st.lists(st.text(), max_size=4), st.sampled_from(sorted(READ_METHODS)))
@settings(max_examples=100, deadline=None)
def test_any_names_are_decoded_as_they_were_encoded(table, index, columns, method):
    encoded = shape(method.encode(), *(text.encode() for text in (table, index, *columns)))
    assert decode_shape(encoded).read == ReadShape(table, index, tuple(columns))


@given(st.sampled_from(sorted(METHODS)), st.lists(st.binary(max_size=20), max_size=4), st.binary(max_size=10))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything_else(method, rest, end):
    for data in (shape(method.encode(), *rest), shape(method.encode(), parts(*rest)), end + shape(b"Read"), end):
        with contextlib.suppress(BadShape):
            decode_shape(data)


@given(st.lists(st.binary(max_size=12), max_size=6), st.lists(st.binary(max_size=12), max_size=6))
@settings(max_examples=200, deadline=None)
def test_two_lists_of_texts_never_have_one_encoding(one, two):
    assert (parts(*one) == parts(*two)) == (one == two)
