"""`spangate up`: Spanner, authority, checkpoint and gateway, started in order and ended in the reverse one.

Rules: every part is registered for its end before the next one starts; whatever ends this program ends all of them.
A part that dies is started again where it was (supervisor.py); until then nobody is let through by default. Only
Spanner's emulator is not: its data is gone, so its end is told and the rest is torn down.
Not here: rendering (cli/), the parts (authority_part.py, gate_parts.py, spanner_part.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from spangate.adapters.audit_files import AuditPaths, Collector
from spangate.adapters.gateway_roots import FILE as ROOTS_FILE
from spangate.adapters.google_http import GoogleEndpoints
from spangate.adapters.intent_files import load_policy, read_intent
from spangate.adapters.live_schema import LiveSchemas
from spangate.adapters.ports import LOOPBACK
from spangate.adapters.spanner import create_database
from spangate.adapters.state import Running, StateDirectory, runtime_directory
from spangate.adapters.zetasql_engine import precompile
from spangate.app.authority_part import plan_authority
from spangate.app.gate_parts import gateway_certificate, plan_checkpoint, start_gateway
from spangate.app.gateway_trust import read_trust
from spangate.app.google_part import Tokens
from spangate.app.google_store import GOOGLE_STORE, googles_own_store
from spangate.app.real_spanner import RealSpanner, check_with_real
from spangate.app.spanner_part import make_live_databases, start_spanner
from spangate.app.starting import Starting
from spangate.app.stopping import Stop, Stopped, ignore_signals, stoppable
from spangate.app.supervisor import POLL_SECONDS, Part, Relay
from spangate.authority.rotator import EVERY
from spangate.compiler.gateway import LISTENER
from spangate.model.database import DatabasePath
from spangate.model.identity import SpiffeId
from spangate.model.policy import LIVE, Policy

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


def up(
    options: UpOptions,
    *,
    progress: Callable[[str], None],
    started: Callable[[Installed], None],
    notice: Callable[[str], None],
) -> None:
    """Run until a signal comes; then return. Raises SpangateError when a part cannot start or live.

    `progress` gets what is being done, `started` once what runs, `notice` what happens later.
    """
    began = time.monotonic()
    with stoppable() as stop:

        def told(text: str) -> None:
            stop.check()
            progress(text)

        try:
            with ExitStack() as stack:
                try:
                    installed, parts, relays = _start(stack, options, told, notice, began, stop)
                    started(installed)
                    _watch(parts, relays, notice, stop)
                finally:
                    # Nothing may interrupt the tear-down.
                    ignore_signals()
        except Stopped:
            pass


def _start(
    stack: ExitStack,
    options: UpOptions,
    progress: Callable[[str], None],
    notice: Callable[[str], None],
    began: float,
    stop: Stop,
) -> tuple[Installed, list[Part], list[Relay]]:
    progress("checking the intent")
    intent = read_intent(options.intent)
    if options.spanner is not None:
        check_with_real(intent, shares_state=options.shared_state is not None)
    lives = any(database.live for database in intent.databases)
    # Before anything is started, unless a schema has to be asked of what is started.
    policy = None if lives else load_policy(options.intent)
    trust = read_trust(options.intent, options.svid_directory, problem=notice)
    trust_store = options.google_trust_store or (googles_own_store(policy) if options.spanner is not None else "")
    state = StateDirectory(options.intent)
    state.make()
    stack.enter_context(state.locked())
    precompile(progress)
    runtime = stack.enter_context(runtime_directory())
    parts: list[Part] = []

    def watched(part: Part) -> Part:
        parts.append(part)
        stack.callback(part.stop)
        return part

    progress("starting the authority")
    authority_plan = plan_authority(
        stack,
        trust_domain=intent.trust_domain.text,
        issuer=options.issuer,
        oidc_port=options.oidc_port,
        keys=options.keys,
        passphrase_file=options.passphrase_file,
        state=state.path,
        runtime=runtime,
        log=state.fresh_log("authority"),
        rotate_every=options.rotate_every,
        stores=(GOOGLE_STORE,) if trust_store else (),
        intent=options.intent,
        workload=options.workload_socket,
        kubernetes=options.kubernetes,
        reserved=() if trust.svid is None else (trust.svid.svid.identity,),
    )
    # It starts while Spanner does.
    authority = Starting(stack, authority_plan.start)
    watched(Part(authority.child, authority_plan.start))

    if options.spanner is None:
        emulator, spanner, emulator_child = start_spanner(stack, state, progress, stop)
        if emulator_child is not None:
            watched(Part(emulator_child, None))
            if policy is None:
                make_live_databases(intent, spanner, progress)
        policy = _with_databases(policy, options.intent, spanner, progress)
    else:
        spanner = options.spanner.address
        policy = policy or load_policy(options.intent)
    # Whom checkpoint and broker ask for live schemas.
    live_at = spanner if options.spanner is None else ""

    progress("starting the checkpoint")
    audit = AuditPaths.below(state.path)
    checkpoint_plan = plan_checkpoint(
        stack, options.intent, options.shared_state, runtime, audit, state, live_at, broker=policy.google is not None
    )
    checkpoint = Starting(stack, checkpoint_plan.start)
    watched(Part(checkpoint.child, checkpoint_plan.start))
    authority.wait(stop)
    tokens = None
    if policy.google is not None:
        progress("starting the broker")
        standin = options.google is None and options.spanner is None
        tokens = Tokens(stack, options.intent, policy, authority_plan, runtime, state, live_at, options.google, standin)
        for part in tokens.parts:
            watched(part)
    own_id = SpiffeId.gateway(policy.trust_domain)
    roots_file = state.path / ROOTS_FILE
    certificate = gateway_certificate(stack, authority_plan, own_id, trust, roots_file, notice)

    progress("starting the gateway")
    # Registered before the gateway, so that it ends after it and takes in the last lines.
    audit.gateway.touch(mode=0o600)
    collector = Collector(audit, problem=lambda text: notice(f"audit: {text}"))
    collector.start()
    stack.callback(collector.stop)
    gateway = start_gateway(
        stack,
        trust_domain=policy.trust_domain,
        port=options.port,
        workers=options.workers,
        spanner=spanner,
        runtime=runtime,
        audit=audit,
        log=state.fresh_log("gateway"),
        certificate=certificate,
        checkpoint_socket=checkpoint_plan.socket,
        broker_socket=None if tokens is None else tokens.broker_plan.socket,
        spanner_ca=None if options.spanner is None else options.spanner.ca_file,
    )
    watched(Part(gateway.child, gateway.again))
    checkpoint.wait(stop)
    if tokens is not None:
        tokens.wait(stack, stop, notice)
    port = gateway.wait_until_ready(LISTENER)

    running = Running(
        pid=os.getpid(),
        intent=str(options.intent.resolve()),
        trust_domain=policy.trust_domain,
        gateway=f"{LOOPBACK}:{port}",
        gateway_identity=str(trust.identity(own_id)),
        gateway_roots=str(roots_file),
        authority_socket=str(authority_plan.door),
        issuer=authority_plan.issuer,
        workload_socket=str(authority_plan.workload),
        pods=authority_plan.pods,
        spanner=spanner,
        emulator=options.spanner is None,
        project=_project(policy),
        google_trust_store=trust_store,
        sts="" if tokens is None else tokens.sts,
        spanner_ca="" if options.spanner is None else str(options.spanner.ca_file),
    )
    state.announce(running)
    stack.callback(state.withdraw)
    where = "keys end with it" if options.keys is None else f"keys in {options.keys}"
    installed = Installed(
        policy,
        running,
        where,
        str(emulator) if options.spanner is None else "over TLS, with tokens from Google",
        state.path,
        {part.name: part.child.pid for part in parts},
        time.monotonic() - began,
    )
    logs = [authority_plan.log, checkpoint_plan.log, *([] if tokens is None else [tokens.broker_plan.log])]
    return installed, parts, [Relay(log) for log in logs]


def _with_databases(policy: Policy | None, intent: Path, spanner: str, progress: Callable[[str], None]) -> Policy:
    """The policy, with the schemas of what is there; what has its schema in a file is made."""
    if policy is None:
        progress("asking for live schemas")
        policy = load_policy(intent, LiveSchemas(spanner).schema)
    for database in policy.databases.values():
        if database.schema_file != LIVE:
            progress(f"creating database {database.path.instance}/{database.path.database}")
            create_database(spanner, database.path, database.schema.statements, database.schema.dialect)
    return policy


def _project(policy: Policy) -> str:
    """The project of all databases, or nothing if there are several."""
    projects = {database.path.project for database in policy.databases.values()}
    return projects.pop() if len(projects) == 1 else ""


def _watch(parts: list[Part], relays: list[Relay], notice: Callable[[str], None], stop: Stop) -> None:
    while True:
        stop.check()
        for relay in relays:
            for line in relay.lines():
                notice(line)
        for part in parts:
            part.look(notice)
        time.sleep(POLL_SECONDS)
