"""The authority's doors for workloads: the Workload API on a Unix socket, and TLS for pods.

Rules: both give an identity to whoever proves it, and to nobody by name. The operator's door is another one
(authority_parts.py).
Not here: what they answer (adapters/workload_door.py, adapters/attest_door.py).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from spangate.adapters.attest_door import AttestDoor
from spangate.adapters.authority_store import AuthorityFile
from spangate.adapters.clock import SystemClock
from spangate.adapters.holdings import Holding
from spangate.adapters.keys import SystemKeys
from spangate.adapters.kubernetes_settings import read_settings
from spangate.adapters.peer_reports import Answer, Reporter
from spangate.adapters.periodic import Periodic
from spangate.adapters.pod_reports import PodReports
from spangate.adapters.renewer import Renewer
from spangate.adapters.seldom import Seldom
from spangate.adapters.selector_watch import LOOK, SelectorWatch
from spangate.adapters.svid_client import sign_here
from spangate.adapters.tls_server import TlsSecrets, TlsServer
from spangate.adapters.unix_peers import SystemAccounts
from spangate.adapters.workload_issuers import AuthorityIssuer
from spangate.adapters.workload_server import BySelectors, WorkloadServer, raise_descriptors
from spangate.authority.ca import Authority
from spangate.authority.federation import Roots
from spangate.authority.jwt_svid import JwtAuthority
from spangate.authority.ledger import Takings
from spangate.authority.peers import POD_DOOR_INSTANCE, Peers
from spangate.authority.pod_shares import PodShares
from spangate.authority.token_addresses import TokenAddresses
from spangate.model.identity import SpiffeId

# In the runtime directory, unless the operator names a path.
SOCKET = "workload.sock"


def open_workload_api(
    stack: ExitStack,
    authority: Authority,
    tokens: JwtAuthority,
    intent: Path,
    listener: socket.socket,
    say: Callable[[str], None],
    *,
    peers: Peers,
    kept: Takings,
    roots: Roots,
) -> None:
    """For processes that the intent knows by `unix`, as it says now. `peers` is told what they have been given, and
    `kept` which they are; `roots` are those that they are given.
    """
    raise_descriptors()
    accounts = SystemAccounts()
    watch = SelectorWatch(intent, lambda selectors: server.attester_changed(BySelectors(selectors, accounts)))
    server = WorkloadServer(
        AuthorityIssuer(authority, tokens, SystemKeys(), peers, roots),
        BySelectors(watch.known, accounts),
        Path(listener.getsockname()),
        clock=SystemClock(),
        problem=lambda text: say(f"Workload API: {text}"),
        listener=listener,
        kept=kept,
    )
    stack.enter_context(server)
    looks = Periodic(watch.look, LOOK, name="selectors", problem=lambda text: say(f"Workload API: {text}"))
    looks.start()
    stack.callback(looks.stop)


def open_pod_door(
    stack: ExitStack,
    authority: Authority,
    tokens: JwtAuthority,
    store: AuthorityFile,
    settings: Path,
    listener: socket.socket,
    say: Callable[[str], None],
    *,
    peers: Peers,
    roots: Roots,
) -> None:
    """For pods of the cluster that `settings` describes. Raises SpangateError."""
    read = read_settings(settings)
    clock, keys = SystemClock(), SystemKeys()
    secrets = TlsSecrets()
    own = SpiffeId.authority(authority.trust_domain)
    # A process before this one has ended with its key; a rotation need not wait for that.
    peers.gone(POD_DOOR_INSTANCE)
    renewer = Renewer(
        lambda: sign_here(authority, keys, own, holder=POD_DOOR_INSTANCE), secrets, clock=clock, problem=say
    )
    renewer.start()
    stack.callback(renewer.stop)

    def tell(held: Holding) -> Answer:
        wanted = peers.seen(POD_DOOR_INSTANCE, str(own), kind="door", trusts=held.trusts, uses=held.uses)
        return Answer(wanted.renew, authority.bundle_pem() if wanted.bundle else None, wanted.again.total_seconds())

    # As every peer, it gets another certificate when another root signs.
    reporter = Reporter(secrets, secrets, tell, renewer.renew_now, problem=say)
    reporter.start()
    stack.callback(reporter.stop)
    seldom = Seldom(say)
    addresses = TokenAddresses(store, lambda text: seldom.say(f"door for pods: {text}")) if read.bound else None
    door = AttestDoor(
        authority,
        tokens,
        read.cluster,
        read.keys,
        clock=clock,
        recorder=store,
        addresses=addresses,
        roots=roots,
        reports=PodReports(authority, peers, PodShares(clock.now, threading.Lock())),
    )
    stack.enter_context(TlsServer(door.app(), listener, secrets, name="door for pods"))
