"""What a policy means for each identity, as rows to show: patterns, roles, exceptions and ends written out.

Rules: every grant of the policy is in exactly one row; a row is one entry of the intent file, as it was written, with
everything that it stands for.
Not here: rendering (cli/check.py), the policy itself (intent/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from spangate.model.access import DATABASE_OPERATIONS, Operation
from spangate.model.policy import Grant, Policy, Position


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One entry: its operations (`write` has three) and its text (empty for an operation on the database).

    `meaning` are the names that a pattern stands for, or the columns that `(* except A)` leaves.
    """

    database: str
    operations: tuple[Operation, ...]
    text: str
    meaning: tuple[str, ...]
    deny: bool
    until: datetime | None
    role: str | None
    position: Position


def plan_of(policy: Policy) -> Mapping[str, tuple[PlanRow, ...]]:
    """The rows of each identity of the policy, by database, grants before exceptions, in the order of the file."""
    found: dict[str, tuple[PlanRow, ...]] = {}
    for name in policy.identities:
        rows = [row for alias in policy.databases for row in _rows(policy.grants_of.get((name, alias), ()))]
        found[name] = tuple(sorted(rows, key=lambda row: (row.database, row.deny, row.role or "", row.position)))
    return found


def _rows(grants: tuple[Grant, ...]) -> list[PlanRow]:
    entries: dict[tuple[Position, bool, str | None, datetime | None], list[Grant]] = {}
    for grant in grants:
        entries.setdefault((grant.position, grant.deny, grant.role, grant.until), []).append(grant)
    return [_row(entry) for entry in entries.values()]


def _row(entry: list[Grant]) -> PlanRow:
    first = entry[0]
    operations = {grant.operation for grant in entry}
    table, _, columns = first.text.partition("(")
    names = {grant.table for grant in entry} if "*" in table else first.columns if "*" in columns else frozenset()
    return PlanRow(
        database=first.database,
        operations=tuple(operation for operation in Operation if operation in operations),
        text="" if first.operation in DATABASE_OPERATIONS else first.text,
        meaning=tuple(sorted(names)),
        deny=first.deny,
        until=first.until,
        role=first.role,
        position=first.position,
    )
