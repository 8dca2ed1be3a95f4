"""Policy x identity x accesses -> Decision with reasons. Pure."""

from spangate.decision.explain import denial_message, explain_json, explain_sentence
from spangate.decision.record import BadDecisionRecord, decision_from_json, decision_to_json, grant_to_json
from spangate.decision.rule import decide, decision_id, refuse, standing

__all__ = [
    "BadDecisionRecord",
    "decide",
    "decision_from_json",
    "decision_id",
    "decision_to_json",
    "denial_message",
    "explain_json",
    "explain_sentence",
    "grant_to_json",
    "refuse",
    "standing",
]
