"""Intent text -> syntax tree with positions -> checked policy. Pure: files come in as text."""

from spangate.intent.check import check_intent
from spangate.intent.errors import IntentErrors, IntentProblem
from spangate.intent.parse import parse_intent
from spangate.intent.tree import Intent

__all__ = ["Intent", "IntentErrors", "IntentProblem", "check_intent", "parse_intent"]
