"""The broker as a process of its own: `python -m spangate.app.broker_process`.

What it prints is for people and passed on by `spangate up`. It ends on SIGTERM, or when its parent does.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from spangate.adapters.broker_door import broker_app
from spangate.adapters.clock import SystemClock
from spangate.adapters.google_http import Google, GoogleEndpoints
from spangate.adapters.handover import say_ready, taken_socket
from spangate.adapters.intent_files import IntentWatcher, load_policy
from spangate.adapters.keys import SystemKeys
from spangate.adapters.live_schema import LiveSchemas
from spangate.adapters.svid_client import SvidClient
from spangate.adapters.token_broker import TokenBroker, exchange_with
from spangate.adapters.unix_server import UnixServer
from spangate.errors import SpangateError
from spangate.model.policy import Policy


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """`authority`: its socket, where subject tokens come from. `spanner`: host:port, to be asked for live schemas.

    `ca_file` replaces the system's certificate authorities for the endpoints.
    """

    intent: Path
    socket: Path
    authority: Path
    spanner: str = ""
    endpoints: GoogleEndpoints = field(default_factory=GoogleEndpoints)
    ca_file: Path | None = None
    # Inherited: one listens at `socket` already, the other is where to say that it serves.
    socket_fd: int | None = None
    ready_fd: int | None = None
    # An intent that cannot be used now is waited for.
    patient: bool = False


def serve(options: BrokerOptions) -> None:
    """Serve until SIGTERM. Raises SpangateError if it cannot start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    clock = SystemClock()
    google = Google(options.endpoints, now=clock.now, ca_file=options.ca_file)
    authority = SvidClient(options.authority, SystemKeys())
    # Only spreads moments over time: nothing secret hangs on it.
    broker = TokenBroker(exchange_with(google, authority), now=clock.now, random=random.random)

    def changed(policy: Policy) -> None:
        broker.replace(policy.federations)

    live = LiveSchemas(options.spanner) if options.spanner else None
    # Before the policy is read: a change in between must not be missed. Why one is refused, the checkpoint says.
    watcher = IntentWatcher(options.intent, changed=changed, broken=lambda _: None, live=live)
    _begin(options, live, changed)
    broker.start()
    listener = None if options.socket_fd is None else taken_socket(options.socket_fd)
    with UnixServer(broker_app(broker), options.socket, name="broker", listener=listener):
        if options.ready_fd is not None:
            say_ready(options.ready_fd)
        watcher.start()
        signal.sigwait({signal.SIGTERM})
        watcher.stop()
    broker.stop()
    google.close()


def _begin(options: BrokerOptions, live: LiveSchemas | None, changed: Callable[[Policy], None]) -> None:
    """The policy of the beginning. A patient broker knows nobody until there is one."""
    try:
        changed(load_policy(options.intent, live.schema if live else None))
    except SpangateError:
        if not options.patient:
            raise


def main() -> int:
    """The process's entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="spangate broker")
    for name in ("intent", "socket", "authority"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--spanner", default="", help="host:port; where live schemas are asked for")
    google = GoogleEndpoints()
    parser.add_argument("--sts", default=google.sts)
    parser.add_argument("--sts-mtls", default=google.sts_mtls)
    parser.add_argument("--iam-credentials", default=google.iam_credentials)
    parser.add_argument("--google-ca", type=Path, help="certificate authorities of these, in place of the system's")
    parser.add_argument("--socket-fd", type=int, help="a descriptor that is inherited and listens at --socket")
    parser.add_argument("--ready-fd", type=int, help="where to say that it serves")
    parser.add_argument("--patient", action="store_true", help="wait for an intent that can be used")
    arguments = parser.parse_args()
    try:
        endpoints = GoogleEndpoints(arguments.sts, arguments.sts_mtls, arguments.iam_credentials)
        serve(
            BrokerOptions(
                arguments.intent,
                arguments.socket,
                arguments.authority,
                arguments.spanner,
                endpoints,
                arguments.google_ca,
                arguments.socket_fd,
                arguments.ready_fd,
                arguments.patient,
            )
        )
    except SpangateError as error:
        sys.stdout.write(f"error: {error.message}\n")
        if error.help:
            sys.stdout.write(f"help: {error.help}\n")
        sys.stdout.flush()
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
