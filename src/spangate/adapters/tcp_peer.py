"""Whose process is at the other end of a TCP connection on this machine.

Rules: the kernel's tables say it (/proc/net/tcp and tcp6, /proc/PID/fd; proc(5)); what they do not say is nobody's,
and nobody is let in. A connection belongs to the process that holds its socket now, not to a pid that was noted once,
so a pid that is used again gains nothing.
Not here: what is refused or served (metadata_door.py). Unix sockets tell their peer by themselves (unix_server.py).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spangate.model.unix import OVERFLOW_ID

# Host, in numbers, and port.
Address = tuple[str, int]

PROC = Path("/proc")
# The tables are read while the kernel changes them: an entry may be missed once.
LOOKS_MAX = 3
# More processes than this below one command is no development machine.
PROCESSES_MAX = 65_536
_FIELDS_MIN = 10


@dataclass(frozen=True, slots=True)
class Owner:
    """The user that opened a socket, and the socket's inode."""

    uid: int
    inode: int


def owner_of(client: Address, server: Address, table: Iterator[str]) -> Owner | None:
    """Who holds the client's end, by the lines of a /proc/net/tcp or tcp6; None if they do not say.

    Seen from that end, `client` is the local address and `server` the remote one.
    """
    for line in table:
        fields = line.split()
        if len(fields) < _FIELDS_MIN or not fields[0].endswith(":"):
            continue
        try:
            if _address(fields[1]) == client and _address(fields[2]) == server:
                found = Owner(int(fields[7]), int(fields[9]))
                # A connection that only waits for its end belongs to no process any more.
                return found if found.inode else None
        except ValueError:
            continue
    return None


def _address(text: str) -> Address:
    """`0100007F:1F90` as ("127.0.0.1", 8080): words of 32 bits in the machine's own order, each in hexadecimal."""
    words, _, port = text.partition(":")
    if len(words) not in {8, 32}:
        raise ValueError(text)
    packed = b"".join(int(words[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(words), 8))
    found = ipaddress.ip_address(packed)
    # Java and Node.js reach 127.0.0.1 from a socket of IPv6.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found), int(port, 16)


class OwnUser:
    """Lets in every process of the own user; nobody at all if that is the number of every user unknown here."""

    def __init__(self, uid: int | None = None, proc: Path = PROC) -> None:
        self._uid = os.getuid() if uid is None else uid
        self._proc = proc

    def owner(self, client: Address, server: Address) -> Owner | None:
        """The client's socket, if it is the own user's."""
        # In a user namespace the kernel shows every user from outside it by this number.
        if self._uid == OVERFLOW_ID:
            return None
        for _ in range(LOOKS_MAX):
            for name in ("tcp", "tcp6"):
                with contextlib.suppress(OSError), (self._proc / "net" / name).open(encoding="ascii") as table:
                    found = owner_of(client, server, table)
                    if found is not None:
                        return found if found.uid == self._uid else None
        return None

    def admits(self, client: Address, server: Address) -> bool:
        """Whether the process at `client` may ask."""
        return self.owner(client, server) is not None


class Descendants:
    """Lets in a process of the own user, and what that process has started, as long as it has a parent there."""

    def __init__(self, pid: int, uid: int | None = None, proc: Path = PROC) -> None:
        """`pid` is a child of ours that has not been waited for, so nobody else can have its number."""
        self._pid = pid
        self._user = OwnUser(uid, proc)
        self._proc = proc

    def admits(self, client: Address, server: Address) -> bool:
        """Whether the process at `client` may ask."""
        owner = self._user.owner(client, server)
        return owner is not None and any(self._holds(pid, owner.inode) for pid in self._family())

    def _holds(self, pid: int, inode: int) -> bool:
        wanted = f"socket:[{inode}]"
        with contextlib.suppress(OSError):
            for entry in (self._proc / str(pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(entry.readlink()) == wanted:
                        return True
        return False

    def _family(self) -> Iterator[int]:
        children: dict[int, list[int]] = {}
        for number, entry in enumerate(self._proc.iterdir()):
            if number >= PROCESSES_MAX:
                return
            if entry.name.isdigit() and (parent := self._parent(entry)) is not None:
                children.setdefault(parent, []).append(int(entry.name))
        waiting = [self._pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            waiting.extend(children.get(pid, []))

    def _parent(self, entry: Path) -> int | None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            # `pid (name) state parent ...`, where the name may hold anything, brackets and spaces too.
            return int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
        return None
