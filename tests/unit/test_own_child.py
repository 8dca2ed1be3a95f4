"""The door for one child: it gets in, its successor after it, and no other process of the same user."""

from __future__ import annotations

import http.client
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.http import get
from fakes.workload import connection_of_another_process
from spangate.adapters import unix_peers
from spangate.adapters.own_child import OwnChild
from spangate.adapters.process import Child
from spangate.adapters.unix_server import UnixServer

# Asks when it is told to, by a file, and writes down what it got.
ASKER = """
import pathlib, socket, sys, time
folder = pathlib.Path(sys.argv[1])
for name in ("one", "two"):
    while not (folder / name).exists():
        time.sleep(0.01)
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(10)
        try:
            asked.connect(str(folder / "x.sock"))
            asked.sendall(b"GET / HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n")
            got = b"".join(iter(lambda: asked.recv(4096), b""))
        except OSError as error:
            got = b"error"
    print("answered" if got.startswith(b"HTTP/1.1 200") else "refused", flush=True)
time.sleep(60)
"""


async def hello(scope: object, receive: object, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


class Door:
    """A door for one child, and whoever knocks."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "x.sock"
        self.told: list[str] = []
        self.own = OwnChild("certificate door", self.told.append)
        self.children: list[Child] = []

    def child(self, name: str) -> Child:
        """Any process of ours that asks."""
        log = self.folder / f"{name}.log"
        self.children.append(Child(name, [sys.executable, "-c", ASKER, str(self.folder)], log))
        return self.children[-1]

    def said(self, name: str, lines: int) -> list[str]:
        log = self.folder / f"{name}.log"
        eventually(lambda: len(log.read_text().splitlines()) >= lines)
        return log.read_text().splitlines()


def eventually(probe: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not probe():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("d")
    folder.chmod(0o700)
    found = Door(folder)
    with UnixServer(hello, found.path, admits=found.own.admits):
        yield found
    for child in found.children:
        child.stop()


def refused(door: Door) -> None:
    with pytest.raises((OSError, http.client.HTTPException)):
        get(door.path, "/")


def test_only_the_child_gets_in_and_after_a_restart_only_the_new_one(door: Door) -> None:
    first = door.own.start(lambda: door.child("first"))
    (door.folder / "one").touch()
    assert door.said("first", 1) == ["answered"]
    # Of the same user, and even its parent.
    refused(door)
    second = door.own.start(lambda: door.child("second"))
    assert door.said("second", 1) == ["answered"]
    assert first.exit_code() is None
    (door.folder / "two").touch()
    assert door.said("second", 2) == ["answered", "answered"]
    assert door.said("first", 2) == ["answered", "refused"]
    assert second.exit_code() is None


def test_nobody_gets_in_while_there_is_no_child(door: Door) -> None:
    refused(door)
    child = door.own.start(lambda: door.child("first"))
    child.stop()
    refused(door)


def test_a_child_that_cannot_be_started_leaves_nobody_in_its_place(door: Door) -> None:
    door.own.start(lambda: door.child("first"))

    def fails() -> Child:
        raise OSError

    with pytest.raises(OSError):
        door.own.start(fails)
    (door.folder / "one").touch()
    assert door.said("first", 1) == ["refused"]


def test_a_refusal_is_told_once_with_who_it_was(door: Door) -> None:
    for _ in range(3):
        refused(door)
    (line,) = door.told
    assert line.startswith(f"the certificate door refused process {os.getpid()} ('/")


def test_a_process_that_has_ended_is_not_the_child_although_it_had_its_number(tmp_path: Path) -> None:
    """What a process that had the number before left behind: its connection, in somebody else's hands."""
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with connection_of_another_process(path) as (_, end):
            accepted, _ = listener.accept()
            with accepted:
                process = unix_peers.PeerProcess(accepted)
                number = process._pid
                assert process.has_number(number)
                assert not process.has_number(os.getpid())
                end()
                assert not process.has_number(number)
                process.close()


def test_a_kernel_without_pidfds_of_peers_is_believed_as_it_noted_the_number(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_peers, "_SO_PEERPIDFD", 9999)
    door.own.start(lambda: door.child("first"))
    (door.folder / "one").touch()
    assert door.said("first", 1) == ["answered"]
    refused(door)
