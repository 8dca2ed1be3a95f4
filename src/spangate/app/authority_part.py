"""The authority as `spangate up` sees it: its sockets, its passphrase, its process, and the gateway's certificate.

Rules: the sockets are opened once and stay open while the process behind them is away. The passphrase lives in this
process's memory; each process of the authority is handed it through a pipe. Without a directory of one's own for the
keys, they are below the runtime directory, under a random passphrase that nobody else knows: they end with `up`.
Not here: the process (authority_process.py).
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from spangate.adapters.handover import ReadyPipe, secret_pipe
from spangate.adapters.key_keepers import new_passphrase
from spangate.adapters.key_places import find_secret
from spangate.adapters.oidc_door import LOOPBACK, loopback_listener
from spangate.adapters.process import Child
from spangate.adapters.unix_server import listening
from spangate.app.authority_parts import DOOR, OWN_DOOR

# Below the runtime directory, where the authority ends with `up`.
_FOLDER = "authority"
# Connections that wait while the process is away; a verifier asks once an hour.
_WAITING_MAX = 128


@dataclass(frozen=True, slots=True)
class AuthorityPlan:
    """Where everything of one authority is. `door`: where workloads are given certificates and tokens."""

    trust_domain: str
    issuer: str
    keys: str
    state: Path
    runtime: Path
    log: Path
    sockets: tuple[int, int, int]
    passphrase: bytes = field(repr=False)

    @property
    def door(self) -> Path:
        """The operator's door."""
        return self.runtime / DOOR

    @property
    def own_door(self) -> Path:
        """Where this process gets certificates for Spangate's own identities."""
        return self.runtime / OWN_DOOR

    def start(self, ready: ReadyPipe | None = None) -> Child:
        """A process for it."""
        door, own_door, public_keys = self.sockets
        with secret_pipe(self.passphrase) as passphrase:
            descriptors = [*self.sockets, passphrase]
            argv = [sys.executable, "-m", "spangate.app.authority_process", "--trust-domain", self.trust_domain]
            argv += ["--issuer", self.issuer, "--keys", self.keys, "--state", str(self.state)]
            argv += ["--runtime", str(self.runtime), "--passphrase-fd", str(passphrase), "--door-fd", str(door)]
            argv += ["--own-door-fd", str(own_door), "--public-keys-fd", str(public_keys)]
            if ready is not None:
                argv += ["--ready-fd", str(ready.writing)]
                descriptors.append(ready.writing)
            return Child("authority", argv, self.log, descriptors=descriptors)


def plan_authority(
    stack: ExitStack,
    *,
    trust_domain: str,
    issuer: str,
    oidc_port: int,
    keys: str | None,
    passphrase_file: Path | None,
    state: Path,
    runtime: Path,
    log: Path,
) -> AuthorityPlan:
    """Opens its sockets. Raises YourFault (no usable place or passphrase), TryAgain (a port is taken)."""
    if keys is None:
        passphrase = new_passphrase()
        state = runtime / _FOLDER
        state.mkdir(mode=0o700)
        keys = str(state / "keys")
    else:
        passphrase = find_secret(keys, os.environ, passphrase_file)
    public_keys = loopback_listener(oidc_port)
    stack.callback(public_keys.close)
    public_keys.listen(_WAITING_MAX)
    doors = []
    for name in (DOOR, OWN_DOOR):
        door = listening(runtime / name)
        stack.callback(door.close)
        doors.append(door.fileno())
    return AuthorityPlan(
        trust_domain=trust_domain,
        issuer=issuer or f"http://{LOOPBACK}:{public_keys.getsockname()[1]}",
        keys=keys,
        state=state.absolute(),
        runtime=runtime,
        log=log,
        sockets=(doors[0], doors[1], public_keys.fileno()),
        passphrase=passphrase,
    )
