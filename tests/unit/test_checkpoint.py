"""The decision service: identify, decide, record, in that order."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fakes.clock import NOON, FakeClock
from fakes.http import exchange_headers
from fakes.shop import INTENT, policy
from spangate.adapters.checkpoint_door import checkpoint_app
from spangate.adapters.unix_server import UnixServer
from spangate.checkpoint.service import Answer, Checkpoint, judge, transaction_tag
from spangate.errors import TryAgain
from spangate.model.access import Access, Operation
from spangate.model.decision import Decision, Reason, denial_status
from spangate.model.identity import SpiffeId
from spangate.model.policy import Policy
from spangate.model.schema import Schema
from spangate.model.sqltype import SqlType
from spangate.rpc.shape import netstring
from spangate.sql.googlesql import UnreadableStatement

POLICY = policy()
KEYS = "00000001:000102030405060708090a0b0c0d0e0f"
DATABASE = str(POLICY.databases["shop"].path)
CHECKOUT = str(POLICY.identities["checkout"])
STRANGER = "spiffe://shop.example/ns/shop/sa/intruder"
READ_NAMES = (Access(Operation.READ, "Customers", ("CustomerId", "Name")),)


class FakeStatements:
    """Answers from a table; a statement that is not in it is unreadable. Remembers what it was asked."""

    def __init__(self, known: Mapping[str, tuple[Access, ...]] | None = None) -> None:
        self.known = known or {"SELECT Name FROM Customers": READ_NAMES}
        self.asked: list[str] = []
        self.identities: list[str] = []
        self.not_kept: set[str] = set()

    def accesses(
        self, schema: Schema, sql: str, param_types: Mapping[str, SqlType], *, identity: str = ""
    ) -> tuple[Access, ...]:
        self.asked.append(sql)
        self.identities.append(identity)
        if sql == "BUSY":
            raise TryAgain("too much to do")
        if sql not in self.known:
            raise UnreadableStatement("Syntax error")
        return self.known[sql]

    def keeps(self, schema: Schema, sql: str, param_types: Mapping[str, SqlType]) -> bool:
        return sql not in self.not_kept


def shape(method: str, *parts: str, database: str = DATABASE, flags: str = "") -> bytes:
    return b"".join(netstring(part.encode()) for part in (method, database, flags, *parts))


def sql(text: str, method: str = "ExecuteSql") -> bytes:
    return shape(method, text, "")


def mutation(*parts: str) -> str:
    return b"".join(netstring(part.encode()) for part in parts).decode()


def reason_of(identity: str, encoded: bytes) -> Reason:
    return judge(POLICY, FakeStatements(), identity, encoded, NOON).reason


def test_a_granted_statement_is_allowed() -> None:
    decision = judge(POLICY, FakeStatements(), CHECKOUT, sql("SELECT Name FROM Customers"), NOON)
    assert decision.allowed
    assert decision.accesses == READ_NAMES
    assert decision.name == "checkout"


@pytest.mark.parametrize(
    ("identity", "encoded", "reason"),
    [
        (STRANGER, sql("SELECT Name FROM Customers"), Reason.UNKNOWN_IDENTITY),
        (STRANGER, shape("CreateSession"), Reason.UNKNOWN_IDENTITY),
        (CHECKOUT, sql("nonsense"), Reason.UNREADABLE_STATEMENT),
        (CHECKOUT, shape("Read", "Custmers", "", "Name"), Reason.UNKNOWN_TABLE),
        (CHECKOUT, shape("Read", "Customers", "", "Nmae"), Reason.UNKNOWN_TABLE),
        (CHECKOUT, shape("Read", "Customers", "", "Email"), Reason.MISSING_GRANT),
        (CHECKOUT, shape("Commit", mutation("delete", "Customers")), Reason.MISSING_GRANT),
        (CHECKOUT, shape("CreateSession", database="projects/p/instances/i/databases/d"), Reason.UNKNOWN_DATABASE),
        (CHECKOUT, b"7:Unknown,", Reason.MALFORMED_REQUEST),
        (CHECKOUT, shape("PartitionQuery"), Reason.MALFORMED_REQUEST),
        (CHECKOUT, shape("PartitionQuery", "SELECT Name FROM Customers", ""), Reason.GRANTED),
        (CHECKOUT, b"", Reason.MALFORMED_REQUEST),
        ("not a SPIFFE ID", shape("CreateSession"), Reason.UNTRUSTED_CERTIFICATE),
        ("spiffe://shop.example/ns/../sa/checkout", shape("CreateSession"), Reason.UNTRUSTED_CERTIFICATE),
        (CHECKOUT, shape("CreateSession"), Reason.GRANTED),
        (CHECKOUT, shape("ListSessions"), Reason.GRANTED),
        (CHECKOUT, shape("BeginTransaction", flags="p"), Reason.MISSING_GRANT),
        (CHECKOUT, shape("BeginTransaction", flags="h"), Reason.MISSING_GRANT),
        (CHECKOUT, shape("GetDatabase"), Reason.MISSING_GRANT),
        (CHECKOUT, shape("GetDatabaseDdl"), Reason.MISSING_GRANT),
        (CHECKOUT, shape("UpdateDatabaseDdl", "DROP TABLE Orders"), Reason.MISSING_GRANT),
        (CHECKOUT, shape("UpdateDatabaseDdl", "GRANT ROLE a TO ROLE b"), Reason.UNSUPPORTED_FEATURE),
        (CHECKOUT, shape("UpdateDatabaseDdl", "DROP TABLE Orders", "DROP ROLE a"), Reason.UNSUPPORTED_FEATURE),
        (CHECKOUT, shape("GetOperation"), Reason.MISSING_GRANT),
        (CHECKOUT, shape("Commit"), Reason.GRANTED),
        (CHECKOUT, shape("Read", "Customers", "", "Name"), Reason.GRANTED),
        (CHECKOUT, shape("Commit", mutation("update", "Orders", "OrderId", "Status")), Reason.GRANTED),
    ],
)
def test_every_request_has_its_reason(identity: str, encoded: bytes, reason: Reason) -> None:
    assert reason_of(identity, encoded) is reason


def test_one_unreadable_statement_denies_a_whole_batch() -> None:
    batch = shape("ExecuteBatchDml", "SELECT Name FROM Customers", "", "nonsense", "")
    assert reason_of(CHECKOUT, batch) is Reason.UNREADABLE_STATEMENT


def test_a_stranger_costs_no_analysis() -> None:
    statements = FakeStatements()
    judge(POLICY, statements, STRANGER, sql("SELECT Name FROM Customers"), NOON)
    assert statements.asked == []


ENDING = policy(
    INTENT.replace("schema: schema.sql}", "schema: schema.sql, tags: keep, secure_context: true}").replace(
        "update: [Orders(Status)]",
        'update: [{on: "Orders(Status)", until: 2030-01-02T12:30Z}, {on: Orders, until: 2030-01-02T13:00Z}]',
    )
)
UPDATE = shape("Commit", mutation("update", "Orders", "OrderId", "Status"))


def test_a_grant_holds_before_its_end_and_not_at_it() -> None:
    end = NOON + timedelta(hours=1)
    assert judge(ENDING, FakeStatements(), CHECKOUT, UPDATE, end - timedelta(microseconds=1)).allowed
    ended = judge(ENDING, FakeStatements(), CHECKOUT, UPDATE, end)
    assert ended.reason is Reason.MISSING_GRANT
    assert ended.detail == "extend the grant that ended at 2030-01-02T13:00Z (spangate.yaml:17:71)"


def test_the_epoch_changes_at_the_moment_something_ends_and_the_tag_does_not() -> None:
    clock = FakeClock()
    checkpoint = Checkpoint(ENDING, FakeStatements(), lambda _: None, clock)
    found = []
    for minute in (0, 29, 30, 59, 60, 600):
        clock.set(NOON + timedelta(minutes=minute))
        answer = checkpoint.answer(CHECKOUT, shape("CreateSession"))
        assert answer.epoch == checkpoint.epoch
        assert answer.tag == transaction_tag(SpiffeId.parse(CHECKOUT), ENDING.version)
        found.append((answer.epoch.removeprefix(ENDING.version), answer.decision.id))
    assert [epoch for epoch, _ in found] == [".0", ".0", ".1", ".1", ".2", ".2"]
    # An id stands for one content: it differs with the epoch, and only with it.
    assert len({number for _, number in found}) == 3


def test_without_ends_the_epoch_is_the_version() -> None:
    assert Checkpoint(POLICY, FakeStatements(), lambda _: None, FakeClock()).epoch == POLICY.version


def test_an_answer_says_who_owns_what_comes_of_it_and_what_the_database_wants() -> None:
    plain = Checkpoint(POLICY, FakeStatements(), lambda _: None, FakeClock()).answer(CHECKOUT, shape("CreateSession"))
    assert (plain.owner, plain.keep_tags, plain.context) == (SpiffeId.parse(CHECKOUT).key, False, "")
    full = Checkpoint(ENDING, FakeStatements(), lambda _: None, FakeClock()).answer(CHECKOUT, shape("CreateSession"))
    assert (full.owner, full.keep_tags, full.context) == (SpiffeId.parse(CHECKOUT).key, True, CHECKOUT)
    denied = Checkpoint(ENDING, FakeStatements(), lambda _: None, FakeClock()).answer(CHECKOUT, sql("nonsense"))
    assert (denied.tag, denied.owner, denied.keep_tags, denied.context) == ("", "", False, "")


def test_an_exception_has_its_own_reason() -> None:
    denying = policy(INTENT.replace("update: [Orders(Status)]", "deny: {insert: [Orders]}"))
    insert = shape("Commit", mutation("insert", "Orders", "OrderId"))
    decision = judge(denying, FakeStatements(), CHECKOUT, insert, NOON)
    assert decision.reason is Reason.DENIED
    assert [str(grant) for grant in decision.grants] == ["checkout may not insert Orders in shop (spangate.yaml:17:23)"]


def test_a_statement_is_read_for_the_identity_that_asks() -> None:
    statements = FakeStatements()
    Checkpoint(POLICY, statements, lambda _: None, FakeClock()).answer(CHECKOUT, sql("SELECT Name FROM Customers"))
    assert statements.identities == [CHECKOUT]


def test_an_answer_is_not_to_be_kept_if_one_of_its_statements_is_not() -> None:
    statements = FakeStatements({"SELECT Name FROM Customers": READ_NAMES, "SELECT 17": ()})
    statements.not_kept = {"SELECT 17"}
    checkpoint = Checkpoint(POLICY, statements, lambda _: None, FakeClock())
    assert checkpoint.answer(CHECKOUT, sql("SELECT Name FROM Customers")).remember
    assert not checkpoint.answer(CHECKOUT, sql("SELECT 17")).remember
    batch = shape("ExecuteBatchDml", "SELECT 17", "", "SELECT Name FROM Customers", "")
    assert not checkpoint.answer(CHECKOUT, batch).remember
    assert checkpoint.answer(CHECKOUT, shape("CreateSession")).remember


def test_an_allow_brings_role_and_tag_within_spanners_limit() -> None:
    recorded: list[Decision] = []
    answer = Checkpoint(POLICY, FakeStatements(), recorded.append, FakeClock()).answer(CHECKOUT, shape("CreateSession"))
    assert answer.role == "sg_checkout"
    assert answer.tag == transaction_tag(SpiffeId.parse(CHECKOUT), POLICY.version)
    assert len(answer.tag) <= 50
    assert answer.tag.startswith("sg:")
    assert recorded == [answer.decision]


Ask = Callable[..., tuple[int, dict[str, str], str]]


@contextmanager
def door(record: Callable[[Decision], None], policy: Policy = POLICY, *, broker: bool = False) -> Iterator[Ask]:
    """The door on a real socket; ask it with a method, a target, a body and an identity."""
    with tempfile.TemporaryDirectory(prefix="sg-") as directory:
        path = Path(directory) / "checkpoint.sock"

        def ask(target: str, body: bytes | None = None, identity: str | None = None) -> tuple[int, dict[str, str], str]:
            headers = {} if identity is None else {"x-spangate-identity": identity}
            method = "GET" if body is None else "POST"
            status, answer, content = exchange_headers(path, method, target, body, headers)
            return status, answer, content.decode()

        checkpoint = Checkpoint(policy, FakeStatements(), record, FakeClock())
        with UnixServer(checkpoint_app(checkpoint, lambda: KEYS, broker=broker), path):
            yield ask


def test_a_decision_that_cannot_be_recorded_is_not_given() -> None:
    def full(_: Decision) -> None:
        raise OSError("no space left on device")

    with door(full) as ask:
        status, headers, _ = ask("/decide", shape("CreateSession"), CHECKOUT)
    assert status == 500
    assert "x-spangate-decision" not in headers


def test_the_door_answers_in_headers() -> None:
    with door(lambda _: None) as ask:
        _, allowed, _ = ask("/decide", shape("CreateSession"), CHECKOUT)
        _, denied, message = ask("/decide", shape("CreateSession"), STRANGER)
        _, epoch, _ = ask("/epoch")
    assert allowed["x-spangate-decision"] == "allow"
    assert allowed["x-spangate-epoch"] == epoch["x-spangate-epoch"] == POLICY.version
    assert allowed["x-spangate-owner"] == SpiffeId.parse(CHECKOUT).key
    assert not {"x-spangate-keep-tags", "x-spangate-context", "x-spangate-remember"} & {*allowed, *denied}
    assert denied["x-spangate-decision"] == "deny"
    assert "x-spangate-owner" not in denied
    assert (denied["x-spangate-reason"], denied["x-spangate-status"]) == ("unknown-identity", "7")
    assert epoch["x-spangate-seal"] == KEYS
    assert allowed["x-spangate-owner"] == SpiffeId.parse(CHECKOUT).key
    assert allowed["x-spangate-subject"] == CHECKOUT
    assert not {"x-spangate-role", "x-spangate-owner", "x-spangate-tag", "x-spangate-subject"} & set(denied)
    assert not {"x-spangate-keep-tags", "x-spangate-context"} & set(allowed)
    assert denied["x-spangate-id"] in message


@pytest.mark.parametrize("broker", [True, False])
def test_every_allow_says_whether_a_token_is_due_and_no_denial_does(broker: bool) -> None:
    with door(lambda _: None, broker=broker) as ask:
        _, allowed, _ = ask("/decide", shape("CreateSession"), CHECKOUT)
        _, denied, _ = ask("/decide", shape("CreateSession"), STRANGER)
    assert allowed.get("x-spangate-broker") == ("1" if broker else None)
    assert "x-spangate-broker" not in denied


def test_the_door_gives_a_slip_the_status_that_spanner_gives_it() -> None:
    with door(lambda _: None) as ask:
        _, allowed, _ = ask("/decide", shape("CreateSession"), CHECKOUT)
        _, unreadable, _ = ask("/decide", sql("nonsense"), CHECKOUT)
        _, unknown, _ = ask("/decide", shape("Read", "Nothing", "", "Id"), CHECKOUT)
    assert "x-spangate-status" not in allowed
    assert (unreadable["x-spangate-reason"], unreadable["x-spangate-status"]) == ("unreadable-statement", "3")
    assert (unknown["x-spangate-reason"], unknown["x-spangate-status"]) == ("unknown-table", "5")


def test_no_denial_has_a_status_that_clients_try_again() -> None:
    assert {denial_status(reason) for reason in Reason} == {3, 5, 7}
    assert {reason for reason in Reason if denial_status(reason) != 7} == {
        Reason.UNREADABLE_STATEMENT,
        Reason.UNKNOWN_TABLE,
    }


def test_an_empty_batch_is_spanners_to_answer_but_only_to_who_has_standing() -> None:
    assert reason_of(CHECKOUT, shape("ExecuteBatchDml")) is Reason.GRANTED
    assert reason_of(STRANGER, shape("ExecuteBatchDml")) is Reason.UNKNOWN_IDENTITY


def test_the_door_says_what_a_database_wants_and_counts_ends_in_both_epochs() -> None:
    with door(lambda _: None, ENDING) as ask:
        _, allowed, _ = ask("/decide", shape("CreateSession"), CHECKOUT)
        _, epoch, _ = ask("/epoch")
    assert (allowed["x-spangate-keep-tags"], allowed["x-spangate-context"]) == ("1", CHECKOUT)
    assert allowed["x-spangate-epoch"] == epoch["x-spangate-epoch"] == f"{ENDING.version}.0"


def test_the_door_says_what_must_not_be_remembered() -> None:
    class Forgetful(Checkpoint):
        def answer(self, identity: str, shape: bytes) -> Answer:
            return replace(super().answer(identity, shape), remember=False)

    with tempfile.TemporaryDirectory(prefix="sg-") as directory:
        path = Path(directory) / "checkpoint.sock"
        checkpoint = Forgetful(POLICY, FakeStatements(), lambda _: None, FakeClock())
        with UnixServer(checkpoint_app(checkpoint, lambda: KEYS), path):
            for identity in (CHECKOUT, STRANGER):
                headers = {"x-spangate-identity": identity}
                _, answer, _ = exchange_headers(path, "POST", "/decide", shape("CreateSession"), headers)
                assert answer["x-spangate-remember"] == "0"


def test_statements_that_wait_for_an_analyser_do_not_hold_up_the_known_ones() -> None:
    waits = threading.Semaphore(0)
    free = threading.Event()

    class Waiting(Checkpoint):
        def answer(self, identity: str, shape: bytes) -> Answer:
            if b"UNKNOWN" in shape:
                waits.release()
                free.wait(10)
            return super().answer(identity, shape)

    with tempfile.TemporaryDirectory(prefix="sg-") as directory, ThreadPoolExecutor(64) as clients:
        path = Path(directory) / "checkpoint.sock"
        checkpoint = Waiting(POLICY, FakeStatements(), lambda _: None, FakeClock())
        headers = {"x-spangate-identity": CHECKOUT}
        with UnixServer(checkpoint_app(checkpoint, lambda: KEYS), path):
            unknown = [
                clients.submit(exchange_headers, path, "POST", "/decide", sql(f"UNKNOWN {number}"), headers)
                for number in range(64)
            ]
            # All of them are where turns are taken, none is in a queue before.
            assert all(waits.acquire(timeout=10) for _ in unknown)
            status, _, _ = exchange_headers(path, "POST", "/decide", sql("SELECT Name FROM Customers"), headers)
            assert status == 200
            assert not any(one.done() for one in unknown)
            free.set()
            assert {one.result(10)[0] for one in unknown} == {200}


def test_the_door_says_whether_tags_are_kept_and_who_is_in_the_secure_context() -> None:
    database = replace(POLICY.databases["shop"], keep_tags=True, secure_context=True)
    own = replace(POLICY, databases={**POLICY.databases, "shop": database})
    with door(lambda _: None, own) as ask:
        _, allowed, _ = ask("/decide", shape("CreateSession"), CHECKOUT)
    assert (allowed["x-spangate-keep-tags"], allowed["x-spangate-context"]) == ("1", CHECKOUT)


def test_the_door_gives_no_decision_where_it_has_none() -> None:
    with door(lambda _: None) as ask:
        answers = [
            ask("/decide", sql("BUSY"), CHECKOUT),
            ask("/decide", shape("CreateSession")),
            ask("/other"),
            ask("/decide"),
        ]
    assert [status for status, _, _ in answers] == [503, 400, 404, 405]
    words = [{name for name in headers if name.startswith("x-spangate")} for _, headers, _ in answers]
    # That it has too much to do is no decision, but the client is told.
    assert words == [{"x-spangate-busy"}, set(), set(), set()]


# Aliases of trust domains.

ALIASED = policy(
    INTENT.replace("\ndatabases:", "\ntrust_domains: {shop.example: {aliases: [old.example]}}\ndatabases:")
)
OLD = CHECKOUT.replace("shop.example", "old.example")


def test_an_identity_under_an_alias_is_decided_owned_and_tagged_as_itself() -> None:
    decisions: list[Decision] = []
    checkpoint = Checkpoint(ALIASED, FakeStatements(), decisions.append, FakeClock())
    itself = checkpoint.answer(CHECKOUT, sql("SELECT Name FROM Customers"))
    aliased = checkpoint.answer(OLD, sql("SELECT Name FROM Customers"))
    assert (aliased.tag, aliased.owner, aliased.role) == (itself.tag, itself.owner, itself.role)
    assert aliased.decision == replace(itself.decision, id=aliased.decision.id, presented=OLD)
    assert aliased.decision.id != itself.decision.id
    assert [one.asked_by for one in decisions] == [CHECKOUT, OLD]


def test_a_stranger_under_an_alias_is_a_stranger() -> None:
    decision = judge(ALIASED, FakeStatements(), STRANGER.replace("shop.example", "old.example"), sql("SELECT 1"), NOON)
    assert (decision.reason, decision.identity) == (Reason.UNKNOWN_IDENTITY, STRANGER)
    # Of a policy without that alias it is not the same.
    assert judge(POLICY, FakeStatements(), OLD, sql("SELECT 1"), NOON).identity == OLD


def test_an_allow_says_whom_it_is_about_under_no_alias() -> None:
    with door(lambda _: None, ALIASED) as ask:
        _, allowed, _ = ask("/decide", shape("CreateSession"), OLD)
    assert (allowed["x-spangate-decision"], allowed["x-spangate-subject"]) == ("allow", CHECKOUT)


@pytest.mark.parametrize(("here", "said"), [(ALIASED, "old.example=shop.example"), (POLICY, None)])
def test_the_filter_is_told_the_aliases_with_the_epoch(here: Policy, said: str | None) -> None:
    with door(lambda _: None, here) as ask:
        _, headers, _ = ask("/epoch")
    assert headers.get("x-spangate-aliases") == said
