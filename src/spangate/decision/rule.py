"""Policy x identity x accesses -> Decision.

The rule:
  1. Default is deny. An identity or database that the policy does not name is denied before anything else is said.
  2. An access is covered if every column of it stands in some grant of the same identity, database, operation and
     table; several grants add up. An access without columns is covered if there is any such grant.
  3. A request is allowed if all its accesses are covered. One without accesses (`SELECT 1`) touches no table and needs
     only that the identity holds some grant in the database.
There is no other rule: no order, no precedence, no exceptions, so adding a grant never takes anything away.

Not here: which accesses a request makes (sql/, rpc/), sentences for people (explain.py).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from spangate.decision.advice import advice_for, advice_for_newcomer
from spangate.model.access import Access, merged
from spangate.model.database import DatabasePath
from spangate.model.decision import Decision, Reason
from spangate.model.identity import SpiffeId
from spangate.model.policy import Grant, Policy

# 80 bits, five for each character: short enough to read out, and two of a billion decisions share one with a chance of
# one in two million.
DECISION_ID_CHARACTERS = 16
# An analyser's message quotes the statement, which may be a million characters long.
DETAIL_CHARACTERS_MAX = 1000


def decide(
    policy: Policy,
    spiffe_id: SpiffeId,
    rpc: str,
    database_path: DatabasePath,
    accesses: Sequence[Access],
    decision_id: str,
) -> Decision:
    """Allow or deny these accesses. Names in `accesses` are spelled as in the schema; their order does not matter."""
    refused = standing(policy, spiffe_id, rpc, database_path, decision_id)
    if refused is not None:
        return refused
    name = policy.name_of[spiffe_id]
    alias = policy.database_at[database_path].alias
    wanted = merged(list(accesses))
    missing: list[Access] = []
    grants: list[Grant] = []
    for access in wanted:
        candidates = policy.grants_on.get((name, alias, access.operation, access.table), ())
        lacking = _lacking(access, candidates)
        if lacking is not None:
            missing.append(lacking)
        else:
            grants += _resting_on(access, candidates)
    allowed = not missing
    return Decision(
        id=decision_id,
        allowed=allowed,
        reason=Reason.GRANTED if allowed else Reason.MISSING_GRANT,
        identity=str(spiffe_id),
        name=name,
        rpc=rpc,
        database=alias,
        accesses=wanted,
        missing=tuple(missing),
        grants=tuple(grants) if allowed else (),
        policy=policy.version,
        detail="" if allowed else advice_for(policy, name, alias, missing),
    )


def standing(
    policy: Policy, spiffe_id: SpiffeId, rpc: str, database_path: DatabasePath, decision_id: str
) -> Decision | None:
    """The denial of whoever has no business in this database, or None.

    Asked before a statement is analysed, so that an unknown identity learns nothing about a schema.
    """
    name = policy.name_of.get(spiffe_id)
    database = policy.database_at.get(database_path)
    if name is None:
        reason, detail = Reason.UNKNOWN_IDENTITY, ""
    elif database is None:
        reason, detail = Reason.UNKNOWN_DATABASE, f"no database of the policy has the path {database_path}"
    elif (name, database.alias) not in policy.grants_of:
        reason, detail = Reason.MISSING_GRANT, advice_for_newcomer(name, database.alias)
    else:
        return None
    return refuse(policy, spiffe_id, rpc, database_path, reason, detail, decision_id)


def refuse(
    policy: Policy,
    spiffe_id: SpiffeId,
    rpc: str,
    database_path: DatabasePath | None,
    reason: Reason,
    detail: str,
    decision_id: str,
) -> Decision:
    """A denial for another reason than an uncovered access; `detail` is shortened to DETAIL_CHARACTERS_MAX."""
    if reason is Reason.GRANTED:
        raise ValueError("a refusal needs a reason")
    database = policy.database_at.get(database_path) if database_path is not None else None
    return Decision(
        id=decision_id,
        allowed=False,
        reason=reason,
        identity=str(spiffe_id),
        name=policy.name_of.get(spiffe_id),
        rpc=rpc,
        database=database.alias if database is not None else None,
        accesses=(),
        missing=(),
        grants=(),
        policy=policy.version,
        detail=detail if len(detail) <= DETAIL_CHARACTERS_MAX else detail[: DETAIL_CHARACTERS_MAX - 3] + "...",
    )


def decision_id(policy_version: str, spiffe_id: SpiffeId | str, shape: bytes) -> str:
    """16 characters of [a-z2-7] for this identity and request shape under this policy: the same on every replica."""
    digest = hashlib.sha256(b"spangate decision 1")
    for part in (policy_version.encode(), str(spiffe_id).encode(), shape):
        # With its length before it, no part can pass for the end of the one before.
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return base64.b32encode(digest.digest()).decode().lower()[:DECISION_ID_CHARACTERS]


def _lacking(access: Access, candidates: Sequence[Grant]) -> Access | None:
    """The part of `access` that no candidate covers, or None."""
    if not candidates:
        return access
    covered = frozenset[str]().union(*(grant.columns for grant in candidates))
    uncovered = tuple(column for column in access.columns if column not in covered)
    return Access(access.operation, access.table, uncovered) if uncovered else None


def _resting_on(access: Access, candidates: Sequence[Grant]) -> list[Grant]:
    """Grants that together cover `access` and none of which could be left out, in the order of the policy.

    The widest first, as an author would look for them; ties fall to the order of the policy.
    """
    needed = frozenset(access.columns)
    if not needed:
        return [candidates[0]]
    chosen: list[Grant] = []
    open_columns = needed
    for grant in sorted(candidates, key=lambda grant: -len(grant.columns & needed)):
        if grant.columns & open_columns:
            chosen.append(grant)
            open_columns -= grant.columns
    for grant in tuple(chosen):
        others = [other for other in chosen if other is not grant]
        if others and needed <= frozenset[str]().union(*(other.columns for other in others)):
            chosen = others
    return [grant for grant in candidates if any(grant is one for one in chosen)]
