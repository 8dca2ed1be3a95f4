"""The authority as a process of its own: `python -m spangate.app.authority_process`.

Rules: the passphrase of its keys comes through an inherited pipe, its listening sockets are inherited too: it is
started again after any end, and is the same authority at the same places. What it prints is for people and passed on
by `spangate up`. It ends on SIGTERM, or when its parent does.
Not here: what it is made of (authority_parts.py), who starts it (authority_part.py).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from spangate.adapters.handover import say_ready, taken_secret, taken_socket
from spangate.app.authority_parts import DOORS, Inherited, open_parts
from spangate.errors import SpangateError
from spangate.model.identity import SpiffeId


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _serve(arguments: argparse.Namespace) -> None:
    """Until SIGTERM. Raises SpangateError if it cannot start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Before any thread is made: each inherits it, and only the wait below takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    inherited = Inherited(
        door=taken_socket(arguments.door_fd),
        own_door=taken_socket(arguments.own_door_fd),
        public_keys=taken_socket(arguments.public_keys_fd),
        workload=taken_socket(arguments.workload_fd),
        pods=None if arguments.pods_fd is None else taken_socket(arguments.pods_fd),
        parent=os.getppid(),
    )
    with ExitStack() as stack:
        parts = open_parts(
            trust_domain=arguments.trust_domain,
            issuer=arguments.issuer,
            keys=arguments.keys,
            passphrase=taken_secret(arguments.passphrase_fd),
            state=arguments.state,
            runtime=arguments.runtime,
            intent=arguments.intent,
            kubernetes=arguments.kubernetes,
            inherited=inherited,
            say=_say,
            stack=stack,
            rotate_every=timedelta(seconds=arguments.rotate_every) if arguments.rotate_every else None,
            stores=tuple(arguments.trust_store),
            in_mesh=tuple(arguments.reserve),
        )
        for open_door in DOORS:
            open_door(parts)
        if arguments.ready_fd is not None:
            say_ready(arguments.ready_fd)
        signal.sigwait({signal.SIGTERM})


def main() -> int:
    """The process's entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="spangate authority")
    for name in ("trust-domain", "issuer", "keys"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("state", "runtime", "intent"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--kubernetes", type=Path, help="settings for a cluster whose pods are let in")
    for name in ("passphrase-fd", "door-fd", "own-door-fd", "public-keys-fd", "workload-fd"):
        parser.add_argument(f"--{name}", type=int, required=True, help="a file descriptor that is inherited")
    parser.add_argument("--pods-fd", type=int, help="likewise, with --kubernetes")
    parser.add_argument("--reserve", type=SpiffeId.parse, action="append", default=[], help="nobody's here")
    parser.add_argument("--ready-fd", type=int, help="where to say that it serves")
    parser.add_argument("--rotate-every", type=float, default=0, help="seconds; 0 for never by itself")
    parser.add_argument(
        "--trust-store", action="append", default=[], help="one elsewhere that somebody changes by hand"
    )
    try:
        _serve(parser.parse_args())
    except SpangateError as error:
        _say(f"error: {error.message}")
        if error.help:
            _say(f"help: {error.help}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
