"""The stand-in for Google as a process of its own: `python -m spangate.app.standin_process --config FILE --port N`.

It prints where it listens once it does, for people. SIGHUP reads the configuration again; a broken one changes nothing.
It ends on SIGTERM, or when its parent does. It is not Google, and its tokens are worth nothing elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette

from spangate.adapters.clock import SystemClock
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
    """The port for client certificates, and the file in which clients find what to trust."""

    port: int
    root: Path


def serve(config: Path, port: int, tls: Tls | None = None, *, ruled: bool = False) -> None:
    """Serve on loopback until SIGTERM; port 0 is any. Raises SpangateError if it cannot start."""
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
        at = _open(stack, application, port, None)
        _say(f"the stand-in for Google (not Google) answers at http://{LOOPBACK}:{at}")
        if tls is not None:
            identity = new_identity(SystemClock().now())
            write_whole(tls.root, identity.pem)
            at = _open(stack, application, tls.port, tls_protocol(identity))
            _say(f"for client certificates, the stand-in for Google answers at https://{LOOPBACK}:{at}")
        while signal.sigwait({signal.SIGTERM, signal.SIGHUP}) == signal.SIGHUP:
            try:
                standin.config = read_config(config)
                _say("configuration read")
            except SpangateError as error:
                _say(f"configuration refused: {error.message}")


def _open(stack: ExitStack, application: Starlette, port: int, protocol: type[asyncio.Protocol] | None) -> int:
    """Serves until the stack ends; the port."""
    listener = loopback_listener(port)
    stack.callback(listener.close)
    door = LoopbackServer(application, listener, name="stand-in for Google", protocol=protocol)
    door.start()
    stack.callback(door.stop)
    return int(listener.getsockname()[1])


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
    parser.add_argument("--tls-root", type=Path, help="where the certificate is put that clients have to trust")
    parser.add_argument("--ruled", action="store_true", help="for tests: faults and configuration under /standin")
    arguments = parser.parse_args()
    if (arguments.tls_port is None) != (arguments.tls_root is None):
        parser.error("--tls-port and --tls-root go together")
    tls = None if arguments.tls_port is None else Tls(arguments.tls_port, arguments.tls_root)
    try:
        serve(arguments.config, arguments.port, tls, ruled=arguments.ruled)
    except SpangateError as error:
        _say(f"error: {error.message}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
