"""The policy of an intent file, for commands beside a running `spangate up`.

Rules: a live schema is asked of the Spanner that `up` runs with, or else of the one in SPANNER_EMULATOR_HOST; without
either, the error says so.
Not here: reading and checking (adapters/intent_files.py), starting Spanner (up_steps.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from spangate.adapters.intent_files import load_policy
from spangate.adapters.live_schema import LiveSchemas
from spangate.adapters.state import StateDirectory
from spangate.errors import YourFault
from spangate.model.database import DatabasePath
from spangate.model.policy import Policy
from spangate.model.schema import Schema

EMULATOR_VARIABLE = "SPANNER_EMULATOR_HOST"


def policy_of(intent: Path) -> Policy:
    """The checked policy of the intent file at `intent`. Raises IntentErrors, YourFault or PeersFault."""

    def live(path: DatabasePath) -> Schema:
        running = StateDirectory(intent).running_or_none()
        address = running.spanner if running else os.environ.get(EMULATOR_VARIABLE, "")
        if not address:
            raise YourFault(
                f"the schema of `{path}` is `live`, and no Spanner runs that could tell it",
                help=f"start `spangate up`, or set {EMULATOR_VARIABLE}",
            )
        return LiveSchemas(address).schema(path)

    return load_policy(intent, live)
