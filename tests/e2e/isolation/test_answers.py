"""Promise: what Spanner gives out leaves the real Envoy sealed, or not at all; tags stay while a policy changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.cloud.spanner_v1 import types
from google.protobuf.struct_pb2 import Value

from e2e.harness import CHECKOUT, DATABASE, SESSION, Client, Refused, Site, edit, eventually, site
from fakes.seals import opened, opened_name
from spangate.adapters.zetasql_engine import precompile

pytestmark = pytest.mark.e2e

RAW = b"\x00the raw id\xff"
READ_WRITE = {"read_write": {}}
INTERNAL = grpc.StatusCode.INTERNAL
PartialResultSet = types.PartialResultSet.pb()


@pytest.fixture
def own(tmp_path: Any) -> Iterator[Site]:
    precompile()
    with site(tmp_path) as found:
        yield found


def transaction() -> bytes:
    data: bytes = types.Transaction.serialize(types.Transaction(id=RAW))
    return data


def begin(client: Client) -> bytes:
    request = types.BeginTransactionRequest(session=SESSION, options=READ_WRITE)
    found: bytes = client.answer("BeginTransaction", request, types.Transaction).id
    return found


def raw_of(sealed: bytes) -> bytes:
    return opened(sealed, b"w", str(CHECKOUT).encode(), DATABASE.encode())


def tag_of(body: bytes, kind: Any) -> str:
    return str(kind.deserialize(body).request_options.transaction_tag)


def test_the_tag_of_a_transaction_stays_while_the_policy_changes(own: Site) -> None:
    own.spanner.answers = lambda rpc, _: iter([transaction() if rpc == "BeginTransaction" else b""])
    with own.start_gateway().client(CHECKOUT) as client:
        sealed = begin(client)
        select = types.ExecuteSqlRequest(session=SESSION, sql="SELECT OrderId FROM Orders")
        edit(own.folder / "spangate.yaml", ("read: [Orders, OrderItems, ", "read: [Orders, "))

        def new_policy() -> bool:
            client.call("ExecuteSql", select)
            tags = [tag_of(body, types.ExecuteSqlRequest) for rpc, body in own.spanner.calls if rpc == "ExecuteSql"]
            return len(set(tags)) == 2

        eventually(new_policy, "a tag of another policy")
        within = types.ExecuteSqlRequest(
            session=SESSION, sql="SELECT OrderId FROM Orders", transaction={"id": sealed}, seqno=1
        )
        client.call("ExecuteSql", within)
        client.call("Commit", types.CommitRequest(session=SESSION, transaction_id=sealed))
    calls = own.spanner.calls
    began = tag_of(next(body for rpc, body in calls if rpc == "BeginTransaction"), types.BeginTransactionRequest)
    last_sql = next(body for rpc, body in reversed(calls) if rpc == "ExecuteSql")
    commit = next(body for rpc, body in calls if rpc == "Commit")
    assert tag_of(last_sql, types.ExecuteSqlRequest) == began
    assert tag_of(commit, types.CommitRequest) == began
    assert types.CommitRequest.deserialize(commit).transaction_id == RAW
    assert types.CommitRequest.deserialize(commit).session == f"{DATABASE}/sessions/s"


def test_a_gateway_that_was_killed_is_followed_by_one_that_knows_whose_everything_is(own: Site) -> None:
    own.spanner.answers = lambda rpc, _: iter(
        [
            transaction()
            if rpc == "BeginTransaction"
            else types.Session.serialize(types.Session(name=f"{DATABASE}/sessions/x"))
        ]
    )
    first = own.start_gateway()
    with first.client(CHECKOUT) as client:
        session = client.session()
        sealed = begin(client)
    first.envoy.stop()
    with own.start_gateway().client(CHECKOUT) as client:
        own.spanner.answers = lambda _rpc, _body: iter([b""])
        commit = types.CommitRequest(session=session, transaction_id=sealed)
        assert client.call("Commit", commit) == b""
    assert opened_name(session, str(CHECKOUT).encode(), DATABASE) == f"{DATABASE}/sessions/x"


@pytest.mark.parametrize("size", [10, 100_000, 3_000_000])
def test_the_beginning_of_a_stream_is_sealed_however_large_it_is(own: Site, size: int) -> None:
    first = types.PartialResultSet.serialize(types.PartialResultSet(metadata={"transaction": {"id": RAW}}))
    first += PartialResultSet(values=[Value(string_value="x" * size)], resume_token=b"1").SerializeToString()
    rest = [PartialResultSet(values=[Value(string_value=str(n) * 1000)]).SerializeToString() for n in range(50)]
    own.spanner.answers = lambda _rpc, _body: iter([first, *rest])
    request = types.ExecuteSqlRequest(
        session=SESSION, sql="SELECT OrderId FROM Orders", transaction={"begin": READ_WRITE}
    )
    with own.start_gateway().client(CHECKOUT) as client:
        parts = list(client.stream("ExecuteStreamingSql", request))
    found = PartialResultSet.FromString(parts[0])
    assert raw_of(found.metadata.transaction.id) == RAW
    assert (len(found.values[0].string_value), found.resume_token) == (size, b"1")
    assert parts[1:] == rest


def test_what_cannot_be_read_is_withheld(own: Site) -> None:
    broken = transaction() + b"\x12\x7f"
    own.spanner.answers = lambda _rpc, _body: iter([broken, transaction()])
    with own.start_gateway().client(CHECKOUT) as client:
        answer = client.call("BeginTransaction", types.BeginTransactionRequest(session=SESSION, options=READ_WRITE))
        assert isinstance(answer, Refused)
        assert (answer.code, "withheld" in answer.details) == (INTERNAL, True)
        request = types.ExecuteSqlRequest(
            session=SESSION, sql="SELECT OrderId FROM Orders", transaction={"begin": READ_WRITE}
        )
        received = []
        with pytest.raises(grpc.RpcError) as caught:
            received += list(client.stream("ExecuteStreamingSql", request))
        assert caught.value.code() is INTERNAL
        assert received == []
        # The connection lives on, and what needs no seal passes.
        own.spanner.answers = lambda _rpc, _body: iter([b""])
        assert client.sql(SESSION, "SELECT OrderId FROM Orders") == b""


def test_what_spanner_refuses_arrives_as_it_is(own: Site) -> None:
    def abort(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("google.rpc.retryinfo-bin", b"\x01\x02"),))
        context.abort(grpc.StatusCode.ABORTED, "not now")

    own.spanner.ends = abort
    with own.start_gateway().client(CHECKOUT) as client:
        for rpc, message in (
            ("CreateSession", types.CreateSessionRequest(database=DATABASE)),
            ("BeginTransaction", types.BeginTransactionRequest(session=SESSION, options=READ_WRITE)),
        ):
            answer = client.refusal(rpc, message)
            assert (answer.code, answer.details) == (grpc.StatusCode.ABORTED, "not now")
            assert ("google.rpc.retryinfo-bin", b"\x01\x02") in answer.trailing
