"""Direct mode: programs that call Spanner without the gateway, and get their short-lived token from a local endpoint.

Rules: the endpoint serves one identity, to the command and what it starts (`run --direct`) or to the own user's
processes (`metadata`); the first token is fetched before anything is started, so that whatever is wrong in the chain
is said at once. The command gets addresses and nothing else.
Not here: the endpoint (adapters/metadata_door.py), tokens (broker/), rendering (cli/).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from spangate.adapters.clock import SystemClock
from spangate.adapters.http_admission import strangers_up_to
from spangate.adapters.keys import SystemKeys
from spangate.adapters.metadata_door import STRANGERS_CONNECTIONS_MAX, Facts, MetadataDoor, Peers, SubjectTokens
from spangate.adapters.oidc_door import LOOPBACK, LoopbackServer, loopback_listener
from spangate.adapters.state import Running, StateDirectory, runtime_directory
from spangate.adapters.svid_client import SvidClient
from spangate.adapters.tcp_peer import Descendants, OwnUser
from spangate.adapters.token_broker import SUBJECT_TOKEN_SECONDS
from spangate.app.google import federation_of, live_tokens
from spangate.app.identities import identity_named
from spangate.app.run import RunOptions, past_proxies, program_named, run_command
from spangate.app.stopping import Stopped, ignore_signals, stoppable
from spangate.app.supervisor import POLL_SECONDS
from spangate.broker.token import TokenSource
from spangate.errors import SpangateError
from spangate.model.google import GoogleFederation, SubjectTokenType
from spangate.model.identity import SpiffeId

# Where libraries look for credentials before they ask a metadata endpoint, and what turns them away from it. Whoever
# starts the command may have set them for programs of their own.
DROPPED = (
    "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE",
    "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE",
    "GCE_METADATA_MTLS_MODE",
    "GCE_METADATA_ROOT",
    "GOOGLE_API_CERTIFICATE_CONFIG",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "NO_GCE_CHECK",
    "SPANNER_EMULATOR_HOST",
    "google_application_credentials",
)
# Of gcloud's folder: what `gcloud auth application-default login` leaves, which libraries take before the endpoint.
WELL_KNOWN_FILE = ".config/gcloud/application_default_credentials.json"


@dataclass(frozen=True, slots=True)
class Served:
    """An endpoint that runs. `environment` is what leads programs to it."""

    identity: SpiffeId
    address: str
    environment: Mapping[str, str]
    subject_tokens: bool


def run_direct(options: RunOptions, *, notice: Callable[[str], None]) -> int:
    """Run the command; its exit code, 128 + n if signal n ended it. Raises SpangateError."""
    program = program_named(options.command[0])
    running, identity, federation = _found(options.intent, options.identity)
    with ExitStack() as stack:
        tokens = live_tokens(options.intent)
        tokens.token(identity)
        # gcloud's folder may hold somebody's credentials; an empty one holds none.
        empty = stack.enter_context(runtime_directory())
        address = stack.enter_context(
            _served(identity, federation, running, tokens, options.port, Descendants(os.getpid()), None)
        )
        if (Path.home() / WELL_KNOWN_FILE).exists():
            notice(
                f"`~/{WELL_KNOWN_FILE}` exists: libraries that do not mind CLOUDSDK_CONFIG (Go, Node.js) take the "
                "credential in it instead"
            )
        env = direct_environment(os.environ, running, address) | {"CLOUDSDK_CONFIG": str(empty)}
        return run_command([program, *options.command[1:]], env, notice=notice)


def serve_metadata(
    intent: Path, identity: str, port: int, *, started: Callable[[Served], None], notice: Callable[[str], None]
) -> None:
    """Serve the endpoint until a signal comes. Raises SpangateError."""
    running, found, federation = _found(intent, identity)
    tokens = live_tokens(intent)

    def subject() -> str:
        # `up` may have been started anew since.
        socket = Path(StateDirectory(intent).running().authority_socket)
        return SvidClient(socket, SystemKeys()).token(found, [federation.token_audience], SUBJECT_TOKEN_SECONDS)[0]

    gives = None if federation.subject_token is SubjectTokenType.MTLS else subject
    with contextlib.suppress(Stopped), stoppable() as stop, ExitStack() as stack:
        address = stack.enter_context(_served(found, federation, running, tokens, port, OwnUser(), gives))
        # Nothing may interrupt the tear-down.
        stack.callback(ignore_signals)
        started(Served(found, address, endpoint_variables(address), gives is not None))
        try:
            tokens.token(found)
        except SpangateError as error:
            # Whoever asks gets the same answer, until it is mended.
            notice(f"no token yet: {error.message}")
        while True:
            stop.check()
            time.sleep(POLL_SECONDS)


def endpoint_variables(address: str) -> dict[str, str]:
    """What leads libraries to the endpoint: they ask for it under the one name, and look for it under the other."""
    return {"GCE_METADATA_HOST": address, "GCE_METADATA_IP": address}


def direct_environment(base: Mapping[str, str], running: Running, address: str) -> dict[str, str]:
    """The command's environment: `base` without credentials, and the way to the endpoint."""
    found = {name: value for name, value in base.items() if name not in DROPPED}
    found |= endpoint_variables(address)
    if running.project:
        found["GOOGLE_CLOUD_PROJECT"] = running.project
    return past_proxies(found)


def _found(intent: Path, identity: str) -> tuple[Running, SpiffeId, GoogleFederation]:
    running = StateDirectory(intent).running()
    named = identity_named(identity, intent, running.trust_domain)
    return running, named, federation_of(intent, named)


@contextmanager
def _served(
    identity: SpiffeId,
    federation: GoogleFederation,
    running: Running,
    tokens: TokenSource,
    port: int,
    peers: Peers,
    subject: SubjectTokens | None,
) -> Iterator[str]:
    """The endpoint's address, `host:port`, while it serves."""
    listener = loopback_listener(port)
    address = f"{LOOPBACK}:{listener.getsockname()[1]}"
    facts = Facts(identity, running.project, federation.project_number, federation.scopes)
    door = MetadataDoor(facts, tokens, SystemClock(), address, peers, subject)
    protocol = strangers_up_to(STRANGERS_CONNECTIONS_MAX, OwnUser().admits)
    server = LoopbackServer(door.app(), listener, name="metadata endpoint", protocol=protocol)
    server.start()
    try:
        yield address
    finally:
        server.stop()
