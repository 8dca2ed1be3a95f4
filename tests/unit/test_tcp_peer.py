"""Whose a TCP connection is: by the kernel's own tables, for real connections and for tables that lie."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spangate.adapters.tcp_peer import Address, Descendants, Owner, OwnUser, owner_of
from spangate.model.unix import OVERFLOW_ID

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LINE = "   5: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 20\n"
MAPPED = (
    "   0: 0000000000000000FFFF00000100007F:C350 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 "
    "00:00000000 00000000  1001        0 4712 1 0 20\n"
)
CLIENT, SERVER = ("127.0.0.1", 50000), ("127.0.0.1", 8080)


@contextlib.contextmanager
def connected(family: int = socket.AF_INET, host: str = "127.0.0.1") -> Iterator[tuple[Address, Address]]:
    """A connection of this very process to itself, as the listening side sees it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.socket(family) as client:
            client.connect((host, listener.getsockname()[1]))
            accepted, peer = listener.accept()
            with accepted:
                yield peer, accepted.getsockname()


def test_a_connection_of_our_own_user_is_admitted() -> None:
    with connected() as (client, server):
        assert OwnUser().admits(client, server)


def test_a_socket_of_ipv6_that_reaches_127_0_0_1_is_found() -> None:
    with connected(socket.AF_INET6, "::ffff:127.0.0.1") as (client, server):
        assert OwnUser().admits(client, server)
        assert Descendants(os.getpid()).admits(client, server)


def test_a_connection_of_another_user_is_not() -> None:
    with connected() as (client, server):
        assert not OwnUser(uid=os.getuid() + 1).admits(client, server)
        assert not Descendants(os.getpid(), uid=os.getuid() + 1).admits(client, server)


def test_a_connection_that_is_over_is_nobodys() -> None:
    with connected() as (client, server):
        pass
    assert not OwnUser().admits(client, server)


def test_the_listening_end_is_not_taken_for_the_asking_one() -> None:
    with connected() as (client, server):
        assert OwnUser().owner(client, server) != OwnUser().owner(server, client)


def test_the_number_that_stands_for_every_unknown_user_admits_nobody(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    for uid, admitted in ((OVERFLOW_ID - 1, True), (OVERFLOW_ID, False)):
        (tmp_path / "net" / "tcp").write_text(HEAD + LINE.replace(" 1000 ", f" {uid} "))
        assert OwnUser(uid, tmp_path).admits(CLIENT, SERVER) is admitted


def test_without_tables_nobody_is_admitted(tmp_path: Path) -> None:
    with connected() as (client, server):
        assert not OwnUser(proc=tmp_path).admits(client, server)
        assert not Descendants(os.getpid(), proc=tmp_path).admits(client, server)


CONNECT = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"
# The same by a grandchild.
THROUGH = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CONNECT!r}, sys.argv[1]], check=True)"


@pytest.mark.parametrize("program", [CONNECT, THROUGH])
def test_a_descendant_is_admitted_and_a_stranger_of_the_same_user_is_not(program: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        stranger = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
        child = subprocess.Popen([sys.executable, "-c", program, port], stdin=subprocess.PIPE)
        try:
            accepted, peer = listener.accept()
            with accepted:
                server = accepted.getsockname()
                assert Descendants(child.pid).admits(peer, server)
                assert Descendants(os.getpid()).admits(peer, server)
                assert not Descendants(stranger.pid).admits(peer, server)
                assert OwnUser().admits(peer, server)
        finally:
            for process in (child, stranger):
                process.communicate()


def test_a_pid_that_is_used_again_gains_nothing(tmp_path: Path) -> None:
    """The process of that number holds another socket than the one that asks."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(HEAD + LINE)
    fds = tmp_path / "77" / "fd"
    fds.mkdir(parents=True)
    (tmp_path / "77" / "stat").write_text("77 (a) S) S 1 77 77 0")
    (fds / "3").symlink_to("socket:[4711]")
    assert Descendants(77, 1000, tmp_path).admits(CLIENT, SERVER)
    (fds / "3").unlink()
    (fds / "3").symlink_to("socket:[9999]")
    assert not Descendants(77, 1000, tmp_path).admits(CLIENT, SERVER)


def test_the_tables_are_read_as_the_kernel_writes_them() -> None:
    assert owner_of(CLIENT, SERVER, iter([HEAD, LINE])) == Owner(1000, 4711)
    assert owner_of(CLIENT, SERVER, iter([HEAD, MAPPED])) == Owner(1001, 4712)
    assert owner_of(SERVER, CLIENT, iter([HEAD, LINE])) is None


def test_a_socket_without_inode_is_nobodys() -> None:
    assert owner_of(CLIENT, SERVER, iter([LINE.replace(" 4711 ", " 0 ")])) is None


@given(st.lists(st.text(max_size=200) | st.just(HEAD), max_size=5))
def test_whatever_else_stands_in_the_table_is_passed_over(lines: list[str]) -> None:
    assert owner_of(("127.0.0.1", 50000), ("127.0.0.1", 8080), iter([*lines, LINE])) == Owner(1000, 4711)
