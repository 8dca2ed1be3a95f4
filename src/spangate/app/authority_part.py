"""The authority as `spangate up` sees it: its sockets, its passphrase, its process, and the gateway's certificate.

Rules: the sockets are opened once and stay open while the process behind them is away. The passphrase lives in this
process's memory; each process of the authority is handed it through a pipe. Without a directory of one's own for the
keys, they are below the runtime directory, under a random passphrase that nobody else knows: they end with `up`.
Not here: the process (authority_process.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from spangate.adapters.handover import ReadyPipe, secret_pipe
from spangate.adapters.key_keepers import new_passphrase
from spangate.adapters.key_places import find_secret
from spangate.adapters.kubernetes_settings import read_settings
from spangate.adapters.oidc_door import LOOPBACK, loopback_listener
from spangate.adapters.process import Child
from spangate.adapters.tls_server import tcp_listener
from spangate.adapters.unix_server import listening
from spangate.app.authority_parts import DOOR, OWN_DOOR
from spangate.app.workload_doors import SOCKET
from spangate.model.identity import SpiffeId

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
    # Where its public keys are served, on loopback, whatever the issuer's name.
    public_keys: str
    intent: Path
    kubernetes: Path | None
    # Where processes of this machine, and pods, find it; the second is empty without settings for a cluster.
    workload: Path
    pods: str
    # Listening sockets by the name of their argument.
    sockets: Mapping[str, int]
    passphrase: bytes = field(repr=False)
    # When a root is rotated by itself; None for never. Trust stores elsewhere that a rotation waits for.
    rotate_every: timedelta | None
    stores: tuple[str, ...]
    # Names that no workload is given, besides Spangate's own: the gateway's in a mesh.
    reserved: tuple[SpiffeId, ...] = ()

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
        with secret_pipe(self.passphrase) as passphrase:
            descriptors = [*self.sockets.values(), passphrase]
            argv = [sys.executable, "-m", "spangate.app.authority_process", "--trust-domain", self.trust_domain]
            argv += ["--issuer", self.issuer, "--keys", self.keys, "--state", str(self.state)]
            argv += ["--runtime", str(self.runtime), "--intent", str(self.intent)]
            argv += [] if self.kubernetes is None else ["--kubernetes", str(self.kubernetes)]
            argv += ["--rotate-every", str(self.rotate_every.total_seconds() if self.rotate_every else 0)]
            for store in self.stores:
                argv += ["--trust-store", store]
            argv += ["--passphrase-fd", str(passphrase)]
            for name, descriptor in self.sockets.items():
                argv += [f"--{name}-fd", str(descriptor)]
            for identity in self.reserved:
                argv += ["--reserve", str(identity)]
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
    rotate_every: timedelta | None,
    stores: tuple[str, ...],
    intent: Path,
    workload: Path | None,
    kubernetes: Path | None,
    reserved: tuple[SpiffeId, ...] = (),
) -> AuthorityPlan:
    """Opens its sockets. `workload`: where every user finds the Workload API; for the own user alone if it is None.

    Raises YourFault (no usable place or passphrase, settings that are wrong), TryAgain (a port is taken).
    """
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
    sockets = {"public-keys": public_keys.fileno()}
    workload_at = runtime / SOCKET if workload is None else workload.absolute()
    for name, path in (("door", runtime / DOOR), ("own-door", runtime / OWN_DOOR), ("workload", workload_at)):
        door = listening(path, for_all=workload is not None and path == workload_at)
        stack.callback(path.unlink, missing_ok=True)
        stack.callback(door.close)
        sockets[name] = door.fileno()
    pods = ""
    if kubernetes is not None:
        pod_door = tcp_listener(read_settings(kubernetes).listen)
        stack.callback(pod_door.close)
        sockets["pods"] = pod_door.fileno()
        host, port = pod_door.getsockname()[:2]
        pods = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    public_keys_at = f"http://{LOOPBACK}:{public_keys.getsockname()[1]}"
    return AuthorityPlan(
        trust_domain=trust_domain,
        issuer=issuer or public_keys_at,
        public_keys=public_keys_at,
        keys=keys,
        state=state.absolute(),
        runtime=runtime,
        log=log,
        intent=intent.absolute(),
        kubernetes=None if kubernetes is None else kubernetes.absolute(),
        workload=workload_at,
        pods=pods,
        sockets=sockets,
        passphrase=passphrase,
        rotate_every=rotate_every,
        stores=stores,
        reserved=reserved,
    )
