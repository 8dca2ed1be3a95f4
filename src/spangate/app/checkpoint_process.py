"""The checkpoint as a process of its own: `python -m spangate.app.checkpoint_process`.

What it prints is for people and passed on by `spangate up`. It ends on SIGTERM, or when its parent does.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from spangate.adapters.analysers import AnalyserPool
from spangate.adapters.checkpoint_door import checkpoint_app
from spangate.adapters.clock import SystemClock
from spangate.adapters.decision_log import DecisionLog
from spangate.adapters.handover import say_ready, taken_socket
from spangate.adapters.intent_files import IntentWatcher, load_policy
from spangate.adapters.issuers_file import Issuers, IssuersFile
from spangate.adapters.live_schema import LiveSchemas
from spangate.adapters.seal_keys import FILE, FileSealKeys, SpannerSealKeys, new_seal_key
from spangate.adapters.unix_server import UnixServer
from spangate.checkpoint.sealing import RENEWAL, SealKeys, SealKeyStore
from spangate.checkpoint.service import Checkpoint
from spangate.errors import SpangateError, YourFault
from spangate.model.database import DatabasePath
from spangate.model.policy import LIVE, Policy

# How soon an intent that has been mended is noticed; the file is small.
_PATIENCE_SECONDS = 0.5


def serve(
    intent: Path,
    socket: Path,
    decisions: Path,
    spanner: str,
    seals: SealKeyStore,
    shared: DatabasePath | None,
    *,
    issuers: Path | None = None,
    broker: bool = False,
    socket_fd: int | None = None,
    ready_fd: int | None = None,
    patient: bool = False,
) -> None:
    """Serve until SIGTERM; live schemas are asked at the address `spanner`. Raises SpangateError if it cannot start.

    `issuers` tells whose certificates are to be replaced or refused. `seals` keeps the sealing keys; `shared` is their
    database where several gateways share them. With `broker`, what is allowed goes on only with an access token.
    `socket_fd` is inherited and listens at `socket` already; `ready_fd` is where to say that it serves. `patient`: an
    intent that cannot be used now is waited for, as one that is started again has nobody else to serve the policy that
    was in force.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    pool = AnalyserPool()
    checkpoint: Checkpoint | None = None

    def changed(policy: Policy) -> None:
        if checkpoint is None or policy.version == checkpoint.policy.version:
            return
        if shared in policy.database_at:
            _say(f"intent refused: {_private(shared)}")
            return
        for database in policy.databases.values():
            pool.warm(database.schema)
        before = checkpoint.policy
        checkpoint.replace(policy)
        _say(f"policy {policy.version} is in force (before: {before.version})")
        for note in _not_followed(before, policy):
            _say(f"note: {note}")

    live = LiveSchemas(spanner) if spanner else None
    # Before the policy is read: a change in between must not be missed.
    watcher = IntentWatcher(intent, changed=changed, broken=lambda errors: _say(f"intent refused: {errors}"), live=live)
    policy = _policy(lambda: load_policy(intent, live.schema if live else None), patient)
    if shared in policy.database_at:
        raise YourFault(_private(shared))
    for database in policy.databases.values():
        pool.warm(database.schema)
    log = DecisionLog(decisions)
    clock = SystemClock()
    checkpoint = Checkpoint(policy, pool, log.record, clock, watcher.look_at, live.soon if live else None)
    keys = SealKeys(seals, new_seal_key, clock.now)
    keys.renew()
    with (
        UnixServer(
            checkpoint_app(
                checkpoint,
                lambda: keys.header,
                Issuers if issuers is None else IssuersFile(issuers).read,
                broker=broker,
            ),
            socket,
            name="checkpoint",
            listener=None if socket_fd is None else taken_socket(socket_fd),
        ),
        _renewed(keys),
    ):
        if ready_fd is not None:
            say_ready(ready_fd)
        watcher.start()
        signal.sigwait({signal.SIGTERM})
        watcher.stop()
    pool.close()
    log.close()


def _not_followed(before: Policy, policy: Policy) -> Iterator[str]:
    """What of a change only another start of `up` would bring about."""
    if (policy.google is not None) != (before.google is not None):
        yield "`google` came or went; `up` has to be started anew for that"
    for alias, database in policy.databases.items():
        known = before.databases.get(alias)
        if known is None or database.schema_file == LIVE:
            continue
        if known.schema.fingerprint != database.schema.fingerprint:
            yield f"{database.schema_file} changed; `up` does not alter a running database"


def _policy(load: Callable[[], Policy], patient: bool) -> Policy:
    """What `load` gives, at last. Each fault is told once."""
    told = ""
    while True:
        try:
            return load()
        except SpangateError as error:
            if not patient:
                raise
            if str(error) != told:
                told = str(error)
                _say(f"intent refused, and nothing new is allowed until it is mended: {told}")
        # SIGTERM is blocked, and taken here.
        if signal.sigtimedwait({signal.SIGTERM}, _PATIENCE_SECONDS):
            sys.exit(0)


@contextlib.contextmanager
def _renewed(keys: SealKeys) -> Iterator[None]:
    """Meanwhile the keys are renewed. While that fails, those that are known stay in use."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWAL.total_seconds()):
            try:
                keys.renew()
            except SpangateError as error:
                _say(f"sealing keys: {error.message}")

    thread = threading.Thread(target=renew, name="sealing keys", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        # A call to Spanner that hangs ends by its own deadline; nobody waits for it.
        thread.join(1)


def _private(shared: DatabasePath | None) -> str:
    return f"database `{shared}` holds the sealing keys that gateways share; nobody may be given access to it"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """The process's entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="spangate checkpoint")
    for name in ("intent", "socket", "decisions"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--spanner", default="", help="host:port; where live schemas and shared keys are asked for")
    parser.add_argument("--issuers", type=Path, help="the file that tells whose certificates are to be refused")
    parser.add_argument("--broker", action="store_true", help="what is allowed goes on only with an access token")
    parser.add_argument("--socket-fd", type=int, help="a descriptor that is inherited and listens at --socket")
    parser.add_argument("--ready-fd", type=int, help="where to say that it serves")
    parser.add_argument("--patient", action="store_true", help="wait for an intent that can be used")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--seals", type=Path, help=f"the file with the sealing keys; else {FILE} beside the decisions")
    where.add_argument("--shared-seals", type=DatabasePath.parse, help="the database with them")
    arguments = parser.parse_args()
    shared: DatabasePath | None = arguments.shared_seals
    try:
        seals: SealKeyStore = (
            FileSealKeys(arguments.seals or arguments.decisions.with_name(FILE))
            if shared is None
            else SpannerSealKeys(arguments.spanner, shared)
        )
        serve(
            arguments.intent,
            arguments.socket,
            arguments.decisions,
            arguments.spanner,
            seals,
            shared,
            issuers=arguments.issuers,
            broker=arguments.broker,
            socket_fd=arguments.socket_fd,
            ready_fd=arguments.ready_fd,
            patient=arguments.patient,
        )
    except SpangateError as error:
        _say(f"error: {error.message}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
