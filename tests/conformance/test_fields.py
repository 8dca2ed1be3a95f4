"""The filter's field tables hold exactly the fields of the published API."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.spanner_v1 import types
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from fakes.envoy import Worker
from fakes.spanner_oracle import REQUESTS, path
from spangate.rpc.shape import METHODS

NUMBER, BYTES = 0, 2
MANY, CUT = 8, 16

WIRE_TYPES = {
    FieldDescriptor.TYPE_STRING: BYTES,
    FieldDescriptor.TYPE_BYTES: BYTES,
    FieldDescriptor.TYPE_MESSAGE: BYTES,
    FieldDescriptor.TYPE_BOOL: NUMBER,
    FieldDescriptor.TYPE_ENUM: NUMBER,
    FieldDescriptor.TYPE_INT32: NUMBER,
    FieldDescriptor.TYPE_INT64: NUMBER,
}
MESSAGES: dict[str, Descriptor] = {
    **{request.DESCRIPTOR.name: request.DESCRIPTOR for request in REQUESTS.values()},
    "ExecuteBatchDmlRequest.Statement": types.ExecuteBatchDmlRequest.Statement.pb().DESCRIPTOR,
    "BatchWriteRequest.MutationGroup": types.BatchWriteRequest.MutationGroup.pb().DESCRIPTOR,
    "Session": types.Session.pb().DESCRIPTOR,
    "Session.LabelsEntry": types.Session.pb().DESCRIPTOR.fields_by_name["labels"].message_type,
    "TransactionSelector": types.TransactionSelector.pb().DESCRIPTOR,
    "TransactionOptions": types.TransactionOptions.pb().DESCRIPTOR,
    "TransactionOptions.ReadWrite": types.TransactionOptions.ReadWrite.pb().DESCRIPTOR,
    "RequestOptions": types.RequestOptions.pb().DESCRIPTOR,
    "Mutation": types.Mutation.pb().DESCRIPTOR,
    "Mutation.Write": types.Mutation.Write.pb().DESCRIPTOR,
    "Mutation.Delete": types.Mutation.Delete.pb().DESCRIPTOR,
    "Mutation.Send": types.Mutation.Send.pb().DESCRIPTOR,
    "Mutation.Ack": types.Mutation.Ack.pb().DESCRIPTOR,
}
ANSWERS: dict[str, Descriptor] = {
    "CommitResponse": types.CommitResponse.pb().DESCRIPTOR,
    "Timestamp": Timestamp.DESCRIPTOR,
}
CUT_OUT = {
    ("ExecuteSqlRequest", "routing_hint"),
    ("ReadRequest", "routing_hint"),
    ("BeginTransactionRequest", "routing_hint"),
    ("CommitRequest", "routing_hint"),
    ("RequestOptions", "client_context"),
}


@pytest.fixture(scope="module")
def internals() -> Any:
    return Worker().internals


def table_of(specs: Any, name: str) -> dict[int, int]:
    return {number: value for number, value in specs[name.encode()].items() if isinstance(number, int)}


def expected(name: str, descriptor: Descriptor) -> dict[int, int]:
    found = {}
    for field in descriptor.fields:
        treatment = WIRE_TYPES[field.type]
        if (name, field.name) in CUT_OUT:
            treatment += CUT
        elif field.is_repeated:
            treatment += MANY
        found[field.number] = treatment
    return found


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_a_table_of_a_request_holds_the_published_fields_and_how_each_is_treated(internals, name):
    assert table_of(internals[b"specs"], name) == expected(name, MESSAGES[name])


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_table_of_an_answer_holds_the_published_fields(internals, name):
    assert table_of(internals[b"answers"], name) == expected(name, ANSWERS[name])


def test_every_table_stands_for_a_published_message(internals):
    assert {name.decode() for name in internals[b"specs"]} == set(MESSAGES)
    assert {name.decode() for name in internals[b"answers"]} == set(ANSWERS)


def test_only_an_answer_may_hold_fields_that_are_not_known(internals):
    assert [name for name, spec in internals[b"specs"].items() if spec[b"others"]] == []
    assert [name for name, spec in internals[b"answers"].items() if spec[b"others"]] == [b"CommitResponse"]


def test_the_filter_knows_the_methods_that_shapes_can_have_and_no_others(internals):
    assert set(internals[b"paths"]) == {path(method) for method in REQUESTS}
    assert set(REQUESTS) == METHODS


@pytest.mark.parametrize("method", sorted(REQUESTS))
def test_a_method_is_read_by_the_table_of_its_request(internals, method):
    rpc = internals[b"paths"][path(method)]
    descriptor = REQUESTS[method].DESCRIPTOR
    assert table_of({b"spec": rpc[b"spec"]}, "spec") == expected(descriptor.name, descriptor)


@pytest.mark.parametrize("method", sorted(REQUESTS))
def test_request_options_and_created_sessions_stand_where_the_filter_writes_them(internals, method):
    rpc = internals[b"paths"][path(method)]
    by_type = {f.message_type.name: f.number for f in REQUESTS[method].DESCRIPTOR.fields if f.message_type}
    assert rpc[b"options"] == by_type.get("RequestOptions")
    assert rpc[b"creates"] == by_type.get("Session")
    # The filter relies on one-byte tags where it cuts request options out.
    assert (rpc[b"options"] or 1) < 16
