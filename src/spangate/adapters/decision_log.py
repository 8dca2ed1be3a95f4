"""Writes decisions down, one JSON line each, before they are given.

Rules: a decision is written once for as long as the process remembers it; its id stands for its content, so a second
line would say the same. Lines are whole: one write each.
Not here: reading them (audit_decisions.py, app/explain.py).
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from pathlib import Path

from spangate.decision import decision_to_json
from spangate.model.decision import Decision

# Ids remembered; beyond, a line may be written again, which costs space and nothing else.
WRITTEN_MAX = 100_000


class DecisionLog:
    """Appends to one file (0600). Any thread may call."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        self._written: OrderedDict[str, None] = OrderedDict()

    def record(self, decision: Decision) -> None:
        """Raises OSError; then the decision must not be given."""
        with self._lock:
            if decision.id in self._written:
                return
            line = json.dumps(decision_to_json(decision), separators=(",", ":")).encode() + b"\n"
            if os.write(self._fd, line) != len(line):
                # The next line must not continue this torn one.
                os.write(self._fd, b"\n")
                raise OSError("the disk took only part of a decision")
            self._written[decision.id] = None
            if len(self._written) > WRITTEN_MAX:
                self._written.popitem(last=False)

    def close(self) -> None:
        """No more records."""
        os.close(self._fd)
