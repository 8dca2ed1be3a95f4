"""What a child is handed by inherited descriptors: a secret, a socket, a way to say that it is ready."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spangate.adapters.handover import SECRET_BYTES_MAX, ReadyPipe, say_ready, secret_pipe, taken_secret, taken_socket
from spangate.adapters.ports import reserved_port
from spangate.adapters.process import Child
from spangate.errors import Broken, TryAgain

SECRET = b"correct horse battery staple"


@pytest.mark.parametrize("secret", [b"", SECRET, b"x" * SECRET_BYTES_MAX])
def test_a_secret_arrives_whole_and_once(secret: bytes) -> None:
    with secret_pipe(secret) as reading:
        assert taken_secret(os.dup(reading)) == secret
        assert taken_secret(os.dup(reading)) == b""


def test_a_secret_that_does_not_fit_is_refused() -> None:
    with pytest.raises(Broken), secret_pipe(b"x" * (SECRET_BYTES_MAX + 1)):
        pass


def test_a_secret_is_in_no_argument_no_variable_and_no_file_of_the_child(tmp_path: Path) -> None:
    program = "import sys; from spangate.adapters.handover import taken_secret\n"
    program += "print(len(taken_secret(int(sys.argv[1]))), flush=True); sys.stdin.close(); import time; time.sleep(60)"
    with secret_pipe(SECRET) as reading:
        child = Child("reader", [sys.executable, "-c", program, str(reading)], tmp_path / "log", descriptors=[reading])
    try:
        while child.tail() != f"  {len(SECRET)}":
            child.check()
        for name in ("cmdline", "environ"):
            assert SECRET not in Path(f"/proc/{child.pid}/{name}").read_bytes()
        assert all(SECRET not in path.read_bytes() for path in tmp_path.rglob("*"))
    finally:
        child.stop()


def test_only_what_is_handed_over_is_inherited(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as handed, socket.create_server(("127.0.0.1", 0)) as kept:
        program = "import os, sys; print(sorted(int(n) for n in os.listdir('/proc/self/fd')))"
        child = Child("lister", [sys.executable, "-c", program], tmp_path / "log", descriptors=[handed.fileno()])
        while child.exit_code() is None:
            pass
        numbers = child.tail()
        assert f" {handed.fileno()}," in numbers or f" {handed.fileno()}]" in numbers
        assert f" {kept.fileno()}," not in numbers
        again = taken_socket(os.dup(handed.fileno()))
        assert again.getsockname() == handed.getsockname()
        assert not again.get_inheritable()
        again.close()


def test_ready_is_told_once_it_is_said_and_never_if_the_other_end_is_gone() -> None:
    pipe = ReadyPipe()
    assert not pipe.wait(0.01)
    say_ready(os.dup(pipe.writing))
    assert pipe.wait(1)
    pipe.close()
    pipe.close()
    gone = ReadyPipe()
    gone.started()
    assert not gone.wait(10)
    gone.close()


def test_saying_it_to_nobody_is_no_error() -> None:
    pipe = ReadyPipe()
    writing = os.dup(pipe.writing)
    pipe.close()
    say_ready(writing)


# Ports


REUSE_ADDRESS, REUSE_PORT = socket.SO_REUSEADDR, socket.SO_REUSEPORT


@contextlib.contextmanager
def listening_on(port: int, *options: int) -> Iterator[None]:
    with socket.socket() as other:
        for option in options:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


def test_a_port_is_held_without_being_listened_on() -> None:
    with reserved_port(0, "gateway") as port:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
        # As Envoy does, and again after a restart.
        for _ in range(2):
            with listening_on(port, REUSE_ADDRESS, REUSE_PORT), socket.create_connection(("127.0.0.1", port)):
                pass
        for options in ((), (REUSE_ADDRESS,)):
            with pytest.raises(OSError, match="Address already in use"), listening_on(port, *options):
                pass


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_another_user_cannot_listen_on_a_port_that_is_held() -> None:
    def refused_to_another(port: int) -> bool:
        pid = os.fork()
        if pid == 0:
            os.setuid(65534)
            try:
                with listening_on(port, REUSE_ADDRESS, REUSE_PORT):
                    os._exit(1)
            except OSError:
                os._exit(0)
        return os.waitpid(pid, 0)[1] == 0

    with reserved_port(0, "gateway") as port:
        assert refused_to_another(port)
        with listening_on(port, REUSE_ADDRESS, REUSE_PORT):
            assert refused_to_another(port)
        # The listener is away.
        assert refused_to_another(port)
    assert not refused_to_another(port)


def test_a_port_whose_listener_lives_is_no_second_installations() -> None:
    with reserved_port(0, "gateway") as port, listening_on(port, REUSE_ADDRESS, REUSE_PORT):
        held = reserved_port(port, "gateway")
        with pytest.raises(TryAgain, match="is taken"):
            held.__enter__()


def test_a_port_that_somebody_listens_on_is_an_error_that_helps() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        held = reserved_port(taken.getsockname()[1], "gateway")
        with pytest.raises(TryAgain, match="the port for the gateway is taken") as caught:
            held.__enter__()
        assert "--port" in str(caught.value.help)
