"""The steps of `spangate up`: what each part is started with.

Rules: what can be wrong without anything having been started is found by `prepare`. Each step registers the end of what
it starts before the next one comes, and has it watched.
Not here: the order of the steps (up.py), the parts (authority_part.py, gate_parts.py, google_part.py, spanner_part.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from spangate.adapters.audit_files import AuditPaths, Collector
from spangate.adapters.envoy import EnvoyChild
from spangate.adapters.gateway_roots import FILE as ROOTS_FILE
from spangate.adapters.intent_files import load_policy, read_intent
from spangate.adapters.live_schema import LiveSchemas
from spangate.adapters.ports import LOOPBACK
from spangate.adapters.spanner import create_database
from spangate.adapters.state import Running, StateDirectory, runtime_directory
from spangate.adapters.zetasql_engine import precompile
from spangate.app.authority_part import AuthorityPlan, plan_authority
from spangate.app.door_part import DoorPlan
from spangate.app.gate_parts import gateway_certificate, plan_checkpoint, start_gateway
from spangate.app.gateway_trust import GatewayTrust, read_trust
from spangate.app.google_part import Tokens
from spangate.app.google_store import GOOGLE_STORE, googles_own_store
from spangate.app.real_spanner import check_with_real
from spangate.app.spanner_part import make_live_databases, start_spanner
from spangate.app.starting import Starting
from spangate.app.stopping import Stop
from spangate.app.supervisor import Part
from spangate.app.up_options import UpOptions
from spangate.intent import Intent
from spangate.model.identity import SpiffeId
from spangate.model.policy import LIVE, Policy


@dataclass(frozen=True, slots=True)
class Site:
    """What every step of the start is given. Whatever it starts is ended with `stack`."""

    stack: ExitStack
    options: UpOptions
    progress: Callable[[str], None]
    notice: Callable[[str], None]
    stop: Stop
    # What was read before anything was started.
    intent: Intent
    # None while a schema has to be asked of what is started.
    known: Policy | None
    trust: GatewayTrust
    trust_store: str
    state: StateDirectory
    runtime: Path
    audit: AuditPaths
    # Watched from now on, in the order of their start.
    parts: list[Part] = field(default_factory=list)

    def watch(self, part: Part) -> None:
        """Started again when it dies, and ended in the end."""
        self.parts.append(part)
        self.stack.callback(part.stop)


@dataclass(frozen=True, slots=True)
class Spanner:
    """Where Spanner is, what people are told of it, and the policy, which may have needed it."""

    address: str
    told: str
    # Whom checkpoint and broker ask for live schemas; nobody, if it is empty.
    live_at: str
    policy: Policy


def prepare(
    stack: ExitStack,
    options: UpOptions,
    progress: Callable[[str], None],
    notice: Callable[[str], None],
    stop: Stop,
) -> Site:
    """All that can be wrong without anything having been started."""
    progress("checking the intent")
    intent = read_intent(options.intent)
    if options.spanner is not None:
        check_with_real(intent, shares_state=options.shared_state is not None)
    lives = any(database.live for database in intent.databases)
    known = None if lives else load_policy(options.intent)
    trust = read_trust(options.intent, options.svid_directory, problem=notice)
    trust_store = options.google_trust_store or (googles_own_store(known) if options.spanner is not None else "")
    state = StateDirectory(options.intent)
    state.make()
    stack.enter_context(state.locked())
    precompile(progress)
    runtime = stack.enter_context(runtime_directory())
    return Site(
        *(stack, options, progress, notice, stop),
        intent=intent,
        known=known,
        trust=trust,
        trust_store=trust_store,
        state=state,
        runtime=runtime,
        audit=AuditPaths.below(state.path),
    )


def start_the_authority(site: Site) -> tuple[AuthorityPlan, Starting]:
    site.progress("starting the authority")
    options, svid = site.options, site.trust.svid
    plan = plan_authority(
        site.stack,
        trust_domain=site.intent.trust_domain.text,
        issuer=options.issuer,
        oidc_port=options.oidc_port,
        keys=options.keys,
        passphrase_file=options.passphrase_file,
        state=site.state.path,
        runtime=site.runtime,
        log=site.state.fresh_log("authority"),
        rotate_every=options.rotate_every,
        stores=(GOOGLE_STORE,) if site.trust_store else (),
        intent=options.intent,
        workload=options.workload_socket,
        kubernetes=options.kubernetes,
        reserved=() if svid is None else (svid.svid.identity,),
    )
    starting = Starting(site.stack, plan.start)
    site.watch(Part(starting.child, plan.start))
    return plan, starting


def start_the_database(site: Site) -> Spanner:
    """The emulator with its databases, or the Spanner that is there."""
    options = site.options
    if options.spanner is not None:
        policy = site.known or load_policy(options.intent)
        return Spanner(options.spanner.address, "over TLS, with tokens from Google", "", policy)
    emulator, address, child = start_spanner(site.stack, site.state, site.progress, site.stop)
    if child is not None:
        site.watch(Part(child, None))
        if site.known is None:
            make_live_databases(site.intent, address, site.progress)
    policy = _with_databases(site.known, options.intent, address, site.progress)
    return Spanner(address, str(emulator), address, policy)


def start_the_checkpoint(site: Site, spanner: Spanner) -> tuple[DoorPlan, Starting]:
    site.progress("starting the checkpoint")
    plan = plan_checkpoint(
        *(site.stack, site.options.intent, site.options.shared_state, site.runtime, site.audit, site.state),
        spanner.live_at,
        broker=spanner.policy.google is not None,
    )
    starting = Starting(site.stack, plan.start)
    site.watch(Part(starting.child, plan.start))
    return plan, starting


def start_the_broker(site: Site, spanner: Spanner, authority: AuthorityPlan) -> Tokens | None:
    """The broker, where the intent wants one, and beside an emulator the stand-in for Google."""
    if spanner.policy.google is None:
        return None
    site.progress("starting the broker")
    options = site.options
    standin = options.google is None and options.spanner is None
    tokens = Tokens(
        *(site.stack, options.intent, spanner.policy, authority, site.runtime, site.state, spanner.live_at),
        options.google,
        standin,
    )
    for part in tokens.parts:
        site.watch(part)
    return tokens


def start_the_gateway(
    site: Site, spanner: Spanner, authority: AuthorityPlan, checkpoint: DoorPlan, tokens: Tokens | None
) -> EnvoyChild:
    """The gateway behind its certificate door, and who takes in its log."""
    own_id = SpiffeId.gateway(spanner.policy.trust_domain)
    certificate = gateway_certificate(
        site.stack, authority, own_id, site.trust, site.state.path / ROOTS_FILE, site.notice
    )
    site.progress("starting the gateway")
    # Registered before the gateway, so that it ends after it and takes in the last lines.
    site.audit.gateway.touch(mode=0o600)
    collector = Collector(site.audit, problem=lambda text: site.notice(f"audit: {text}"))
    collector.start()
    site.stack.callback(collector.stop)
    options = site.options
    gateway = start_gateway(
        site.stack,
        trust_domain=spanner.policy.trust_domain,
        port=options.port,
        workers=options.workers,
        spanner=spanner.address,
        runtime=site.runtime,
        audit=site.audit,
        log=site.state.fresh_log("gateway"),
        certificate=certificate,
        checkpoint_socket=checkpoint.socket,
        broker_socket=None if tokens is None else tokens.broker_plan.socket,
        spanner_ca=None if options.spanner is None else options.spanner.ca_file,
    )
    site.watch(Part(gateway.child, gateway.again))
    return gateway


def running_of(site: Site, spanner: Spanner, authority: AuthorityPlan, tokens: Tokens | None, port: int) -> Running:
    """What others on this machine need to find it all."""
    real = site.options.spanner
    return Running(
        pid=os.getpid(),
        intent=str(site.options.intent.resolve()),
        trust_domain=spanner.policy.trust_domain,
        gateway=f"{LOOPBACK}:{port}",
        gateway_identity=str(site.trust.identity(SpiffeId.gateway(spanner.policy.trust_domain))),
        gateway_roots=str(site.state.path / ROOTS_FILE),
        authority_socket=str(authority.door),
        issuer=authority.issuer,
        workload_socket=str(authority.workload),
        pods=authority.pods,
        spanner=spanner.address,
        emulator=real is None,
        project=_project(spanner.policy),
        google_trust_store=site.trust_store,
        sts="" if tokens is None else tokens.sts,
        spanner_ca="" if real is None else str(real.ca_file),
    )


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
