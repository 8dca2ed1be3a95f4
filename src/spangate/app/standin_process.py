"""The stand-in for Google as a process of its own: `python -m spangate.app.standin_process --config FILE --port N`.

It prints where it listens once it does, for people. SIGHUP reads the configuration again; a broken one changes nothing.
It ends on SIGTERM, or when its parent does. It is not Google, and its tokens are worth nothing elsewhere.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from spangate.adapters.clock import SystemClock
from spangate.adapters.issuer_keys import IssuerKeys
from spangate.adapters.oidc_door import LOOPBACK, LoopbackServer, loopback_listener
from spangate.adapters.standin_door import standin_app
from spangate.errors import SpangateError, YourFault
from spangate.standin.access_token import KEY_BYTES, TokenMint
from spangate.standin.config import CONFIG_BYTES_MAX, StandInConfig, parse_config
from spangate.standin.service import StandIn

# Two tokens of one holder in one second differ.
NONCE_BYTES = 9


def serve(config: Path, port: int, *, ruled: bool = False) -> None:
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
        listener = loopback_listener(port)
        stack.callback(listener.close)
        door = LoopbackServer(standin_app(standin, ruled=ruled), listener, name="stand-in for Google")
        door.start()
        stack.callback(door.stop)
        _say(f"the stand-in for Google (not Google) answers at http://{LOOPBACK}:{listener.getsockname()[1]}")
        while signal.sigwait({signal.SIGTERM, signal.SIGHUP}) == signal.SIGHUP:
            try:
                standin.config = read_config(config)
                _say("configuration read")
            except SpangateError as error:
                _say(f"configuration refused: {error.message}")


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
    parser.add_argument("--ruled", action="store_true", help="for tests: faults and configuration under /standin")
    arguments = parser.parse_args()
    try:
        serve(arguments.config, arguments.port, ruled=arguments.ruled)
    except SpangateError as error:
        _say(f"error: {error.message}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
