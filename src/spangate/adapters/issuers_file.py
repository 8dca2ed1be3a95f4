"""Whose certificates the gateway is to have replaced, or to refuse: told by the authority, read by the checkpoint.

Rules: a small file in the runtime directory, replaced as a whole. It outlives the authority's process, so that what was
refused stays so while that is away. What cannot be read changes nothing.
Not here: which issuers those are (authority/generations.py), what the gateway does (dataplane/lua/peer.lua).
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

FILE = "issuers.json"
# One that leaves, and those that were let go within the life of a leaf; more are a damaged file.
NAMES_MAX = 64
_FILE_BYTES_MAX = 64 * 1024
# Nothing that would mean something in a header or a name (authority/template.py, ca_subject).
_NAME = re.compile(r"[A-Za-z0-9 ]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Issuers:
    """Common names of intermediates: leaves under `leaving` are served and drained, those under `refused` refused."""

    leaving: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


class IssuersFile:
    """Any thread may use it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # What was read last, and from which state of the file.
        self._last: tuple[tuple[int, int, int], Issuers] | None = None

    def write(self, issuers: Issuers) -> None:
        """From now on these. Raises OSError."""
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        temporary.write_text(json.dumps({"leaving": issuers.leaving, "refused": issuers.refused}), encoding="ascii")
        temporary.replace(self._path)

    def read(self) -> Issuers:
        """Those of the moment; the last ones that could be read, if these cannot."""
        known = self._last[1] if self._last else Issuers()
        try:
            status = self._path.stat()
            key = status.st_ino, status.st_mtime_ns, status.st_size
            if self._last is not None and self._last[0] == key:
                return known
            if status.st_size > _FILE_BYTES_MAX:
                return known
            found = _parsed(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return known
        self._last = key, found
        return found


def _parsed(text: str) -> Issuers:
    value = json.loads(text)
    if not isinstance(value, dict) or set(value) != {"leaving", "refused"}:
        raise ValueError("not the two lists")
    for names in value.values():
        if not isinstance(names, list) or len(names) > NAMES_MAX:
            raise ValueError("not a list of some names")
        if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
            raise ValueError("not a common name")
    return Issuers(tuple(value["leaving"]), tuple(value["refused"]))
