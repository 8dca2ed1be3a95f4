"""Promise: Google's own client, unchanged and with its defaults, does through the gateway what it does without it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud.spanner_v1 import types
from google.rpc.error_details_pb2 import RetryInfo

from e2e.harness import CHECKOUT, LAB, SESSION, TESTER, Client, Refused, Site, Up

pytestmark = pytest.mark.e2e

CASES = Path(__file__).with_name("cases.py")
MULTIPLEXED = "GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS"


def printed(text: str) -> dict[str, Any]:
    found = {}
    for line in text.splitlines():
        entry = json.loads(line)
        found[entry["case"]] = entry.get("found", entry.get("error"))
    return found


EXPECTED_TYPES = [
    "True",
    "1.5",
    "12.34",
    "täxt",
    "b'AP8='",
    "2030-01-02",
    "2030-01-02 03:04:05.678901+00:00",
    "{'a': [1, None]}",
    "[1, None, 3]",
    "['x', '']",
]

EXPECTED: dict[str, Any] = {
    "mutations": {
        "rows": [["1", "True", "updated"], ["2", "True", "changed"], ["3", "None", "replaced"]],
        "stamped": True,
        "stamp": True,
    },
    "types": {"read": EXPECTED_TYPES, "echoed": EXPECTED_TYPES},
    "structs": [["7", "seven"], ["7"], ["7"], ["7"]],
    "snapshots": [["1"], ["7"], ["7", "True"], ["täxt"], ["täxt"], ["täxt"], ["7"]],
    "transactions": {
        "inside": [2, [["20", "c"]], 0, [1, 1, 1], [["20"], ["22"]], "rolled back"],
        "after": [["20", "c"], ["22", "e"], ["23", "f"]],
        "stamp": True,
        "left": 3,
    },
    "partitions": [["40"], ["40", "p"], ["41"], ["41", "q"]],
}


@pytest.fixture(scope="module")
def through(shop: Up) -> dict[str, Any]:
    """What all cases print through the gateway, in one run."""
    done = shop.run("tester", sys.executable, str(CASES), *EXPECTED, "aborted")
    assert done.returncode == 0, done.stdout + done.stderr
    return printed(done.stdout)


@pytest.mark.parametrize("case", EXPECTED)
def test_the_client_gets_through_the_gateway_what_it_should(through: dict[str, Any], case: str) -> None:
    assert through[case] == EXPECTED[case]


def test_a_transaction_aborted_by_another_is_run_again_by_the_client_itself(through: dict[str, Any]) -> None:
    assert through["aborted"] == {"attempts": 2, "value": 1.0}


def test_multiplexed_sessions_pass(shop: Up, through: dict[str, Any]) -> None:
    """The client's own default, which `run` turns off for the emulator's sake only; here one thing follows another."""
    audit = shop.audit()
    names = ("types", "snapshots")
    found = printed(shop.program("tester", CASES, *names, **{MULTIPLEXED: "true"}))
    assert found == {name: EXPECTED[name] for name in names}
    rpcs = [line["rpc"] for line in audit.lines(TESTER)]
    assert rpcs.count("CreateSession") == 1
    assert "BatchCreateSessions" not in rpcs


def test_the_program_holds_no_credential_and_knows_only_a_loopback_address(shop: Up) -> None:
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    found = json.loads(
        shop.run("tester", sys.executable, "-c", program, GOOGLE_APPLICATION_CREDENTIALS="/secret.json").stdout
    )
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in found
    assert found["SPANNER_EMULATOR_HOST"].startswith("127.0.0.1:")
    assert found["SPANNER_EMULATOR_HOST"] not in (shop.running["gateway"], shop.running["spanner"])
    assert found["GOOGLE_CLOUD_PROJECT"] == "spangate-local"
    assert not [value for value in found.values() if "PRIVATE KEY" in value]


# Trailing metadata

# What a proxy may say of itself; everything else must be the same, byte for byte.
OF_THE_PROXY = {"x-envoy-upstream-service-time", "server", "date"}


def aborted(client: Client) -> Refused:
    """The ABORTED that the second of two transactions meets."""
    first, second = client.session(LAB), client.session(LAB)
    update = "UPDATE Things SET S = 'x' WHERE Id = 1"
    begin = types.TransactionSelector(begin=types.TransactionOptions(read_write={}))
    try:
        for number in range(100):
            winner = client.sql(first, update, transaction=begin, seqno=number)
            answer = client.sql(second, update, transaction=begin, seqno=number)
            if not isinstance(answer, Refused):
                # One time in five the newcomer wins.
                _roll_back(client, second, answer)
                continue
            assert not isinstance(winner, Refused), winner
            _roll_back(client, first, winner)
            return answer
        raise AssertionError("nobody was aborted")
    finally:
        for session in (first, second):
            client.call("DeleteSession", types.DeleteSessionRequest(name=session))


def _roll_back(client: Client, session: str, answer: bytes) -> None:
    begun = types.ResultSet.deserialize(answer).metadata.transaction.id
    client.call("Rollback", types.RollbackRequest(session=session, transaction_id=begun))


def untouched(answer: Refused) -> list[tuple[str, str | bytes]]:
    return sorted(entry for entry in answer.trailing if entry[0] not in OF_THE_PROXY)


def without_numbers(text: str | bytes) -> str:
    """Transactions have numbers, which differ from one to the next."""
    return re.sub(r"\d+", "N", text.decode("latin-1") if isinstance(text, bytes) else text)


def test_the_trailing_metadata_of_an_abort_passes_untouched(shop: Up, through: dict[str, Any]) -> None:
    with shop.direct() as client:
        directly = aborted(client)
    with shop.client(TESTER) as client:
        gated = aborted(client)
    assert gated.code is directly.code is grpc.StatusCode.ABORTED
    assert without_numbers(gated.details) == without_numbers(directly.details)
    found = [(key, without_numbers(value)) for key, value in untouched(gated)]
    assert found == [(key, without_numbers(value)) for key, value in untouched(directly)]
    assert [key for key, _ in found] == ["grpc-status-details-bin"]


def test_trailing_metadata_of_every_kind_passes_untouched(own_site: Site) -> None:
    """What the real service sends beside: how long to wait before the next attempt, and things nobody knows yet."""
    delay = RetryInfo(retry_delay={"nanos": 20_000_000}).SerializeToString()
    sent = (
        ("google.rpc.retryinfo-bin", delay),
        ("grpc-status-details-bin", b"\x08\x0a\x12\x03not\xff\x00"),
        ("x-goog-spanner-request-id", "1.2.3"),
        ("twice", "one"),
        ("twice", "two"),
        ("empty", ""),
        ("server-timing", "gfet4t7; dur=3"),
    )

    def abort(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata(sent)
        context.abort(grpc.StatusCode.ABORTED, "Transaction was aborted: 50 % of “all” are.")

    own_site.spanner.ends = abort
    gateway = own_site.start_gateway()
    request = types.ExecuteSqlRequest(session=SESSION, sql="SELECT OrderId FROM Orders")
    answers = []
    for client in (gateway.client(CHECKOUT), Client(f"127.0.0.1:{own_site.spanner.port}", None)):
        with client:
            answers.append(client.refusal("ExecuteSql", request))
    gated, directly = answers
    assert (gated.code, gated.details) == (directly.code, directly.details)
    assert gated.code is grpc.StatusCode.ABORTED
    assert sorted(sent) == untouched(gated) == untouched(directly)


def test_without_the_gateway_the_same_program_finds_the_same(shop: Up, through: dict[str, Any]) -> None:
    """What is expected above is Spanner's answer, not ours."""
    cleared = "DELETE FROM Things WHERE true"
    with shop.direct() as client:
        session = client.session(LAB)
        begin = types.TransactionSelector(begin=types.TransactionOptions(read_write={}))
        answer = client.sql(session, cleared, transaction=begin, seqno=1)
        assert not isinstance(answer, Refused), answer
        begun = types.ResultSet.deserialize(answer).metadata.transaction.id
        done = client.call("Commit", types.CommitRequest(session=session, transaction_id=begun))
        assert not isinstance(done, Refused), done
    env = os.environ | {
        "SPANNER_EMULATOR_HOST": shop.running["spanner"],
        "GOOGLE_CLOUD_PROJECT": "spangate-local",
        **{MULTIPLEXED + suffix: "false" for suffix in ("", "_PARTITIONED_OPS", "_FOR_RW")},
    }
    done = subprocess.run(
        [sys.executable, str(CASES), *EXPECTED], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert printed(done.stdout) == EXPECTED
