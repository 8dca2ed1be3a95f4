"""Promise: every request leaves exactly one audit line that says who did what, why it was decided so, and what came."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from google.cloud.spanner_v1 import types

from e2e.harness import CHECKOUT, LAB, REPORTS, TESTER, Refused, Up, eventually, spangate

pytestmark = pytest.mark.e2e


def policy(up: Up) -> str:
    version = json.loads(spangate("check", "--json", cwd=up.folder).stdout)["policy"]
    return str(version)


def test_each_request_of_a_transaction_has_one_line_with_everything(shop: Up) -> None:
    audit = shop.audit()
    with shop.client(TESTER) as client:
        session = client.session(LAB)
        begin = types.TransactionSelector(begin=types.TransactionOptions(read_write={}))
        sql = "INSERT INTO Things (Id, S) VALUES (50, 'x') THEN RETURN Id"
        answer = client.answer(
            "ExecuteSql", types.ExecuteSqlRequest(session=session, sql=sql, transaction=begin, seqno=1), types.ResultSet
        )
        commit = types.CommitRequest(
            session=session,
            transaction_id=answer.metadata.transaction.id,
            mutations=[types.Mutation(delete={"table": "Things", "key_set": {"keys": [["50"]]}})],
        )
        done = client.answer("Commit", commit, types.CommitResponse)
        client.answer("DeleteSession", types.DeleteSessionRequest(name=session), types.Session)
    lines = audit.wait(4, TESTER)
    assert [line["rpc"] for line in lines] == ["CreateSession", "ExecuteSql", "Commit", "DeleteSession"]
    assert [line["accesses"] for line in lines] == [
        [],
        ["insert Things(Id, S)", "read Things(Id)"],
        ["delete Things"],
        [],
    ]
    version = policy(shop)
    for line in lines:
        assert (line["identity"], line["name"], line["database"]) == (str(TESTER), "tester", "lab")
        assert (line["decision"], line["reason"], line["policy"]) == ("allow", "granted", version)
        assert (line["grpc_status"], line["problem"], line["missing"]) == ("OK", None, [])
        assert re.fullmatch(r"[a-z2-7]{16}", line["decision_id"])
        assert line["duration_us"]["total"] > 0
    assert len({line["decision_id"] for line in lines}) == 4
    stamp = done.commit_timestamp
    expected = f"{stamp:%Y-%m-%dT%H:%M:%S}.{stamp.nanosecond:09}Z"
    assert [line["commit_timestamp"] for line in lines] == [None, None, expected, None]


def test_what_spanner_itself_refuses_is_an_allowed_request_with_its_status(shop: Up) -> None:
    audit = shop.audit()
    with shop.client(CHECKOUT) as client:
        session = client.session()
        client.call("DeleteSession", types.DeleteSessionRequest(name=session))
        answer = client.sql(session, "SELECT OrderId FROM Orders")
    assert isinstance(answer, Refused)
    assert answer.details.startswith("Session not found")
    line = audit.wait(3, CHECKOUT)[-1]
    assert (line["decision"], line["grpc_status"]) == ("allow", answer.code.name)


def test_a_denial_can_be_explained_by_the_id_that_its_client_was_told(shop: Up) -> None:
    audit = shop.audit()
    with shop.client(REPORTS) as client:
        answer = client.sql(client.session(), "SELECT Email FROM Customers")
    assert isinstance(answer, Refused)
    match = re.search(r"spangate explain ([a-z2-7]{16})", answer.details)
    assert match is not None
    line = audit.wait(2, REPORTS)[-1]
    assert (line["decision"], line["reason"], line["decision_id"]) == ("deny", "missing-grant", match[1])
    assert line["missing"] == ["read Customers(Email)"]

    text = spangate("explain", match[1], cwd=shop.folder)
    assert text.returncode == 1
    assert str(REPORTS) in text.stdout or "reports" in text.stdout
    assert "Customers(Email)" in text.stdout or "Email" in text.stdout
    as_json = spangate("explain", match[1], "--json", cwd=shop.folder)
    found: dict[str, Any] = json.loads(as_json.stdout)
    assert found["allowed"] is False or found.get("decision") == "deny"
    asked = spangate(
        "explain",
        "--as",
        "reports",
        "--sql",
        "SELECT Email FROM Customers",
        "--json",
        "--database",
        "shop",
        cwd=shop.folder,
    )
    assert asked.returncode == 1
    assert json.loads(asked.stdout)["missing"] == found["missing"]


def test_an_unmodified_program_leaves_lines_without_a_problem_and_its_own_timestamps(shop: Up) -> None:
    audit = shop.audit()
    printed = shop.program("checkout", "checkout.py")
    told = re.findall(r"committed at (\S+ \S+?)\+00:00", printed)
    assert len(told) == 2
    with_stamps = [line for line in _settled(shop, audit) if line["commit_timestamp"]]
    stamps = [line["commit_timestamp"].replace("T", " ") for line in with_stamps]
    assert all(any(stamp.startswith(one) for stamp in stamps) for one in told)
    assert {line["rpc"] for line in with_stamps} == {"Commit"}


def _settled(shop: Up, audit: Any) -> list[dict[str, Any]]:
    """All lines of a program that has ended: its last act is to give its session back."""
    eventually(lambda: [line for line in audit.lines(CHECKOUT) if line["rpc"] == "DeleteSession"], "its last line", 10)
    lines: list[dict[str, Any]] = audit.lines(CHECKOUT)
    assert all(line["problem"] is None and line["decision"] == "allow" for line in lines)
    return lines


def test_log_shows_the_lines_to_people_and_programs(shop: Up) -> None:
    shop.program("reports", "reports.py")
    done = spangate("log", "--as", "reports", "--denied", "-n", "1", cwd=shop.folder)
    assert done.returncode == 0
    assert "Customers(Email)" in done.stdout
    done = spangate("log", "--as", "reports", "--denied", "-n", "1", "--json", cwd=shop.folder)
    assert json.loads(done.stdout)["missing"] == ["read Customers(Email)"]
