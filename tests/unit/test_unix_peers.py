"""Who is at the other end of a socket: asked of the kernel, held by a pidfd, never by a number alone."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes.workload import connection_of_another_process, my_executable
from spangate.adapters import unix_peers
from spangate.adapters.unix_peers import ACCOUNT_SECONDS, Gone, PeerProcess, SystemAccounts
from spangate.model.unix import UnixPeer

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[socket.socket, Path]]:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        made.listen()
        made.settimeout(10)
        yield made, path


def test_a_process_is_known_by_user_group_and_executable() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        process = PeerProcess(one)
        assert process.facts(executable=True) == UnixPeer(os.getuid(), os.getgid(), my_executable())
        assert process.facts(executable=False) == UnixPeer(os.getuid(), os.getgid(), None)
        process.close()
        process.close()


def test_a_process_that_hands_its_connection_on_and_dies_is_gone(listener: tuple[socket.socket, Path]) -> None:
    server, path = listener
    with connection_of_another_process(path) as (_, end):
        accepted, _ = server.accept()
        with accepted:
            process = PeerProcess(accepted)
            assert process.alive()
            end()
            assert not process.alive()
            with pytest.raises(Gone):
                process.facts(executable=True)
            with pytest.raises(Gone):
                PeerProcess(accepted)
            process.close()


@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="only a privileged process may choose numbers")
def test_a_number_that_another_process_has_by_now_is_not_believed(listener: tuple[socket.socket, Path]) -> None:
    server, path = listener
    with connection_of_another_process(path) as (_, end):
        accepted, _ = server.accept()
        with accepted:
            process = PeerProcess(accepted)
            number, _, _ = struct.unpack("iII", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            end()
            with _process_numbered(number):
                assert Path(f"/proc/{number}/exe").exists()
                with pytest.raises(Gone):
                    process.facts(executable=True)
                with pytest.raises(Gone):
                    PeerProcess(accepted)
            process.close()


@contextmanager
def _process_numbered(number: int) -> Iterator[None]:
    for _ in range(100):
        LAST_PID.write_text(str(number - 1))
        with subprocess.Popen([shutil.which("sleep") or "sleep", "30"]) as taken:
            try:
                if taken.pid == number:
                    yield
                    return
            finally:
                taken.kill()
    pytest.fail("the number was not given again")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return Path(shutil.copy(my_executable(), tmp_path / "program"))


def test_the_executable_is_the_file_that_runs(listener: tuple[socket.socket, Path], program: Path) -> None:
    server, path = listener
    with connection_of_another_process(path, program) as (_, _end):
        accepted, _ = server.accept()
        with accepted:
            process = PeerProcess(accepted)
            assert process.facts(executable=True).executable == str(program)
            process.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_deleted_or_replaced_is_no_executable(
    listener: tuple[socket.socket, Path], program: Path, replaced: bool
) -> None:
    server, path = listener
    with connection_of_another_process(path, program) as (_, _end):
        accepted, _ = server.accept()
        with accepted:
            program.unlink()
            if replaced:
                shutil.copy(my_executable(), program)
            process = PeerProcess(accepted)
            assert process.facts(executable=True).executable is None
            # A file that is called what the kernel calls a deleted one.
            shutil.copy(my_executable(), f"{program} (deleted)")
            assert process.facts(executable=True).executable is None
            process.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_another_user_is_known_as_such(listener: tuple[socket.socket, Path]) -> None:
    server, path = listener
    path.chmod(0o666)
    for folder in path.parents:
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o111)
    pid = os.fork()
    if pid == 0:
        os.setgid(4321)
        os.setuid(1234)
        with socket.socket(socket.AF_UNIX) as mine:
            mine.connect(str(path))
            mine.recv(1)
        os._exit(0)
    accepted, _ = server.accept()
    with accepted:
        process = PeerProcess(accepted)
        assert process.facts(executable=False) == UnixPeer(1234, 4321)
        process.close()
        accepted.sendall(b"x")
    os.waitpid(pid, 0)


def test_what_is_no_unix_socket_has_no_peer() -> None:
    with socket.socket(socket.AF_INET) as tcp, pytest.raises((Gone, OSError)):
        PeerProcess(tcp)


def test_a_kernel_that_cannot_hold_a_process_tells_no_executable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_peers, "_SO_PEERPIDFD", 9999)
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        process = PeerProcess(one)
        assert process.pidfd == -1
        assert process.facts(executable=True) == UnixPeer(os.getuid(), os.getgid(), None)


def test_accounts_are_the_machines_and_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    accounts = SystemAccounts(lambda: now)
    assert accounts.user_id("root") == accounts.group_id("root") == 0
    assert accounts.user_id("no-such-user") is None
    monkeypatch.setattr(unix_peers.pwd, "getpwnam", lambda _: (_ for _ in ()).throw(KeyError()))
    assert accounts.user_id("root") == 0
    now += ACCOUNT_SECONDS
    assert accounts.user_id("root") is None
