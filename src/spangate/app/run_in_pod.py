"""`spangate run` in a pod: as `run`, with the certificate that the pod's service account token gets at the authority.

Rules: nothing of `up` is on this machine; where authority and gateway are is said by options. Nobody names an identity:
it is what the token proves. The token file is read each time that something is asked.
Not here: what runs beside the command (run.py), the door (adapters/attest_door.py).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from spangate.adapters.attest_client import AttestClient
from spangate.adapters.clock import SystemClock
from spangate.adapters.keys import SystemKeys
from spangate.adapters.workload_issuers import PodIssuer
from spangate.app.run import INSTANCE_BYTES, Origin, program_named, reaching, run_command, start_beside
from spangate.errors import SpangateError, YourFault
from spangate.model.identity import SpiffeId


@dataclass(frozen=True, slots=True)
class PodOptions:
    """`authority` is an https URL, `gateway` is `host:port`; `port` 0 is chosen."""

    authority: str
    bundle: Path
    token: Path
    gateway: str
    command: Sequence[str]
    port: int = 0


def run_in_pod(options: PodOptions, *, notice: Callable[[str], None]) -> int:
    """Run the command; its exit code, 128 + n if signal n ended it. Raises SpangateError."""
    program = program_named(options.command[0])
    host, _, port = options.gateway.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise YourFault(f"`--gateway {options.gateway}` is not of the form `host:port`")
    client = AttestClient(options.authority, options.bundle, options.token, SystemKeys())
    instance = secrets.token_hex(INSTANCE_BYTES)

    def farewell() -> None:
        # As everywhere: whoever is away need not be told, since the certificate ends by itself.
        with suppress(SpangateError):
            client.gone(instance)

    origin = Origin(
        lambda: client.fetch(instance),
        PodIssuer(client, SystemClock()),
        options.gateway,
        SpiffeId.gateway(client.trust_domain),
        report=lambda held: client.report(instance, held),
        farewell=farewell,
    )
    with ExitStack() as stack:
        # After everything below: the key is in the Envoy too.
        stack.callback(origin.farewell)
        beside = start_beside(stack, origin, options.port, None, notice)
        env = reaching(os.environ, beside)
        return run_command([program, *options.command[1:]], env, check=beside.look, notice=notice)
