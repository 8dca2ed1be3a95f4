"""Promise: sessions, transactions and partition tokens belong to the identity and database that got them, at every
gateway that shares the keys, and after every restart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud.spanner_v1 import types

from e2e.harness import CHECKOUT, DATABASE, LAB, REPORTS, TESTER, Client, Refused, Up, shop_folder, spangate

pytestmark = pytest.mark.e2e

DENIED, NOT_FOUND = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND
SHARED = "projects/spangate-local/instances/main/databases/gateways"
READ_ONLY, READ_WRITE = {"read_only": {"return_read_timestamp": True}}, {"read_write": {}}
SQL = "SELECT OrderId FROM Orders"
INSERT = types.Mutation(insert={"table": "Things", "columns": ["Id"], "values": [["900"]]})
DELETE = types.Mutation(delete={"table": "Things", "key_set": {"keys": [["900"]]}})


@pytest.fixture(scope="module")
def start(emulator_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Up]]:
    """Starts `up`s in front of one emulator that stays."""
    started: list[Up] = []

    def one(folder: Path | None = None, *arguments: str) -> Up:
        at = folder or shop_folder(tmp_path_factory.mktemp("up") / "shop", lab=True)
        started.append(Up(at, *arguments, SPANNER_EMULATOR_HOST=emulator_address).wait_until_up())
        return started[-1]

    yield one
    for up in started:
        up.end()


@pytest.fixture(scope="module")
def gateways(start: Callable[..., Up]) -> tuple[Up, Up]:
    """Two gateways, each with an authority of its own, that share their keys in Spanner."""
    return start(None, "--shared-state", SHARED), start(None, "--shared-state", SHARED)


@pytest.fixture(scope="module")
def up(gateways: tuple[Up, Up]) -> Up:
    return gateways[0]


def begin(client: Client, session: str, options: dict[str, Any]) -> bytes:
    request = types.BeginTransactionRequest(session=session, options=options)
    found: bytes = client.answer("BeginTransaction", request, types.Transaction).id
    return found


def rows(client: Client, session: str, sql: str = SQL, **fields: Any) -> Any:
    request = types.ExecuteSqlRequest(session=session, sql=sql, **fields)
    return client.answer("ExecuteSql", request, types.ResultSet)


def assert_foreign(answer: bytes | Refused, what: str) -> None:
    assert isinstance(answer, Refused), answer
    assert answer.code is DENIED
    assert f"this {what} was not" in answer.details


def test_a_session_serves_nobody_but_its_identity(up: Up) -> None:
    with up.client(CHECKOUT) as mine, up.client(REPORTS) as theirs:
        session = mine.session()
        assert rows(mine, session) is not None
        audit = up.audit()
        assert_foreign(theirs.sql(session, SQL), "session")
        (line,) = audit.wait(1, REPORTS)
        assert (line["decision"], line["reason"]) == ("refuse", "foreign-session")
        for rpc, message in (
            ("GetSession", types.GetSessionRequest(name=session)),
            ("DeleteSession", types.DeleteSessionRequest(name=session)),
            ("BeginTransaction", types.BeginTransactionRequest(session=session, options=READ_ONLY)),
            ("Commit", types.CommitRequest(session=session, single_use_transaction=READ_WRITE)),
        ):
            assert_foreign(theirs.call(rpc, message), "session")
        # It still is there.
        assert client_name(mine, session) == session


def client_name(client: Client, session: str) -> str:
    return str(client.answer("GetSession", types.GetSessionRequest(name=session), types.Session).name)


def test_the_names_that_spanner_itself_knows_open_nothing(up: Up) -> None:
    with up.direct() as direct, up.client(CHECKOUT) as mine:
        session = mine.session()
        listed = direct.answer("ListSessions", types.ListSessionsRequest(database=DATABASE), types.ListSessionsResponse)
        names = [one.name for one in listed.sessions]
        assert session not in names
        assert any(session.startswith(name) for name in names)
        for name in names:
            assert_foreign(mine.sql(name, SQL), "session")


def test_a_multiplexed_session_is_owned_without_a_label(up: Up) -> None:
    with up.client(CHECKOUT) as mine, up.client(REPORTS) as theirs:
        request = types.CreateSessionRequest(database=DATABASE, session={"multiplexed": True})
        session = mine.answer("CreateSession", request, types.Session).name
        assert rows(mine, session) is not None
        assert_foreign(theirs.sql(session, SQL), "session")


def test_a_transaction_serves_nobody_but_its_identity_on_whatever_session(up: Up) -> None:
    with up.client(CHECKOUT) as mine, up.client(REPORTS) as theirs:
        my_session, their_session = mine.session(), theirs.session()
        for transaction in (begin(mine, my_session, READ_ONLY), begin(mine, my_session, READ_WRITE)):
            selector = types.TransactionSelector(id=transaction)
            assert rows(mine, my_session, transaction=selector) is not None
            assert_foreign(theirs.sql(their_session, SQL, transaction=selector), "transaction")
            assert_foreign(theirs.sql(my_session, SQL, transaction=selector), "session")
            for rpc in ("Commit", "Rollback"):
                kind = types.CommitRequest if rpc == "Commit" else types.RollbackRequest
                message = kind(session=their_session, transaction_id=transaction)
                assert_foreign(theirs.call(rpc, message), "transaction")
        mine.call("Rollback", types.RollbackRequest(session=my_session, transaction_id=transaction))


def test_a_transaction_that_begins_with_its_first_statement_is_sealed_and_goes_on(up: Up) -> None:
    with up.client(TESTER) as client:
        session = client.session(LAB)
        begins = types.TransactionSelector(begin=READ_WRITE)
        insert = "INSERT INTO Things (Id) VALUES (901)"
        parts = list(
            client.stream(
                "ExecuteStreamingSql",
                types.ExecuteSqlRequest(session=session, sql=insert, transaction=begins, seqno=1),
            )
        )
        streamed = types.PartialResultSet.deserialize(parts[0]).metadata.transaction.id
        client.answer("Commit", types.CommitRequest(session=session, transaction_id=streamed), types.CommitResponse)
        batch = types.ExecuteBatchDmlRequest(
            session=session,
            transaction=begins,
            statements=[{"sql": "DELETE FROM Things WHERE Id = 901"}, {"sql": "DELETE FROM Things WHERE Id = 902"}],
            seqno=1,
        )
        answer = client.answer("ExecuteBatchDml", batch, types.ExecuteBatchDmlResponse)
        assert [one.stats.row_count_exact for one in answer.result_sets] == [1, 0]
        commit = types.CommitRequest(session=session, transaction_id=answer.result_sets[0].metadata.transaction.id)
        client.answer("Commit", commit, types.CommitResponse)
        read = types.ReadRequest(
            session=session, table="Things", columns=["Id"], key_set={"all_": True}, transaction={"begin": READ_ONLY}
        )
        first = types.PartialResultSet.deserialize(next(client.stream("StreamingRead", read)))
        again = types.TransactionSelector(id=first.metadata.transaction.id)
        assert rows(client, session, "SELECT Id FROM Things", transaction=again) is not None


def test_a_partition_token_serves_nobody_but_its_identity(up: Up) -> None:
    with up.client(CHECKOUT) as mine, up.client(REPORTS) as theirs:
        session, their_session = mine.session(), theirs.session()
        transaction = types.TransactionSelector(id=begin(mine, session, READ_ONLY))
        partition = types.PartitionQueryRequest(session=session, sql=SQL, transaction=transaction)
        tokens = mine.answer("PartitionQuery", partition, types.PartitionResponse).partitions
        assert len(tokens) > 0
        for one in tokens:
            fields = {"transaction": transaction, "partition_token": one.partition_token}
            assert rows(mine, session, **fields) is not None
        theirs_own = types.TransactionSelector(id=begin(theirs, their_session, READ_ONLY))
        foreign = theirs.sql(their_session, SQL, transaction=theirs_own, partition_token=tokens[0].partition_token)
        assert_foreign(foreign, "partition token")
        # With an unsealed one nothing can be had either.
        assert_foreign(mine.sql(session, SQL, transaction=transaction, partition_token=b"made up"), "partition token")


def test_a_listing_shows_nothing_but_ones_own(up: Up) -> None:
    with up.client(TESTER) as mine, up.direct() as direct:
        direct.session(LAB)
        sessions = {mine.session(LAB) for _ in range(3)}
        batch = types.BatchCreateSessionsRequest(database=LAB, session_count=2)
        sessions |= {
            one.name for one in mine.answer("BatchCreateSessions", batch, types.BatchCreateSessionsResponse).session
        }
        everything = types.ListSessionsRequest(database=LAB)
        listed = {one.name for one in mine.answer("ListSessions", everything, types.ListSessionsResponse).sessions}
        assert sessions <= listed
        assert all(client_name(mine, name) == name for name in listed)
        there = direct.answer("ListSessions", everything, types.ListSessionsResponse).sessions
        assert len(there) > len(listed)


def test_every_gateway_that_shares_the_keys_knows_whose_a_session_is(gateways: tuple[Up, Up]) -> None:
    here, there = gateways
    with here.client(CHECKOUT) as first, there.client(CHECKOUT) as second, there.client(REPORTS) as theirs:
        session = first.session()
        transaction = types.TransactionSelector(id=begin(first, session, READ_ONLY))
        assert rows(second, session, transaction=transaction) is not None
        assert_foreign(theirs.sql(session, SQL), "session")
        assert_foreign(theirs.sql(theirs.session(), SQL, transaction=transaction), "transaction")


def test_keys_are_kept_in_spanner_where_no_identity_gets(gateways: tuple[Up, Up]) -> None:
    with gateways[0].direct() as direct, gateways[0].client(CHECKOUT) as client:
        session = direct.session(SHARED)
        sql = "SELECT KeyId, Secret FROM SpangateSealKeys"
        keys = rows(direct, session, sql).rows
        assert len(keys) > 0
        assert all(re.fullmatch("[0-9a-f]{8}/[0-9a-f]{32}", "/".join(key)) for key in keys)
        assert not (gateways[0].state / "seals.sqlite").exists()
        answer = client.refusal("CreateSession", types.CreateSessionRequest(database=SHARED))
        assert answer.code is DENIED


def test_a_restart_of_everything_changes_nothing_and_lost_keys_make_clients_begin_anew(
    start: Callable[..., Up],
) -> None:
    first = start(None)
    with first.client(TESTER) as client:
        session = client.session(LAB)
        snapshot = types.TransactionSelector(id=begin(client, session, READ_ONLY))
    assert (first.state / "seals.sqlite").stat().st_mode & 0o777 == 0o600
    assert first.end() == 0
    second = start(first.folder)
    with second.client(TESTER) as client, second.client(CHECKOUT) as stranger:
        assert rows(client, session, "SELECT Id FROM Things", transaction=snapshot) is not None
        assert_foreign(stranger.sql(session, "SELECT 1"), "session")
    assert second.end() == 0
    (first.state / "seals.sqlite").unlink()
    third = start(first.folder)
    with third.client(TESTER) as client:
        answer = client.sql(session, "SELECT Id FROM Things")
        assert isinstance(answer, Refused)
        assert (answer.code, answer.details) == (NOT_FOUND, f"Session not found: {session}")
        trailing = dict(answer.trailing)
        assert b"google.spanner.v1.Session" in trailing["google.rpc.resourceinfo-bin"]
        assert b"ResourceInfo" in trailing["grpc-status-details-bin"]
        new = client.session(LAB)
        answer = client.sql(new, "SELECT Id FROM Things", transaction=snapshot)
        assert isinstance(answer, Refused)
        assert answer.code is grpc.StatusCode.ABORTED


def test_what_spanner_makes_of_a_resume_token_in_another_session(up: Up) -> None:
    """A resume token says where in its own result to go on. The gateway decides on the request that bears it as on any
    other, on a session of the identity's own: all it can give is a part of what the same request gives without it."""
    with up.client(TESTER) as mine:
        session, another = mine.session(LAB), mine.session(LAB)
        sql = "SELECT x FROM UNNEST(GENERATE_ARRAY(1, 15000)) AS x"
        request = types.ExecuteSqlRequest(session=session, sql=sql)
        parts = [types.PartialResultSet.pb().FromString(part) for part in mine.stream("ExecuteStreamingSql", request)]
        tokens = [part.resume_token for part in parts if part.resume_token]
        token = tokens[0] if tokens else b"\x01made up"
        again = types.ExecuteSqlRequest(session=another, sql=sql, resume_token=token)
        resumed = [types.PartialResultSet.pb().FromString(part) for part in mine.stream("ExecuteStreamingSql", again)]
        assert sum(len(part.values) for part in resumed) <= 15000
        # Nor does it make another statement pass.
        denied = types.ExecuteSqlRequest(session=session, sql="SELECT Email FROM Customers", resume_token=token)
        with pytest.raises(grpc.RpcError) as caught:
            list(mine.stream("ExecuteStreamingSql", denied))
        # The lab has no such table.
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["nonsense", "projects/p/instances/i"])
def test_a_shared_state_that_is_no_database_is_an_error_of_the_caller(name: str, tmp_path: Path) -> None:
    done = spangate("up", "--shared-state", name, cwd=shop_folder(tmp_path / "shop"))
    assert done.returncode == 2
    assert f"`--shared-state {name}` names no database" in done.stderr


def test_a_database_of_the_intent_may_not_hold_the_keys(emulator: None, tmp_path: Path) -> None:
    done = spangate("up", "--shared-state", DATABASE, cwd=shop_folder(tmp_path / "shop"))
    assert done.returncode != 0
    assert "nobody may be given access to it" in done.stderr
