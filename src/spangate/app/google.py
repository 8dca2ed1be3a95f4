"""How an identity is known to Google, by the intent file; and its tokens, from the broker that runs.

Not here: the broker (broker/), its door (adapters/broker_door.py).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spangate.adapters.broker_client import BrokerClient
from spangate.adapters.clock import SystemClock
from spangate.adapters.intent_files import read_intent
from spangate.adapters.state import Running, StateDirectory
from spangate.errors import YourFault
from spangate.model.google import GoogleFederation
from spangate.model.identity import SpiffeId

# Beside the authority's socket.
BROKER_SOCKET = "broker.sock"


def broker_socket(running: Running) -> Path:
    """Where the broker of a running `up` listens, if there is one."""
    return Path(running.authority_socket).with_name(BROKER_SOCKET)


def live_tokens(intent: Path) -> BrokerClient:
    """Tokens from the broker of the `up` that runs for `intent` whenever one is asked for."""
    return BrokerClient(lambda: broker_socket(StateDirectory(intent).running()), SystemClock())


def federation_of(intent: Path, identity: SpiffeId) -> GoogleFederation:
    """The provider, with the impersonation that counts for `identity`. Raises YourFault."""
    tree = read_intent(intent)
    if tree.google is None:
        raise YourFault(
            "the intent has no `google`: nobody gets a token",
            help="google: {project_number: ..., pool: ..., provider: ...}, see docs/broker.md",
        )
    for entry in tree.identities:
        if SpiffeId.workload(tree.trust_domain.text, entry.namespace.text, entry.service_account.text) == identity:
            if entry.impersonate is None:
                return tree.google.federation
            return replace(tree.google.federation, impersonation=entry.impersonate.impersonation)
    raise YourFault(f"the intent does not name `{identity}`: it gets no token", help="add it under `identities`")
