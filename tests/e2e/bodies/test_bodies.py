"""Promise: bodies above Spanner's own limits are refused with a clear message, and memory stays bounded."""

from __future__ import annotations

import threading

import grpc
import pytest
from google.cloud.spanner_v1 import types

from e2e.harness import CHECKOUT, MIB, SESSION, Gateway, Refused, Site, encode, eventually, memory_kib

pytestmark = pytest.mark.e2e

DENIED = grpc.StatusCode.PERMISSION_DENIED
# HEAP_BYTES_MAX of the gateway, and what Envoy needs beside its heap.
MEMORY_KIB_MAX = (1024 + 256) * 1024


def select(size: int) -> bytes:
    """A statement that the policy allows, in a message of `size` bytes."""
    padding = types.ExecuteSqlRequest(
        session=SESSION, sql="SELECT OrderId FROM Orders WHERE Status = @s", params={"s": ""}
    )
    less = len(encode(padding))
    message = encode(
        types.ExecuteSqlRequest(
            session=SESSION,
            sql="SELECT OrderId FROM Orders WHERE Status = @s",
            params={"s": "x" * (size - less - 16)},
        )
    )
    # The lengths of four nested messages take up to four bytes each; the rest is filled up exactly.
    rest = size - len(message)
    return encode(
        types.ExecuteSqlRequest(
            session=SESSION,
            sql="SELECT OrderId FROM Orders WHERE Status = @s",
            params={"s": "x" * (size - less - 16 + rest)},
        )
    )


def commit(size: int) -> bytes:
    """Some rows of 1 MiB, about `size` bytes."""
    value = "x" * MIB
    rows = [[str(number), value] for number in range(size // MIB)]
    mutation = types.Mutation(insert={"table": "Orders", "columns": ["OrderId", "Status"], "values": rows})
    return encode(types.CommitRequest(session=SESSION, single_use_transaction={"read_write": {}}, mutations=[mutation]))


@pytest.fixture(scope="module")
def gateway(own_site: Site) -> Gateway:
    return own_site.start_gateway()


def test_ten_mebibytes_pass_and_a_byte_more_is_refused(own_site: Site, gateway: Gateway) -> None:
    fits, above = select(10 * MIB), select(10 * MIB + 1)
    assert (len(fits), len(above)) == (10 * MIB, 10 * MIB + 1)
    audit = own_site.audit()
    with gateway.client(CHECKOUT) as client:
        assert not isinstance(client.call("ExecuteSql", fits), Refused)
        (rpc, body) = own_site.spanner.calls[-1]
        assert (rpc, body[: len(fits)]) == ("ExecuteSql", fits)
        before = own_site.spanner.reached[2]
        answer = client.refusal("ExecuteSql", above)
        assert own_site.spanner.reached[2] == before
    assert answer.code is DENIED
    assert "10 MiB" in answer.details
    assert [line["reason"] for line in audit.wait(2)] == ["granted", "request-too-large"]


@pytest.mark.parametrize("size", [11 * MIB, 64 * MIB])
def test_a_statement_far_above_the_limit_is_refused_without_being_kept(
    own_site: Site, gateway: Gateway, size: int
) -> None:
    audit = own_site.audit()
    before = own_site.spanner.reached
    with gateway.client(CHECKOUT) as client:
        answer = client.refusal("ExecuteSql", select(size))
    assert answer.code is DENIED
    assert "10 MiB" in answer.details
    assert own_site.spanner.reached == before
    (line,) = audit.wait(1)
    assert (line["reason"], line["decision"]) == ("request-too-large", "refuse")


def test_a_commit_may_be_larger_up_to_a_hundred_mebibytes(own_site: Site, gateway: Gateway) -> None:
    large, above = commit(50 * MIB), commit(101 * MIB)
    audit = own_site.audit()
    with gateway.client(CHECKOUT) as client:
        answer = client.call("Commit", large, 60)
        assert not isinstance(answer, Refused), answer
        rpc, body = own_site.spanner.calls[-1]
        assert (rpc, len(body) > len(large), body[: len(large)] == large) == ("Commit", True, True)
        before = own_site.spanner.reached[2]
        answer = client.refusal("Commit", above, 60)
        assert own_site.spanner.reached[2] == before
    own_site.spanner.calls.clear()
    assert answer.code is DENIED
    assert "100 MiB" in answer.details
    assert [line["reason"] for line in audit.wait(2)] == ["granted", "request-too-large"]


def test_many_large_requests_at_once_keep_memory_bounded_and_the_gateway_alive(
    own_site: Site, gateway: Gateway
) -> None:
    """200 MiB of statements that are just too large, at once."""
    body = select(10 * MIB + 1)
    answers: list[bytes | Refused] = []

    def send() -> None:
        with gateway.client(CHECKOUT) as client:
            answers.append(client.call("ExecuteSql", body, 60))

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert len(answers) == len(threads)
    assert all(isinstance(answer, Refused) for answer in answers)
    assert memory_kib(gateway.pid, "VmHWM") < MEMORY_KIB_MAX
    with gateway.client(CHECKOUT) as client:
        eventually(lambda: not isinstance(client.call("ExecuteSql", select(1000)), Refused), "it serves", 10)
