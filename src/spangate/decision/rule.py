"""Policy x identity x accesses x moment -> Decision.

The rule:
  1. Default is deny. An identity or database that the policy does not name is denied before anything else is said.
  2. Only what stands at the moment counts: a grant or exception holds before its `until`, not at it.
  3. An exception always wins. An access is denied by an exception of the same identity, database, operation and table
     that is whole (it names no columns, or the table as such), or that shares a column with the access, or that names
     any column where the access is to every column.
  4. An access is covered if each of its columns stands in some grant of the same identity, database, operation and
     table; several grants add up. If it is to every column, whichever there are by then (`SELECT *`), some of these
     grants is so too. An access without columns is covered by any such grant. Partitioned DML begins before its table
     is known: that access is covered by a grant of partitioned DML on any table.
  5. A request is allowed if no access is denied by an exception and all are covered. One without accesses (`SELECT 1`)
     touches no table and needs only that the identity holds some grant in the database.
There is no other rule: no order, no precedence; adding a grant never takes anything away, adding an exception never
gives anything.

Not here: which accesses a request makes (sql/, rpc/), sentences for people (explain.py), the time (checkpoint/).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime

from spangate.decision.advice import advice_for, advice_for_newcomer
from spangate.model.access import Access, Operation, merged
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
    now: datetime,
) -> Decision:
    """Allow or deny these accesses at `now`, an aware moment.

    Names in `accesses` are spelled as in the schema; their order does not matter. `missing` of the decision are the
    parts that stand against it: that an exception denies, or else that no grant covers.
    """
    refused = standing(policy, spiffe_id, rpc, database_path, decision_id, now)
    if refused is not None:
        return refused
    name = policy.name_of[spiffe_id]
    alias = policy.database_at[database_path].alias
    wanted = merged(list(accesses))
    denied: list[Access] = []
    missing: list[Access] = []
    grants: list[Grant] = []
    exceptions: list[Grant] = []
    # What begins partitioned DML comes last: it rests on what the other accesses rest on, if that will do.
    for access in sorted(wanted, key=_begins_partitioned_dml):
        key = (name, alias, access.operation, access.table)
        against = [grant for grant in policy.exceptions_on.get(key, ()) if _denies(grant, access) and grant.stands(now)]
        if against:
            denied.append(_denied_part(access, against))
            exceptions += against
            continue
        candidates = _standing(policy.grants_on.get(key, ()), now, access)
        lacking = _lacking(access, candidates)
        if lacking is not None:
            missing.append(lacking)
        elif not (_begins_partitioned_dml(access) and any(grant.operation is access.operation for grant in grants)):
            grants += _resting_on(access, candidates)
    if denied:
        reason, against_it, named, detail = Reason.DENIED, denied, exceptions, ""
    elif missing:
        reason, against_it, named = Reason.MISSING_GRANT, missing, []
        detail = advice_for(policy, name, alias, missing, now)
    else:
        reason, against_it, named, detail = Reason.GRANTED, [], grants, ""
    return Decision(
        id=decision_id,
        allowed=reason is Reason.GRANTED,
        reason=reason,
        identity=str(spiffe_id),
        name=name,
        rpc=rpc,
        database=alias,
        accesses=wanted,
        missing=tuple(sorted(against_it)),
        grants=tuple(named),
        policy=policy.version,
        detail=detail,
    )


def standing(
    policy: Policy, spiffe_id: SpiffeId, rpc: str, database_path: DatabasePath, decision_id: str, now: datetime
) -> Decision | None:
    """The denial of whoever has no business in this database at `now`, or None.

    Asked before a statement is analysed, so that an unknown identity learns nothing about a schema.
    """
    if now.tzinfo is None:
        raise ValueError("a moment without its zone")
    name = policy.name_of.get(spiffe_id)
    database = policy.database_at.get(database_path)
    if name is None:
        reason, detail = Reason.UNKNOWN_IDENTITY, ""
    elif database is None:
        reason, detail = Reason.UNKNOWN_DATABASE, f"no database of the policy has the path {database_path}"
    else:
        key = (name, database.alias)
        end = policy.standing_until.get(key, now)
        if end is None or now < end:
            return None
        reason, detail = Reason.MISSING_GRANT, advice_for_newcomer(policy, name, database.alias)
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


def decision_id(epoch: str, spiffe_id: SpiffeId | str, shape: bytes) -> str:
    """16 characters of [a-z2-7] for this identity and request shape in this epoch (Policy.epoch): the same on every
    replica."""
    digest = hashlib.sha256(b"spangate decision 1")
    for part in (epoch.encode(), str(spiffe_id).encode(), shape):
        # With its length before it, no part can pass for the end of the one before.
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return base64.b32encode(digest.digest()).decode().lower()[:DECISION_ID_CHARACTERS]


def _begins_partitioned_dml(access: Access) -> bool:
    return access.operation is Operation.PARTITIONED_DML and not access.table


def _denies(exception: Grant, access: Access) -> bool:
    """Whether `exception`, on the same operation and table, is against `access`."""
    if exception.every or not exception.columns:
        return True
    return access.every or not exception.columns.isdisjoint(access.columns)


def _denied_part(access: Access, exceptions: Sequence[Grant]) -> Access:
    """What of `access` these exceptions deny: the columns they share, or all of it."""
    if any(exception.every or not exception.columns for exception in exceptions):
        return access
    named = frozenset[str]().union(*(exception.columns for exception in exceptions))
    columns = tuple(column for column in access.columns if column in named)
    return Access(access.operation, access.table, columns, every=access.every and not columns)


def _standing(grants: Sequence[Grant], now: datetime, access: Access) -> tuple[Grant, ...]:
    """Those that stand at `now`, or the first such where any one will do."""
    found: Iterator[Grant] = (grant for grant in grants if grant.stands(now))
    if not access.columns and not access.every:
        first = next(found, None)
        return (first,) if first is not None else ()
    return tuple(found)


def _lacking(access: Access, candidates: Sequence[Grant]) -> Access | None:
    """The part of `access` that no candidate covers, or None."""
    if not candidates:
        return access
    covered = frozenset[str]().union(*(grant.columns for grant in candidates))
    uncovered = tuple(column for column in access.columns if column not in covered)
    every = access.every and not any(grant.every for grant in candidates)
    return Access(access.operation, access.table, uncovered, every) if uncovered or every else None


def _resting_on(access: Access, candidates: Sequence[Grant]) -> list[Grant]:
    """Grants that together cover `access` and none of which could be left out, in the order of the policy.

    The widest first, as an author would look for them; ties fall to the order of the policy.
    """
    needed = frozenset(access.columns)
    if not needed and not access.every:
        return [candidates[0]]

    def enough(grants: Sequence[Grant]) -> bool:
        # An access without columns, too, needs one grant; here it needs one that is `every`.
        covered = frozenset[str]().union(*(grant.columns for grant in grants))
        return needed <= covered and (not access.every or any(grant.every for grant in grants))

    chosen: list[Grant] = []
    for grant in sorted(candidates, key=lambda grant: (-len(grant.columns & needed), access.every and not grant.every)):
        if enough(chosen):
            break
        covered = frozenset[str]().union(*(one.columns for one in chosen))
        every_is_open = access.every and not any(one.every for one in chosen)
        if grant.columns & (needed - covered) or (every_is_open and grant.every):
            chosen.append(grant)
    for grant in tuple(chosen):
        others = [other for other in chosen if other is not grant]
        if others and enough(others):
            chosen = others
    return [grant for grant in candidates if any(grant is one for one in chosen)]
