"""`spangate explain`: why a request was allowed or denied, or would be.

Not here: the sentences (decision/explain.py), rendering (cli/).
"""

from __future__ import annotations

import json
from pathlib import Path

from spangate.adapters.analysers import AnalyserPool
from spangate.adapters.audit_files import AuditPaths
from spangate.adapters.clock import SystemClock
from spangate.adapters.state import StateDirectory
from spangate.app.identities import identity_named
from spangate.app.policies import policy_of
from spangate.checkpoint.service import judge
from spangate.decision import BadDecisionRecord, decision_from_json
from spangate.errors import YourFault
from spangate.model.decision import Decision
from spangate.model.nearest import nearest
from spangate.model.policy import Policy, PolicyDatabase
from spangate.rpc.shape import netstring

# A decision id has 16 characters; people may give the first few, as with commits.
PREFIX_MIN = 4


def explain_decision(intent: Path, decision_id: str) -> Decision:
    """The recorded decision with that id, or the only one whose id begins with it. Raises YourFault."""
    path = AuditPaths.below(StateDirectory(intent).path).decisions
    if len(decision_id) < PREFIX_MIN:
        raise YourFault(
            f"`{decision_id}` is too short for a decision id", help=f"give at least {PREFIX_MIN} characters"
        )
    found: dict[str, Decision] = {}
    try:
        with path.open("rb") as file:
            for line in file:
                # A cheap look first: the file may be large.
                if b'"id":"' + decision_id.encode() in line and (decision := _decision(line)) is not None:
                    found[decision.id] = decision
    except FileNotFoundError as error:
        raise YourFault(
            f"no decisions are recorded in `{path.parent}`", help="name the folder's intent file with --intent"
        ) from error
    matching = [decision for number, decision in found.items() if number.startswith(decision_id)]
    if decision_id in found:
        return found[decision_id]
    if not matching:
        raise YourFault(
            f"there is no decision `{decision_id}`",
            help="`spangate log` shows the ids of this folder; requests that were refused unread have none",
        )
    if len(matching) > 1:
        raise YourFault(f"`{decision_id}` begins {len(matching)} decision ids", help="give more of it")
    return matching[0]


def explain_statement(intent: Path, identity: str, sql: str, database: str | None) -> Decision:
    """What the policy of the intent file says about a statement. Raises SpangateError.

    Nothing needs to run, unless a schema is live.
    """
    policy = policy_of(intent)
    spiffe_id = identity_named(identity, intent, policy.trust_domain)
    path = _database(policy, database).path
    shape = b"".join(netstring(part.encode()) for part in ("ExecuteSql", str(path), "", sql, ""))
    pool = AnalyserPool(workers=1)
    try:
        return judge(policy, pool, str(spiffe_id), shape, SystemClock().now())
    finally:
        pool.close()


def _database(policy: Policy, alias: str | None) -> PolicyDatabase:
    if alias is None:
        if len(policy.databases) != 1:
            names = ", ".join(sorted(policy.databases))
            raise YourFault("the intent has several databases", help=f"choose one with --database: {names}")
        return next(iter(policy.databases.values()))
    if alias not in policy.databases:
        near = nearest(alias, policy.databases)
        raise YourFault(f"the intent has no database `{alias}`", help=f"did you mean `{near}`?" if near else None)
    return policy.databases[alias]


def _decision(line: bytes) -> Decision | None:
    try:
        return decision_from_json(json.loads(line))
    except (ValueError, BadDecisionRecord):
        return None
