"""Spanner for `spangate up`: the emulator that runs already, or one of our own.

Not here: finding it (adapters/emulator.py), its databases' schemas (up_steps.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack

from spangate.adapters.emulator import (
    EmulatorFound,
    EmulatorKind,
    emulator_command,
    emulator_stop_command,
    find_emulator,
    free_port,
)
from spangate.adapters.ports import LOOPBACK
from spangate.adapters.process import Child
from spangate.adapters.spanner import create_empty_database, wait_until_ready
from spangate.adapters.state import StateDirectory
from spangate.app.stopping import Stop
from spangate.intent.tree import Intent
from spangate.model.database import DatabasePath


def start_spanner(
    stack: ExitStack, state: StateDirectory, progress: Callable[[str], None], stop: Stop
) -> tuple[EmulatorFound, str, Child | None]:
    """What was found, its address, and its process if it is ours."""
    emulator = find_emulator(os.environ)
    if emulator.kind is EmulatorKind.RUNNING:
        return emulator, emulator.address, None
    progress(f"starting Spanner: {emulator}")
    port = free_port()
    log = state.fresh_log("emulator")
    child = Child("Spanner emulator", emulator_command(emulator, port), log)
    if (remove := emulator_stop_command(emulator, port)) is not None:
        stack.callback(lambda: Child("container removal", remove, log).stop())
    stack.callback(child.stop)
    address = f"{LOOPBACK}:{port}"

    def check() -> None:
        stop.check()
        child.check()

    wait_until_ready(address, emulator.start_seconds_max, check_alive=check)
    return emulator, address, child


def make_live_databases(intent: Intent, spanner: str, progress: Callable[[str], None]) -> None:
    """In an emulator that has just been started nothing is there yet: databases to be filled through the gateway."""
    for entry in intent.databases:
        if entry.live:
            path = DatabasePath(entry.project.text, entry.instance.text, entry.database.text)
            progress(f"creating the empty database {path.instance}/{path.database}")
            create_empty_database(spanner, path, entry.dialect)
