"""Who is at the other end of a Unix socket: user, group, executable, and whether it is still the same process.

Rules: user and group are the kernel's own note of the moment of `connect` (SO_PEERCRED); nobody can change or borrow
it. A process number proves nothing, since it may be another's by now: the process is held by a pidfd that the kernel
makes from the socket (SO_PEERPIDFD, Linux 6.5), so that what is read of it is read of the very process that connected.
Its executable counts only if the process was alive after it was read, and if the file is still the one that runs. On an
older kernel, or for a process of another process namespace, no executable is known: what cannot be proven is not.
Not here: which identity that gives (authority/unix_attestation.py).
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from spangate.adapters.process_life import life_of
from spangate.authority.ledger import Life
from spangate.model.unix import UnixPeer

# struct ucred { pid_t pid; uid_t uid; gid_t gid; }  (unix(7), SO_PEERCRED)
_UCRED = struct.Struct("iII")
# asm-generic/socket.h; Python has no name for it.
_SO_PEERPIDFD = 77
# Long enough that a directory service is not asked for each connection, short enough for who is added or removed.
ACCOUNT_SECONDS = 30.0
# Names that an intent can hold are far fewer.
_ACCOUNTS_MAX = 20_000
_DELETED = " (deleted)"


class Gone(Exception):
    """The process that connected has ended: nobody can be given what was meant for it."""


class PeerProcess:
    """The process at the other end of a connected socket. Holds a descriptor until `close`."""

    def __init__(self, connection: socket.socket) -> None:
        """Raises Gone, and OSError for a socket that is no connected Unix socket."""
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        self._pid, self.uid, self.gid = _UCRED.unpack(credentials)
        self.pidfd = _pidfd(connection)
        if not self.alive():
            self.close()
            raise Gone

    def alive(self) -> bool:
        """Whether it has not ended. True where the kernel does not say."""
        return self.pidfd < 0 or not _readable(self.pidfd)

    def has_number(self, pid: int) -> bool:
        """Whether it is the process that has this number now, and not one that had it before.

        On a kernel without pidfds of peers, whether it had this number when it connected.
        """
        return (self._pid if self.pidfd < 0 else self._pid_now()) == pid and self.alive()

    def life(self) -> Life | None:
        """The process for good, beyond the life of this one; None where the kernel does not tell. Raises Gone."""
        pid = self._pid_now()
        found = None if pid is None else life_of(pid)
        # As long as it lives its number is its own.
        if not self.alive():
            raise Gone
        return found

    def __str__(self) -> str:
        """For people; nothing is proven by it."""
        path = self._executable()
        return f"process {self._pid}" + ("" if path is None else f" ({path!a})")

    def facts(self, *, executable: bool) -> UnixPeer:
        """What it is, with its `executable` if that is asked. Raises Gone."""
        found = UnixPeer(self.uid, self.gid, self._executable() if executable else None)
        # As long as it lives its number is its own; so what was read before this was read of it.
        if not self.alive():
            raise Gone
        return found

    def _executable(self) -> str | None:
        pid = self._pid_now()
        if pid is None:
            return None
        running = Path(f"/proc/{pid}/exe")
        try:
            path = str(running.readlink())
            same = os.path.samestat(running.stat(), Path(path).stat())
        except OSError:
            same, path = False, ""
        return path if same and not path.endswith(_DELETED) else None

    def _pid_now(self) -> int | None:
        """Its number in our own process namespace, by the pidfd; None if it has none there."""
        if self.pidfd < 0:
            return None
        try:
            lines = Path(f"/proc/self/fdinfo/{self.pidfd}").read_text(encoding="ascii").splitlines()
            found = [line for line in lines if line.startswith("Pid:")]
            pid = int(found[0].partition(":")[2])
        except (OSError, ValueError, IndexError):
            return None
        return pid if pid > 0 else None

    def close(self) -> None:
        """Safe to call twice."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class SystemAccounts:
    """The users and groups of this machine, each remembered for ACCOUNT_SECONDS."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._known: dict[tuple[str, str], tuple[float, int | None]] = {}

    def user_id(self, name: str) -> int | None:
        """The number of a user, None if there is none of that name."""
        return self._remembered("user", name, lambda: pwd.getpwnam(name).pw_uid)

    def group_id(self, name: str) -> int | None:
        """The number of a group, None if there is none of that name."""
        return self._remembered("group", name, lambda: grp.getgrnam(name).gr_gid)

    def _remembered(self, kind: str, name: str, look_up: Callable[[], int]) -> int | None:
        now = self._seconds()
        until, known = self._known.get((kind, name), (now, None))
        if now < until:
            return known
        found: int | None = None
        with contextlib.suppress(KeyError):
            found = look_up()
        if len(self._known) >= _ACCOUNTS_MAX:
            self._known.clear()
        self._known[kind, name] = (now + ACCOUNT_SECONDS, found)
        return found


def _pidfd(connection: socket.socket) -> int:
    """A descriptor of the process that connected; -1 on a kernel that has none to give. Raises Gone."""
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            return -1
        # Other kernels say in other ways (EINVAL, ESRCH, ENODATA) that it has ended and been waited for.
        raise Gone from None


def _readable(pidfd: int) -> bool:
    """A pidfd is readable once its process has ended (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
