"""What `spangate up` is told, and what it tells once everything runs.

Not here: what the options do (up_steps.py), their names on the command line (cli/).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from spangate.adapters.google_http import GoogleEndpoints
from spangate.adapters.state import Running
from spangate.app.real_spanner import RealSpanner
from spangate.authority.rotator import EVERY
from spangate.model.database import DatabasePath
from spangate.model.policy import Policy

# One worker a core up to this many: a development gateway needs no more.
WORKERS_MAX = 2


@dataclass(frozen=True, slots=True)
class UpOptions:
    """`port` 0 lets the kernel choose. `env` is the environment in which Spanner is looked for."""

    intent: Path
    port: int = 0
    workers: int = WORKERS_MAX
    # A database in which several gateways keep the sealing keys that they share.
    shared_state: DatabasePath | None = None
    # Where the authority's keys are kept (key_places.open_keeper); None lets them end with `up`, and every start makes
    # new ones.
    keys: str | None = None
    # Where their passphrase or PIN stands, if not where key_keepers.find_passphrase looks.
    passphrase_file: Path | None = None
    # Where the authority's public keys are served, and the URL under which others find them; that door's, if empty.
    oidc_port: int = 0
    issuer: str = ""
    # Where every user of the machine finds the Workload API; None: only the own user, at a place of its own.
    workload_socket: Path | None = None
    # Settings for a cluster whose pods are let in by their service account tokens (kubernetes_settings.py).
    kubernetes: Path | None = None
    # A Spanner over TLS in place of the emulator.
    spanner: RealSpanner | None = None
    # Google's services; None is Google, or with an emulator the stand-in.
    google: GoogleEndpoints | None = None
    # A mesh's SVID for the gateway (adapters/svid_files.py); None takes the authority's.
    svid_directory: Path | None = None
    # When the authority's root is rotated by itself; None for never.
    rotate_every: timedelta | None = EVERY
    # The X.509 provider whose trust store holds the authority's roots, and is changed by hand.
    google_trust_store: str = ""


@dataclass(frozen=True, slots=True)
class Installed:
    """What runs where, once everything does."""

    policy: Policy
    running: Running
    # Where the authority's keys are.
    authority: str
    emulator: str
    state: Path
    # Name and process id of each part.
    parts: dict[str, int]
    seconds: float
