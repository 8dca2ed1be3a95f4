"""The Unix socket itself: who may enter, what is left behind, what stands in the way."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fakes.http import get
from spangate.adapters import unix_server
from spangate.adapters.unix_server import SOCKET_PATH_BYTES_MAX, UnixServer, bind, listening, peer_uid
from spangate.errors import Broken, TryAgain, YourFault


async def hello(scope: object, receive: object, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("d")
    made.chmod(0o700)
    return made


def test_it_answers_while_it_runs_and_leaves_nothing_behind(directory: Path) -> None:
    path = directory / "x.sock"
    before = threading.active_count()
    with UnixServer(hello, path):
        assert get(path, "/") == (200, b"hello")
    assert list(directory.iterdir()) == []
    assert threading.active_count() == before


def test_socket_and_directory_are_for_the_own_user_only(directory: Path) -> None:
    path = directory / "new" / "x.sock"
    with UnixServer(hello, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o755, 0o777])
def test_a_directory_that_others_may_enter_is_refused(directory: Path, mode: int) -> None:
    directory.chmod(mode)
    with pytest.raises(YourFault, match="is open to other users") as caught:
        UnixServer(hello, directory / "x.sock").start()
    assert caught.value.help == f"chmod 700 {directory}"


def test_a_peer_of_another_user_is_cut_off_before_anything_is_read(directory: Path) -> None:
    path = directory / "x.sock"
    with UnixServer(hello, path, peer_uid=os.getuid() + 1), pytest.raises((ConnectionError, http.client.HTTPException)):
        get(path, "/")


def test_the_kernel_names_the_user_at_the_other_end(directory: Path) -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_uid(one) == os.getuid()


def test_a_socket_of_a_dead_process_is_replaced(directory: Path) -> None:
    path = directory / "x.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with UnixServer(hello, path):
        assert get(path, "/") == (200, b"hello")


def test_a_socket_in_use_is_left_alone(directory: Path) -> None:
    path = directory / "x.sock"
    with UnixServer(hello, path):
        with pytest.raises(TryAgain, match="another process listens at"):
            UnixServer(hello, path).start()
        assert get(path, "/") == (200, b"hello")


def test_a_file_that_is_no_socket_is_left_alone(directory: Path) -> None:
    path = directory / "x.sock"
    path.write_text("precious")
    with pytest.raises(YourFault, match="exists and is not a socket"):
        UnixServer(hello, path).start()
    assert path.read_text() == "precious"


def test_a_link_is_not_followed_to_somebody_elses_socket(directory: Path) -> None:
    path = directory / "x.sock"
    path.symlink_to(directory / "elsewhere")
    with pytest.raises(YourFault, match="exists and is not a socket"):
        UnixServer(hello, path).start()


def test_a_path_that_no_socket_can_have_is_refused_with_its_length(directory: Path) -> None:
    room = SOCKET_PATH_BYTES_MAX - len(str(directory)) - 1
    bind(directory / ("x" * room)).close()
    with pytest.raises(YourFault, match=f"is {SOCKET_PATH_BYTES_MAX + 1} bytes long"):
        bind(directory / ("x" * (room + 1)))
    # Bytes count, not characters.
    with pytest.raises(YourFault, match="bytes long"):
        bind(directory / ("ü" * room))


def test_stopping_does_not_remove_the_socket_of_a_successor(directory: Path) -> None:
    path = directory / "x.sock"
    server = UnixServer(hello, path)
    server.start()
    path.unlink()
    with UnixServer(hello, path):
        server.stop()
        assert get(path, "/") == (200, b"hello")


def test_it_stops_at_once_although_a_client_keeps_its_connection(directory: Path) -> None:
    path = directory / "x.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        with UnixServer(hello, path):
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
            began = time.monotonic()
        assert time.monotonic() - began < 2
        assert client.recv(100) in (b"", b"hello")


def test_a_client_that_sends_half_a_request_does_not_stop_the_others(directory: Path) -> None:
    path = directory / "x.sock"
    with UnixServer(hello, path), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hanging:
        hanging.connect(str(path))
        hanging.sendall(b"GET / HTTP/1.1\r\nhost")
        assert get(path, "/") == (200, b"hello")


def _connect(stack: contextlib.ExitStack, path: Path) -> socket.socket:
    client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    client.settimeout(10)
    client.connect(str(path))
    return client


def test_idle_connections_take_nobody_elses_place(directory: Path) -> None:
    path = directory / "x.sock"
    with UnixServer(hello, path), contextlib.ExitStack() as stack:
        for _ in range(5):  # as many gateways
            for _ in range(64):  # connections that each keeps
                client = _connect(stack, path)
                client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert get(path, "/") == (200, b"hello")


def test_requests_at_once_have_a_limit_and_their_end_makes_room(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_server, "REQUESTS_MAX", 2)
    path = directory / "x.sock"
    running = threading.Semaphore(0)
    done = threading.Event()

    async def slow(scope: Any, receive: object, send: Any) -> None:
        if scope["path"] == "/slow":
            running.release()
            while not done.is_set():
                await asyncio.sleep(0.01)
        await hello(scope, receive, send)

    with UnixServer(slow, path), contextlib.ExitStack() as stack:
        clients = [_connect(stack, path) for _ in range(2)]
        for client in clients:
            client.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            assert running.acquire(timeout=10)
        assert get(path, "/") == (503, b"too many requests at once")
        done.set()
        for client in clients:
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert get(path, "/") == (200, b"hello")


def test_one_connection_too_many_is_closed_unread(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_server, "CONNECTIONS_MAX", 1)
    path = directory / "x.sock"
    with UnixServer(hello, path), contextlib.ExitStack() as stack:
        first = _connect(stack, path)
        first.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert first.recv(100).startswith(b"HTTP/1.1 200")
        with contextlib.suppress(ConnectionResetError):
            assert _connect(stack, path).recv(100) == b""
        first.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = b""
        # The end of the answer before may come first, and an answer in pieces.
        while b"HTTP/1.1 200" not in answer:
            piece = first.recv(100)
            assert piece, "the connection that was there first was closed"
            answer += piece


def test_stopping_twice_and_before_the_start_does_nothing_and_starting_twice_is_our_defect(directory: Path) -> None:
    server = UnixServer(hello, directory / "x.sock")
    server.stop()
    server.start()
    with pytest.raises(Broken, match="started twice"):
        server.start()
    server.stop()
    server.stop()


def test_a_socket_that_was_handed_over_is_served_and_left_as_it_is(directory: Path) -> None:
    path = directory / "x.sock"
    listener = listening(path)
    try:
        for _ in range(2):
            with UnixServer(hello, path, listener=listener.dup()):
                assert get(path, "/") == (200, b"hello")
            assert path.is_socket()
    finally:
        listener.close()


def test_whoever_connects_while_nobody_serves_a_socket_that_is_handed_over_waits(directory: Path) -> None:
    path = directory / "x.sock"
    listener = listening(path)
    answers: list[tuple[int, bytes]] = []
    asker = threading.Thread(target=lambda: answers.append(get(path, "/")))
    try:
        asker.start()
        time.sleep(0.2)
        assert answers == []
        with UnixServer(hello, path, listener=listener.dup()):
            asker.join(10)
        assert answers == [(200, b"hello")]
    finally:
        listener.close()


def test_only_the_process_that_is_named_gets_in(directory: Path) -> None:
    path = directory / "x.sock"
    with UnixServer(hello, path, peer_pid=os.getpid()):
        assert get(path, "/") == (200, b"hello")
    with UnixServer(hello, path, peer_pid=os.getppid()), pytest.raises((OSError, http.client.HTTPException)):
        get(path, "/")
