"""The stand-in for Google as a process of its own: `python -m spangate.app.standin_process --config FILE --port N`.

Its ports are opened here, or inherited listening: then they stay taken while it is started again, and no other process
is shown the tokens that are meant for it. It prints where it listens once it does, for people. SIGHUP reads the
configuration again; a broken one changes nothing. It ends on SIGTERM, or when its parent does. It is not Google, and
its tokens are worth nothing elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette

from spangate.adapters.clock import SystemClock
from spangate.adapters.handover import say_ready, taken_socket
from spangate.adapters.issuer_keys import IssuerKeys
from spangate.adapters.oidc_door import LOOPBACK, LoopbackServer, loopback_listener
from spangate.adapters.standin_door import standin_app
from spangate.adapters.standin_tls import new_identity, tls_protocol
from spangate.errors import SpangateError, YourFault
from spangate.standin.access_token import KEY_BYTES, TokenMint
from spangate.standin.config import CONFIG_BYTES_MAX, StandInConfig, parse_config
from spangate.standin.service import StandIn

# Two tokens of one holder in one second differ.
NONCE_BYTES = 9


@dataclass(frozen=True, slots=True)
class Tls:
    """Where client certificates are taken, and the file in which clients find what to trust."""

    listener: socket.socket
    root: Path


def serve(
    config: Path,
    listener: socket.socket,
    tls: Tls | None = None,
    *,
    ruled: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve on loopback until SIGTERM; `ready` is called once it does. Raises SpangateError if it cannot start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    standin = StandIn(
        read_config(config),
        TokenMint(secrets.token_bytes(KEY_BYTES)),
        SystemClock().now,
        lambda: secrets.token_urlsafe(NONCE_BYTES),
        IssuerKeys(),
    )
    with ExitStack() as stack:
        application = standin_app(standin, ruled=ruled)
        at = _open(stack, application, listener, None)
        _say(f"the stand-in for Google (not Google) answers at http://{LOOPBACK}:{at}")
        if tls is not None:
            identity = new_identity(SystemClock().now())
            write_whole(tls.root, identity.pem)
            at = _open(stack, application, tls.listener, tls_protocol(identity))
            _say(f"for client certificates, the stand-in for Google answers at https://{LOOPBACK}:{at}")
        ready()
        while signal.sigwait({signal.SIGTERM, signal.SIGHUP}) == signal.SIGHUP:
            try:
                standin.config = read_config(config)
                _say("configuration read")
            except SpangateError as error:
                _say(f"configuration refused: {error.message}")


def _open(
    stack: ExitStack, application: Starlette, listener: socket.socket, protocol: type[asyncio.Protocol] | None
) -> int:
    """Serves until the stack ends; the port."""
    stack.callback(listener.close)
    door = LoopbackServer(application, listener, name="stand-in for Google", protocol=protocol)
    door.start()
    stack.callback(door.stop)
    return int(listener.getsockname()[1])


def _listener(descriptor: int | None, port: int) -> socket.socket:
    """The socket that is inherited, or a new one. Raises TryAgain."""
    return loopback_listener(port) if descriptor is None else taken_socket(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Nobody reads half of it. Raises YourFault."""
    beside = path.with_name(path.name + ".new")
    try:
        beside.write_text(text, encoding="ascii")
        beside.replace(path)
    except OSError as error:
        raise YourFault(f"cannot write `{path}`: {error.strerror}") from error


def read_config(path: Path) -> StandInConfig:
    """The configuration in a file. Raises YourFault."""
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
        return parse_config(data.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise YourFault(f"cannot read `{path}`: {error}") from error


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """The process's entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="spangate stand-in for Google", description=__doc__)
    parser.add_argument(
        "--config", type=Path, required=True, help="the configuration, JSON; /dev/fd/N for a descriptor"
    )
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0: any")
    parser.add_argument("--tls-port", type=int, help="TLS with any client certificate, on 127.0.0.1; 0: any")
    parser.add_argument("--socket-fd", type=int, help="in place of --port: a listening socket that is inherited")
    parser.add_argument("--tls-socket-fd", type=int, help="likewise, in place of --tls-port")
    parser.add_argument("--ready-fd", type=int, help="where to say that it serves")
    parser.add_argument("--tls-root", type=Path, help="where the certificate is put that clients have to trust")
    parser.add_argument("--ruled", action="store_true", help="for tests: faults and configuration under /standin")
    arguments = parser.parse_args()
    has_tls = arguments.tls_port is not None or arguments.tls_socket_fd is not None
    if has_tls != (arguments.tls_root is not None):
        parser.error("--tls-port and --tls-root go together")

    def ready() -> None:
        if arguments.ready_fd is not None:
            say_ready(arguments.ready_fd)

    try:
        listener = _listener(arguments.socket_fd, arguments.port)
        tls = Tls(_listener(arguments.tls_socket_fd, arguments.tls_port), arguments.tls_root) if has_tls else None
        serve(arguments.config, listener, tls, ruled=arguments.ruled, ready=ready)
    except SpangateError as error:
        _say(f"error: {error.message}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
