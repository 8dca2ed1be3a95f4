"""The Workload API in a process of its own, so that its memory and time are nobody else's.

`python -m bench.identity.workload_process SOCKET`: certificates from an authority whose keys are in memory and whose
state is in a file beside the socket, for every process of the own user, until standard input ends. A line there begins
the rotation of the root: news for every stream.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from bench.parts.rig import CHECKOUT, TRUST_DOMAIN
from spangate.adapters.authority_store import FILE, AuthorityFile
from spangate.adapters.clock import SystemClock
from spangate.adapters.key_keepers import MemoryKeys
from spangate.adapters.keys import SystemKeys
from spangate.adapters.process_life import ended
from spangate.adapters.workload_issuers import AuthorityIssuer
from spangate.adapters.workload_server import OneForUser, WorkloadServer, raise_descriptors
from spangate.authority.ca import Authority
from spangate.authority.jwt_keys import KeptJwtKeys
from spangate.authority.jwt_svid import JwtAuthority
from spangate.authority.peers import Peers
from spangate.authority.rotation import RootStaged


def main(socket: Path) -> None:
    """Until standard input ends."""
    raise_descriptors()
    clock, keys = SystemClock(), SystemKeys()
    store = AuthorityFile(socket.with_name(FILE), clock.now)
    authority = Authority.create(TRUST_DOMAIN, clock, keys, lock=threading.RLock(), record=store.record)
    tokens = JwtAuthority(
        trust_domain=TRUST_DOMAIN,
        issuer="https://issuer.example",
        clock=clock,
        serials=keys,
        store=KeptJwtKeys(MemoryKeys(), lambda: f"{keys.new_serial() % 2**64:016x}"),
        record=store.record_token,
    )
    issuer = AuthorityIssuer(authority, tokens, keys, Peers(lambda: authority.state, store, clock, ended=ended))
    attester = OneForUser(CHECKOUT, os.getuid())
    with WorkloadServer(issuer, attester, socket, clock=clock, problem=_told, kept=store):
        for _ in sys.stdin:
            authority.step(RootStaged())


def _told(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
