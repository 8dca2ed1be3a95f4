"""The checkpoint as a process of its own, so that load and checkpoint do not share one interpreter's lock.

python -m bench.gateway.checkpoint INTENT DECISION_LOG SOCKET
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from spangate.adapters.analysers import AnalyserPool
from spangate.adapters.checkpoint_door import checkpoint_app
from spangate.adapters.decision_log import DecisionLog
from spangate.adapters.intent_files import load_policy
from spangate.adapters.unix_server import UnixServer
from spangate.checkpoint.service import Checkpoint


def serve(intent: Path, log: Path, socket: Path) -> None:
    """Until SIGTERM."""
    signals = {signal.SIGTERM, signal.SIGINT}
    # Before any thread starts, so that all inherit it and the signal waits for us.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    policy = load_policy(intent)
    analysers = AnalyserPool()
    for database in policy.databases.values():
        analysers.warm(database.schema)
    decisions = DecisionLog(log)
    checkpoint = Checkpoint(policy, analysers, decisions.record)
    with UnixServer(checkpoint_app(checkpoint), socket, name="checkpoint"):
        signal.sigwait(signals)
    decisions.close()
    analysers.close()


if __name__ == "__main__":
    serve(*map(Path, sys.argv[1:4]))
