"""What the audit takes from a recorded decision, read once and kept, because thousands of requests share one.

Rules: a record that is not exactly a decision raises; nothing is taken from half of one.
Not here: where recorded decisions are found (adapters/audit_decisions.py), how they are joined (join.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spangate.decision.record import decision_from_json
from spangate.model.decision import Reason


@dataclass(frozen=True, slots=True)
class DecisionFacts:
    """A decision as its requests' records show it; accesses are texts already."""

    id: str
    allowed: bool
    reason: Reason
    identity: str
    # As the certificate says it: another one where that names an alias of the trust domain.
    asked_by: str
    name: str | None
    database: str | None
    accesses: tuple[str, ...]
    missing: tuple[str, ...]
    policy: str
    detail: str


def facts_of(recorded: Mapping[str, object]) -> DecisionFacts:
    """The facts of what `decision_to_json` wrote, or BadDecisionRecord."""
    decision = decision_from_json(recorded)
    return DecisionFacts(
        id=decision.id,
        allowed=decision.allowed,
        reason=decision.reason,
        identity=decision.identity,
        asked_by=decision.asked_by,
        name=decision.name,
        database=decision.database,
        accesses=tuple(str(access) for access in decision.accesses),
        missing=tuple(str(access) for access in decision.missing),
        policy=decision.policy,
        detail=decision.detail,
    )
