"""Finds recorded decisions by id in decisions.jsonl, a file that another part of the program appends to.

Rules: memory is bounded, whatever the file's size: the decisions used last are kept, and one that was evicted is found
again by reading the file. A last line that is still being written is read when it is complete. A line that is no
decision is passed over.
Not here: writing decisions (the checkpoint), what they mean (audit/join.py).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from spangate.audit.facts import DecisionFacts, facts_of
from spangate.decision.record import BadDecisionRecord

# A decision is 1 to 5 KiB: at most some 50 MiB, and usually all shapes that one installation ever sees.
DECISIONS_KEPT_MAX = 10_000
# Ids that the whole file does not hold, so that the file is read through only once for each.
UNKNOWN_KEPT_MAX = 1_000
# The longest decision: a thousand tables with all their columns, written out.
LINE_BYTES_MAX = 16 * 1024 * 1024
_BLOCK_BYTES = 1024 * 1024


class DecisionFile:
    """Call it with an id. For one thread."""

    def __init__(self, path: Path, *, kept_max: int = DECISIONS_KEPT_MAX) -> None:
        self._path = path
        self._kept_max = kept_max
        self._kept: OrderedDict[str, DecisionFacts] = OrderedDict()
        self._unknown: OrderedDict[str, None] = OrderedDict()
        self._offset = 0
        self._inode: tuple[int, int] | None = None
        self._forgot = False

    def __call__(self, decision_id: str) -> DecisionFacts | None:
        """The recorded decision, or None. Raises OSError if the file is there but cannot be read."""
        if decision_id not in self._kept:
            self._read_on()
        found = self._kept.get(decision_id)
        if found is not None:
            self._kept.move_to_end(decision_id)
            return found
        if not self._forgot or decision_id in self._unknown:
            return None
        return self._search(decision_id)

    def _read_on(self) -> None:
        """Take in what was appended since the last time."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return
        inode = (status.st_dev, status.st_ino)
        if inode != self._inode or status.st_size < self._offset:
            # Another file than last time: what was kept stays true, decisions do not change.
            self._inode, self._offset = inode, 0
            self._unknown.clear()
        if status.st_size == self._offset:
            return
        for line, end in _lines(self._path, self._offset):
            self._offset = end
            decision = _decision(line)
            if decision is not None:
                self._keep(decision)

    def _search(self, decision_id: str) -> DecisionFacts | None:
        """Through the whole file, for a decision that was evicted."""
        needle = decision_id.encode("utf-8", "replace")
        for line, _ in _lines(self._path, 0):
            if needle in line:
                decision = _decision(line)
                if decision is not None and decision.id == decision_id:
                    self._keep(decision)
                    return decision
        self._unknown[decision_id] = None
        if len(self._unknown) > UNKNOWN_KEPT_MAX:
            self._unknown.popitem(last=False)
        return None

    def _keep(self, decision: DecisionFacts) -> None:
        self._unknown.pop(decision.id, None)
        self._kept[decision.id] = decision
        self._kept.move_to_end(decision.id)
        if len(self._kept) > self._kept_max:
            self._kept.popitem(last=False)
            self._forgot = True


def _decision(line: bytes) -> DecisionFacts | None:
    try:
        return facts_of(json.loads(line))
    except (ValueError, RecursionError, BadDecisionRecord):
        return None


def _lines(path: Path, offset: int) -> Iterator[tuple[bytes, int]]:
    """Complete lines from `offset` on, each with the offset of its end; one above LINE_BYTES_MAX is cut in pieces."""
    try:
        file = path.open("rb", buffering=_BLOCK_BYTES)
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        while line := file.readline(LINE_BYTES_MAX):
            if not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
                return
            offset += len(line)
            yield line, offset
