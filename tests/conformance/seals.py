"""What the gateway makes of the sessions, transactions and tokens of the corpus before it gives them to a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance import cases, world

SEALED = "seal" not in cases.NOT_YET
KEYS = b"0:00000000000000000000000000000000"


def sealing() -> cases.Sealing:
    """As this gateway seals."""
    return cases.UNSEALED


def presented(plain: Mapping[str, Any], seal: cases.Sealing) -> dict[str, Any]:
    """The world whose sessions and handles are as clients present them."""
    return {
        **plain,
        "sessions": {seal.session(name): fact for name, fact in plain["sessions"].items()},
        "handles": {seal.handle(name): fact for name, fact in plain["handles"].items()},
    }


WORLD = presented(world.world(), sealing())
