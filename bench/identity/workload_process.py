"""The Workload API in a process of its own, so that its memory and time are nobody else's.

`python -m bench.identity.workload_process SOCKET`: certificates from an authority in memory, for every process of the
own user, until standard input ends. A line there begins the rotation of the root: news for every stream.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from bench.parts.rig import CHECKOUT, TRUST_DOMAIN
from spangate.adapters.clock import SystemClock
from spangate.adapters.key_keepers import MemoryKeys
from spangate.adapters.keys import SystemKeys
from spangate.adapters.workload_issuers import AuthorityIssuer
from spangate.adapters.workload_server import OneForUser, WorkloadServer, raise_descriptors
from spangate.authority.ca import Authority
from spangate.authority.jwt_keys import KeptJwtKeys
from spangate.authority.jwt_svid import JwtAuthority
from spangate.authority.rotation import RootStaged


def main(socket: Path) -> None:
    """Until standard input ends."""
    raise_descriptors()
    clock, keys = SystemClock(), SystemKeys()
    authority = Authority.create(TRUST_DOMAIN, clock, keys, lock=threading.RLock())
    tokens = JwtAuthority(
        trust_domain=TRUST_DOMAIN,
        issuer="https://issuer.example",
        clock=clock,
        serials=keys,
        store=KeptJwtKeys(MemoryKeys(), lambda: f"{keys.new_serial() % 2**64:016x}"),
        record=lambda _: None,
    )
    issuer = AuthorityIssuer(authority, tokens, keys)
    with WorkloadServer(issuer, OneForUser(CHECKOUT, os.getuid()), socket, clock=clock, problem=_told):
        for _ in sys.stdin:
            authority.step(RootStaged())


def _told(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
