"""`spangate check` on a terminal: what the intent means for each identity.

Not here: what there is to show (app/plan.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from spangate.app.plan import PlanRow, plan_of
from spangate.decision import grant_to_json
from spangate.model.policy import Policy, moment_text

# A pattern may match thousands of tables; `--json` has them all.
_MATCHED_MAX = 12


def plan_lines(policy: Policy, now: datetime) -> Iterator[str]:
    """The plan, line by line, for people."""
    for name, rows in plan_of(policy).items():
        yield ""
        yield f"{name}  {policy.identities[name]}"
        if not rows:
            yield "  holds nothing: everything is denied"
        verbs = [_verbs(row) for row in rows]
        texts = [row.text for row in rows]
        widths = max((len(row.database) for row in rows), default=0), max(map(len, verbs), default=0)
        width = max((len(text) for text in texts if len(text) <= 60), default=0)
        for row, verb, text in zip(rows, verbs, texts, strict=True):
            start = f"  {row.database:<{widths[0]}}  {verb:<{widths[1]}}  {text:<{width}}"
            yield "  ".join([start, *_notes(row, now)]).rstrip()


def plan_json(policy: Policy) -> dict[str, object]:
    """The same for programs, with every grant written out."""
    return {
        "policy": policy.version,
        "databases": {alias: str(database.path) for alias, database in policy.databases.items()},
        "identities": {name: str(spiffe_id) for name, spiffe_id in policy.identities.items()},
        "grants": [grant_to_json(grant) for grant in policy.grants],
    }


def _verbs(row: PlanRow) -> str:
    verbs = ", ".join(row.operations)
    return f"deny {verbs}" if row.deny else verbs


def _notes(row: PlanRow, now: datetime) -> Iterator[str]:
    if row.meaning:
        more = len(row.meaning) - _MATCHED_MAX
        names = ", ".join(row.meaning[:_MATCHED_MAX])
        yield f"= {names} and {more} more" if more > 0 else f"= {names}"
    if row.role is not None:
        yield f"by role {row.role}"
    if row.until is not None:
        yield f"{'until' if now < row.until else 'ended'} {moment_text(row.until)}"
    yield f"(line {row.position.line})"
