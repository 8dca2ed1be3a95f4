"""Which processes each identity is, as the intent file says now.

Rules: a change counts once two looks in a row see the same, as everywhere (intent_files.py). A file that cannot be
read, or in which something is wrong, changes nothing; the checkpoint says what is wrong. Until the first that can be
read, nobody is anybody.
Not here: what a process must be (model/unix.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from spangate.adapters.intent_files import read_intent
from spangate.errors import SpangateError
from spangate.intent.check import unix_selectors
from spangate.model.identity import SpiffeId
from spangate.model.unix import UnixSelectors

# Two looks are within the second that a change of policy takes at most.
LOOK = timedelta(milliseconds=300)

Selectors = Mapping[SpiffeId, UnixSelectors]


class SelectorWatch:
    """Looks when it is told to (periodic.py), in one thread."""

    def __init__(self, intent: Path, changed: Callable[[Selectors], None]) -> None:
        self._intent = intent
        self._changed = changed
        self._seen = self._before = self._digest()
        self._known = self._read() or {}

    @property
    def known(self) -> Selectors:
        """What held at the last look."""
        return self._known

    def look(self) -> None:
        """One look: tells of a change that the look before saw too."""
        digest = self._digest()
        settled, self._before = digest == self._before, digest
        if not settled or digest == self._seen:
            return
        self._seen = digest
        found = self._read()
        if found is not None and found != self._known:
            self._known = found
            self._changed(found)

    def _read(self) -> Selectors | None:
        try:
            return unix_selectors(read_intent(self._intent))
        except SpangateError:
            return None

    def _digest(self) -> bytes:
        try:
            return hashlib.sha256(self._intent.read_bytes()).digest()
        except OSError:
            return b""
