"""What `spangate up` starts where the intent has a `google` block: the broker, and a stand-in for Google where there is
an emulator in place of Spanner.

Rules: each comes back where it was: the broker's socket and the stand-in's ports are opened here and inherited, so that
no other process is asked in their place.
What the stand-in knows follows the intent and the authority's roots, as an operator would have set it up at Google.
Not here: the processes (broker_process.py, standin_process.py), the order of the start (up.py).
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from spangate.adapters.google_http import GoogleEndpoints, beside_emulator
from spangate.adapters.handover import ReadyPipe
from spangate.adapters.intent_files import IntentWatcher
from spangate.adapters.keys import SystemKeys
from spangate.adapters.live_schema import LiveSchemas
from spangate.adapters.oidc_door import LOOPBACK, loopback_listener
from spangate.adapters.periodic import Periodic
from spangate.adapters.process import Child
from spangate.adapters.state import StateDirectory
from spangate.adapters.svid_client import SvidClient
from spangate.app.authority_part import AuthorityPlan
from spangate.app.door_part import DoorPlan
from spangate.app.google import BROKER_SOCKET
from spangate.app.starting import Starting
from spangate.app.stopping import Stop
from spangate.app.supervisor import Part
from spangate.errors import TryAgain
from spangate.model.google import GoogleFederation, SubjectTokenType
from spangate.model.policy import Policy
from spangate.standin.derive import standin_config_for

_STANDIN_CONFIG = "standin.json"
_STANDIN_ROOT = "standin-root.pem"
# How late the stand-in knows of a change of the intent or of the authority's roots.
STANDIN_LOOK = timedelta(seconds=0.5)
# Connections that wait while the stand-in is away: more than a broker has.
_WAITING_MAX = 128


def plan_broker(
    stack: ExitStack,
    intent: Path,
    runtime: Path,
    authority: AuthorityPlan,
    endpoints: GoogleEndpoints,
    ca_file: Path | None,
    live_at: str,
    log: Path,
) -> DoorPlan:
    """`live_at`: the Spanner that is asked for live schemas, or nothing. `ca_file`: who vouches for the endpoints."""
    arguments = ["--intent", str(intent.resolve()), "--authority", str(authority.door), "--spanner", live_at]
    arguments += ["--sts", endpoints.sts, "--sts-mtls", endpoints.sts_mtls]
    arguments += ["--iam-credentials", endpoints.iam_credentials]
    if ca_file is not None:
        arguments += ["--google-ca", str(ca_file)]
    return DoorPlan.open(stack, "broker", runtime / BROKER_SOCKET, arguments, log)


class StandIn:
    """The stand-in's files and ports, and its configuration kept up to date."""

    def __init__(self, stack: ExitStack, policy: Policy, authority: AuthorityPlan, runtime: Path, log: Path) -> None:
        """Opens its ports and writes its configuration. The authority serves already."""
        self._authority = authority
        self._config = runtime / _STANDIN_CONFIG
        self._root = runtime / _STANDIN_ROOT
        self._log = log
        self._plain, self._tls = _listening(stack), _listening(stack)
        self._policy = policy
        self._written = ""
        self._write()

    @property
    def endpoints(self) -> GoogleEndpoints:
        """Where it answers."""
        plain, tls = (f"{LOOPBACK}:{listener.getsockname()[1]}" for listener in (self._plain, self._tls))
        return GoogleEndpoints(f"http://{plain}", f"https://{tls}", f"http://{plain}")

    @property
    def ca_file(self) -> Path:
        """What clients of its TLS port trust; there once it serves."""
        return self._root

    def start(self, ready: ReadyPipe | None = None) -> Child:
        """A process for it; it says so on `ready` when it serves on both ports."""
        descriptors = [self._plain.fileno(), self._tls.fileno()]
        argv = [sys.executable, "-m", "spangate.app.standin_process", "--config", str(self._config)]
        argv += ["--socket-fd", str(descriptors[0]), "--tls-socket-fd", str(descriptors[1])]
        argv += ["--tls-root", str(self._root)]
        if ready is not None:
            argv += ["--ready-fd", str(ready.writing)]
            descriptors.append(ready.writing)
        return Child("stand-in for Google", argv, self._log, descriptors=descriptors, waiting=[signal.SIGHUP])

    def replace(self, policy: Policy) -> None:
        """Another policy is in force."""
        self._policy = policy

    def keep(self, stack: ExitStack, child: Callable[[], Child], problem: Callable[[str], None]) -> None:
        """From now on, until `stack` ends, the process of that moment hears of what changes."""

        def look() -> None:
            # An authority that is away just now has changed nothing, and is told of elsewhere.
            with contextlib.suppress(TryAgain):
                if self._write():
                    # One that is away reads the file when it starts; one that starts takes the signal afterwards.
                    child().send(signal.SIGHUP)

        tender = Periodic(look, STANDIN_LOOK, name="stand-in", problem=lambda text: problem(f"stand-in: {text}"))
        tender.start()
        stack.callback(tender.stop)

    def _write(self) -> bool:
        """Whether anything has changed."""
        policy = self._policy
        if policy.google is None:
            return False
        text = json.dumps(standin_config(policy, policy.google, self._authority))
        if text == self._written:
            return False
        beside = self._config.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(self._config)
        self._written = text
        return True


class Tokens:
    """Broker and, with `standin`, the stand-in, under way from the moment this is made."""

    def __init__(
        self,
        stack: ExitStack,
        intent: Path,
        policy: Policy,
        authority: AuthorityPlan,
        runtime: Path,
        state: StateDirectory,
        live_at: str,
        google: GoogleEndpoints | None,
        standin: bool,
    ) -> None:
        """`google`: where its services are, if not where they are for everybody. The authority serves already."""
        self.parts: list[Part] = []
        self._intent = intent
        self._live_at = live_at
        self._standin: StandIn | None = None
        endpoints, ca_file = google or GoogleEndpoints(), None
        if standin:
            self._standin = StandIn(stack, policy, authority, runtime, state.fresh_log("standin"))
            endpoints, ca_file = self._standin.endpoints, self._standin.ca_file
            self._standin_starting = Starting(stack, self._standin.start)
            self._standin_part = Part(self._standin_starting.child, self._standin.start)
            self.parts.append(self._standin_part)
        elif live_at:
            beside_emulator(endpoints)
        # Where the broker exchanges tokens.
        self.sts = endpoints.sts
        log = state.fresh_log("broker")
        self.broker_plan = plan_broker(stack, intent, runtime, authority, endpoints, ca_file, live_at, log)
        self._broker = Starting(stack, self.broker_plan.start)
        self.parts.append(Part(self._broker.child, self.broker_plan.start))

    def wait(self, stack: ExitStack, stop: Stop, problem: Callable[[str], None]) -> None:
        """Returns once both serve; the stand-in follows the intent from then on, until `stack` ends."""
        self._broker.wait(stop)
        standin = self._standin
        if standin is None:
            return
        self._standin_starting.wait(stop)
        live = LiveSchemas(self._live_at) if self._live_at else None
        watcher = IntentWatcher(self._intent, changed=standin.replace, broken=lambda _: None, live=live)
        watcher.start()
        stack.callback(watcher.stop)
        standin.keep(stack, lambda: self._standin_part.child, problem)


def standin_config(policy: Policy, google: GoogleFederation, authority: AuthorityPlan) -> Mapping[str, Any]:
    """What an operator would have set up at Google for `policy`."""
    impersonations = {policy.identities[name]: one for name, one in policy.impersonations.items()}
    if google.subject_token is SubjectTokenType.MTLS:
        anchors = _certificates(SvidClient(authority.door, SystemKeys()).bundle())
        return standin_config_for(google, policy.trust_domain, anchors_pem=anchors, impersonations=impersonations)
    return standin_config_for(
        google,
        policy.trust_domain,
        issuer=authority.issuer,
        keys_at=authority.public_keys,
        impersonations=impersonations,
    )


def _certificates(bundle_pem: str) -> list[str]:
    end = "-----END CERTIFICATE-----\n"
    return [part + end for part in bundle_pem.split(end)[:-1]]


def _listening(stack: ExitStack) -> socket.socket:
    """A listening socket on a free port of loopback, until `stack` ends."""
    listener = loopback_listener(0)
    stack.callback(listener.close)
    listener.listen(_WAITING_MAX)
    return listener
