"""The checkpoint as a process of its own: `python -m spangate.app.checkpoint_process`.

What it prints is for people and passed on by `spangate up`. It ends on SIGTERM, or when its parent does.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from spangate.adapters.analysers import AnalyserPool
from spangate.adapters.checkpoint_door import checkpoint_app
from spangate.adapters.clock import SystemClock
from spangate.adapters.decision_log import DecisionLog
from spangate.adapters.intent_files import IntentWatcher, load_policy
from spangate.adapters.live_schema import LiveSchemas
from spangate.adapters.unix_server import UnixServer
from spangate.checkpoint.service import Checkpoint
from spangate.errors import SpangateError
from spangate.model.policy import Policy


def serve(intent: Path, socket: Path, decisions: Path, spanner: str) -> None:
    """Serve until SIGTERM; live schemas are asked at the address `spanner`. Raises SpangateError if it cannot start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    # Before the policy is read: a change in between must not be missed.
    pool = AnalyserPool()
    checkpoint: Checkpoint | None = None

    def changed(policy: Policy) -> None:
        if checkpoint is None or policy.version == checkpoint.policy.version:
            return
        for database in policy.databases.values():
            pool.warm(database.schema)
        before = checkpoint.policy
        checkpoint.replace(policy)
        _say(f"policy {policy.version} is in force (before: {before.version})")
        for alias, database in policy.databases.items():
            known = before.databases.get(alias)
            if known is not None and known.schema.fingerprint != database.schema.fingerprint:
                _say(f"note: {database.schema_file} changed; `up` does not alter a running database")

    live = LiveSchemas(spanner) if spanner else None
    policy = load_policy(intent, live.schema if live else None)
    watcher = IntentWatcher(intent, changed=changed, broken=lambda errors: _say(f"intent refused: {errors}"), live=live)
    for database in policy.databases.values():
        pool.warm(database.schema)
    log = DecisionLog(decisions)
    checkpoint = Checkpoint(policy, pool, log.record, SystemClock())
    with UnixServer(checkpoint_app(checkpoint), socket, name="checkpoint"):
        watcher.start()
        signal.sigwait({signal.SIGTERM})
        watcher.stop()
    pool.close()
    log.close()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """The process's entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="spangate checkpoint")
    for name in ("intent", "socket", "decisions"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--spanner", default="", help="host:port; where live schemas are asked for")
    arguments = parser.parse_args()
    try:
        serve(arguments.intent, arguments.socket, arguments.decisions, arguments.spanner)
    except SpangateError as error:
        _say(f"error: {error.message}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
