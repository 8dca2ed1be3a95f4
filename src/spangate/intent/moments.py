"""`until`: moments at which a grant ends.

Rules: RFC 3339 with a zone, to the minute, the second or finer; out comes an aware datetime in UTC. A moment that has
passed is no problem: a file does not turn wrong by waiting.
Not here: what ends (grants.py, parse.py), what has ended (decision/).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from spangate.intent.errors import Problems, shown
from spangate.intent.nodes import Node, Scalar
from spangate.intent.words import EXAMPLES_OF_PARTS, MOMENT, UNTIL_KEY

_MOMENT = re.compile(MOMENT, re.ASCII)
_EXAMPLE = f"write date, time and zone, for instance `{EXAMPLES_OF_PARTS[UNTIL_KEY]}`"


def read_moment(node: Node, problems: Problems) -> datetime | None:
    """The moment that `node` spells, in UTC, or None after noting a problem."""
    if not isinstance(node, Scalar):
        problems.add(node.position, f"`{UNTIL_KEY}` must be a moment, not {node.kind}", _EXAMPLE)
        return None
    if node.kind == "nothing":
        problems.add(node.position, f"`{UNTIL_KEY}` has no value", _EXAMPLE)
        return None
    if _MOMENT.fullmatch(node.text):
        try:
            return datetime.fromisoformat(node.text).astimezone(UTC)
        except (ValueError, OverflowError):
            problems.add(node.position, f"there is no moment {shown(node.text)}", _EXAMPLE)
            return None
    problems.add(node.position, f"{shown(node.text)} is not a moment with its zone", _EXAMPLE)
    return None
