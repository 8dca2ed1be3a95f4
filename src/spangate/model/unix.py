"""A process of this machine, as its kernel knows it, and what an intent asks of one.

Rules: a user and a group are names or numbers and stay as they were written, for names mean numbers only on the machine
where the process runs. A file is an absolute path without `.`, `..` or a second slash, so that it has one spelling. No
executable without a user or group: whoever may run a file may also steer it (LD_PRELOAD, a debugger, its arguments), so
that alone it proves nothing.
Source: unix(7), SO_PEERCRED; proc(5), /proc/[pid]/exe.
Not here: which identity a process gets (authority/unix_attestation.py), asking the kernel (adapters/unix_peers.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# useradd(8): 32 characters; systems with directories allow more, and dots and dashes.
ACCOUNT_CHARACTERS_MAX = 64
# PATH_MAX of Linux, with its final NUL.
PATH_BYTES_MAX = 4095
# The last number is no user's (-1 means "leave it"), and the one before is the kernel's for "not known here".
ID_MAX = 2**32 - 2
# What the kernel shows for a user that this user namespace does not know (/proc/sys/kernel/overflowuid): anybody.
OVERFLOW_ID = 65534

_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9._-]{{0,{ACCOUNT_CHARACTERS_MAX - 1}}}", re.ASCII)
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f\x7f]+)+")


class BadSelector(ValueError):
    """The text cannot say what a process must be; the message says why."""


@dataclass(frozen=True, slots=True)
class UnixSelectors:
    """What a process must be: all of those that are not None. Construct it with checked texts."""

    user: str | None = None
    group: str | None = None
    executable: str | None = None


@dataclass(frozen=True, slots=True)
class UnixPeer:
    """A process at the other end of a socket: its effective user and group when it connected, and its executable now.

    `executable` is None where the kernel does not tell it, or tells one that is no longer there.
    """

    uid: int
    gid: int
    executable: str | None = None


def check_account(text: str) -> str:
    """`text`, if it is the name or number of a user or group; else BadSelector."""
    if account_id(text) is None and not _NAME.fullmatch(text):
        raise BadSelector("a name begins with a letter or `_`; a number has no sign, no leading zero and is below 2^32")
    return text


def account_id(text: str) -> int | None:
    """The number that `text` spells, None if it is a name. Raises BadSelector for a number that nobody can have."""
    if not _NUMBER.fullmatch(text):
        return None
    number = int(text)
    if number > ID_MAX:
        raise BadSelector("no user or group has that number")
    if number == OVERFLOW_ID:
        raise BadSelector(f"{OVERFLOW_ID} stands for every user that this machine does not know")
    return number


def check_executable(text: str) -> str:
    """`text`, if it is an absolute path in its one spelling; else BadSelector."""
    if not _PATH.fullmatch(text):
        raise BadSelector("it is not an absolute path without `.`, `..`, `//` and control characters")
    if len(text.encode("utf-8", "surrogatepass")) > PATH_BYTES_MAX:
        raise BadSelector(f"it is longer than {PATH_BYTES_MAX} bytes")
    return text
