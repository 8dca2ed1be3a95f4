"""Whom the gateway trusts and who it is: the certificate door of its Envoy, and all that is behind it.

Rules: everything that is read from files is read before the gateway starts, and looked at again and again after it; a
file that is no good later changes nothing and is said.
Not here: the files (adapters/trust_files.py, adapters/svid_files.py), the authority's own certificate for the gateway.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from spangate.adapters.anchor_check import AnchorCheck
from spangate.adapters.clock import SystemClock
from spangate.adapters.gateway_roots import RootsWriter
from spangate.adapters.keys import SystemKeys
from spangate.adapters.periodic import Periodic
from spangate.adapters.sds_door import Source
from spangate.adapters.svid_files import SvidFiles
from spangate.adapters.trust_files import GatewaySecrets, TrustFiles
from spangate.model.identity import SpiffeId
from spangate.settings import INTERVALS


@dataclass(frozen=True, slots=True)
class GatewayTrust:
    """The files that were read: bundles of the intent's trust domains, and perhaps the gateway's own SVID."""

    files: TrustFiles
    svid: SvidFiles | None

    def identity(self, own: SpiffeId) -> SpiffeId:
        """Who the gateway is: `own`, unless its certificate comes from files."""
        return own if self.svid is None else self.svid.svid.identity


def read_trust(intent: Path, svid_directory: Path | None, *, problem: Callable[[str], None]) -> GatewayTrust:
    """Raises YourFault for a file that cannot be used."""
    files = TrustFiles(intent, problem=problem)
    return GatewayTrust(files, None if svid_directory is None else read_svid(svid_directory, problem=problem))


def read_svid(directory: Path, *, problem: Callable[[str], None]) -> SvidFiles:
    """The SVID in `directory`. Raises YourFault if there is none."""
    return SvidFiles(directory, SystemClock(), problem=problem)


def gateway_secrets(
    trust: GatewayTrust,
    own: Source,
    trust_domain: str,
    roots_file: Path,
    runtime: Path,
    stack: ExitStack,
    *,
    problem: Callable[[str], None],
) -> Source:
    """What the gateway's certificate door serves. `own` is the authority's certificate for it, with the roots of now.

    `roots_file` says from now on by which roots clients verify the gateway; `runtime` is for sockets. Raises
    SpangateError.
    """
    keys = SystemKeys()
    check = AnchorCheck(runtime, keys, SystemClock())
    secrets = GatewaySecrets(
        own, trust_domain, trust.files, keys, problem=problem, apart=check.require, certificate=trust.svid
    )

    def roots() -> str | None:
        found = (trust.svid or own).current()
        return None if found is None else found.bundle_pem

    writer = RootsWriter(roots_file, roots)
    writer.look()
    watch([trust.files.look, *([trust.svid.look] if trust.svid else []), writer.look], stack, problem=problem)
    return secrets


def watch(looks: list[Callable[[], None]], stack: ExitStack, *, problem: Callable[[str], None]) -> None:
    """Looks again and again, in one thread, until `stack` ends."""

    def look() -> None:
        for one in looks:
            one()

    pause = timedelta(milliseconds=INTERVALS.watch_ms)
    periodic = Periodic(look, pause, name="trust", problem=problem)
    periodic.start()
    stack.callback(periodic.stop)
