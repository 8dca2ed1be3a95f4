"""A part of `spangate up` that serves behind a Unix socket: the checkpoint, the broker.

Rules: the socket is opened here once and inherited, so that whoever asks while the process is away waits for its
successor. A process that is started again is patient: the intent may be broken just then, and that must not end what
runs.
Not here: the processes (checkpoint_process.py, broker_process.py), when they start (up.py, supervisor.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from spangate.adapters.handover import ReadyPipe
from spangate.adapters.process import Child
from spangate.adapters.unix_server import listening


@dataclass(frozen=True, slots=True)
class DoorPlan:
    """What a process of it is started with. `listener` listens at `socket`; `name` gives the module too."""

    name: str
    arguments: tuple[str, ...]
    socket: Path
    listener: int
    log: Path

    @classmethod
    def open(cls, stack: ExitStack, name: str, socket: Path, arguments: Sequence[str], log: Path) -> DoorPlan:
        """Opens its socket, until `stack` ends. `arguments` are those besides the socket's."""
        listener = listening(socket)
        stack.callback(listener.close)
        return cls(name, ("--socket", str(socket), *arguments), socket, listener.fileno(), log)

    def start(self, ready: ReadyPipe | None = None) -> Child:
        """A process for it; without `ready`, one more."""
        argv = [sys.executable, "-m", f"spangate.app.{self.name}_process", *self.arguments]
        argv += ["--socket-fd", str(self.listener)]
        descriptors = [self.listener]
        if ready is None:
            argv.append("--patient")
        else:
            argv += ["--ready-fd", str(ready.writing)]
            descriptors.append(ready.writing)
        return Child(self.name, argv, self.log, descriptors=descriptors)
