"""Promise: with an emulator installed, a database is made from a schema, once, and nothing hangs or stays behind."""

from __future__ import annotations

import secrets
import socket
import threading
import time

import pytest

from spangate.adapters.emulator import EmulatorKind, find_emulator, free_port
from spangate.adapters.spanner import check_answers, create_database, wait_until_ready
from spangate.errors import PeersFault, SpangateError, TryAgain, YourFault
from spangate.model.database import DatabasePath

pytestmark = pytest.mark.e2e

CUSTOMERS = "CREATE TABLE Customers (CustomerId STRING(36) NOT NULL, Name STRING(MAX)) PRIMARY KEY (CustomerId)"
ORDERS = "CREATE TABLE Orders (OrderId STRING(36) NOT NULL) PRIMARY KEY (OrderId)"


@pytest.fixture(scope="module")
def address(emulator_address: str) -> str:
    return emulator_address


@pytest.fixture
def path():
    """A database of this test's own, in an instance of its own."""
    return DatabasePath("spangate-test", f"test-{secrets.token_hex(6)}", "shop")


def test_a_running_emulator_is_taken_from_the_environment(address):
    found = find_emulator({"SPANNER_EMULATOR_HOST": address, "PATH": ""}, sdk_roots=[])
    assert (found.kind, found.address) == (EmulatorKind.RUNNING, address)


def test_a_database_is_made_once_and_found_the_second_time(address, path):
    assert create_database(address, path, [CUSTOMERS, ORDERS]) is True
    assert create_database(address, path, [CUSTOMERS, ORDERS]) is False


def test_spelling_and_order_do_not_make_another_schema(address, path):
    create_database(address, path, [CUSTOMERS, ORDERS])
    respelled = CUSTOMERS.replace("CREATE TABLE", "create  table").replace(", ", ",\n  ")
    assert create_database(address, path, [ORDERS, respelled]) is False


def test_a_database_with_another_schema_is_left_alone_and_the_difference_named(address, path):
    create_database(address, path, [CUSTOMERS])
    with pytest.raises(YourFault, match="exists with another schema: it lacks `CREATE TABLE Orders"):
        create_database(address, path, [CUSTOMERS, ORDERS])
    assert create_database(address, path, [CUSTOMERS]) is False


@pytest.mark.parametrize("statement", ["CREATE ROLE reader", "GRANT SELECT ON TABLE Customers TO ROLE reader"])
def test_a_kind_of_statement_that_the_emulator_lacks_is_named(address, path, statement):
    with pytest.raises(YourFault) as caught:
        create_database(address, path, [CUSTOMERS, statement])
    assert f"statement 2 of the schema, `{statement}`," in caught.value.message


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE", "CREATE TABLE X (A INT6) PRIMARY KEY (A)", CUSTOMERS, "CREATE INDEX I ON Nowhere(A)"]
)
def test_a_refused_statement_is_named_and_nothing_is_made(address, path, statement):
    with pytest.raises(YourFault) as caught:
        create_database(address, path, [CUSTOMERS, ORDERS, statement])
    assert "statement 3 of the schema" in caught.value.message
    assert create_database(address, path, [CUSTOMERS]) is True, "the refused schema must have left nothing"


def test_what_is_wrong_with_a_statement_is_said_without_repeating_it(address, path):
    with pytest.raises(YourFault) as caught:
        create_database(address, path, ["CREATE TABLE X (\n  A INT64\n) PRIMARY KEY A"])
    assert caught.value.message.count("PRIMARY KEY A") == 1
    assert "is refused by the emulator: Syntax error on line 3" in caught.value.message


def test_no_thread_is_left_behind(address, path):
    before = set(threading.enumerate())
    create_database(address, path, [CUSTOMERS])
    check_answers(address, 5.0)
    assert set(threading.enumerate()) <= before


def test_waiting_ends_when_the_deadline_has_passed():
    begin = time.monotonic()
    with pytest.raises(TryAgain, match=r"did not answer within 0\.3 s"):
        wait_until_ready(f"127.0.0.1:{free_port()}", 0.3)
    assert time.monotonic() - begin < 5


def test_waiting_ends_when_the_process_has_died():
    def dead():
        raise PeersFault("the emulator ended with code 1")

    with pytest.raises(PeersFault, match="ended with code 1"):
        wait_until_ready(f"127.0.0.1:{free_port()}", 60.0, check_alive=dead)


def test_a_server_that_accepts_and_says_nothing_is_not_waited_for_forever():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        begin = time.monotonic()
        with pytest.raises(PeersFault, match="does not answer as Spanner"):
            check_answers(f"127.0.0.1:{mute.getsockname()[1]}", 0.5)
        assert time.monotonic() - begin < 5


def test_nobody_at_the_address_is_an_error_and_no_wait(path):
    begin = time.monotonic()
    with pytest.raises(SpangateError, match="failed"):
        create_database(f"127.0.0.1:{free_port()}", path, [CUSTOMERS])
    assert time.monotonic() - begin < 15
