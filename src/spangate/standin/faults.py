"""Faults on order, for tests: the next requests fail with a status, or all of them take longer.

Rules: counted down by the requests they meet; a bounded number, a bounded delay.
Not here: who may order them (the door takes orders only where it was started with them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spangate.standin import answers
from spangate.standin.answers import Answer, rpc_status

TIMES_MAX = 1_000_000
# Longer than any client's patience.
DELAY_SECONDS_MAX = 60.0
_STATUS_NAMES = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}
_UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Fault:
    """The next `times` requests to `part` (`token` or `iam`) fail with `status`."""

    part: str
    status: int
    times: int


class BadOrder(ValueError):
    """Not an order for faults."""


class Faults:
    """What is still to fail, and how long answers are held back."""

    def __init__(self) -> None:
        self._left: list[Fault] = []
        self.delay_seconds = 0.0

    def order(self, value: object) -> None:
        """`{"part": "token", "status": 429, "times": 3}`, `{"delay_seconds": 0.2}` or `{}`: none. Raises BadOrder."""
        if not isinstance(value, dict):
            raise BadOrder("an order is an object")
        self._left, self.delay_seconds = _read(value)

    def due(self, part: str) -> Answer | None:
        """The fault for a request to `part`, counted."""
        for index, fault in enumerate(self._left):
            if fault.part == part:
                left = fault.times - 1
                self._left[index : index + 1] = [Fault(part, fault.status, left)] if left else []
                return _answer(fault)
        return None


def _read(value: Mapping[str, Any]) -> tuple[list[Fault], float]:
    if value.keys() - {"part", "status", "times", "delay_seconds"}:
        raise BadOrder("an order has `part`, `status`, `times`, `delay_seconds`")
    delay = value.get("delay_seconds", 0)
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= DELAY_SECONDS_MAX:
        raise BadOrder(f"`delay_seconds` is not 0 to {DELAY_SECONDS_MAX:.0f}")
    if "status" not in value:
        return [], float(delay)
    status, times, part = value["status"], value.get("times", 1), value.get("part")
    if part not in ("token", "iam") or not isinstance(status, int) or not 400 <= status <= 599:
        raise BadOrder("`part` is token or iam, `status` is 400 to 599")
    if isinstance(times, bool) or not isinstance(times, int) or not 1 <= times <= TIMES_MAX:
        raise BadOrder(f"`times` is not 1 to {TIMES_MAX}")
    return [Fault(part, status, times)], float(delay)


def _answer(fault: Fault) -> Answer:
    if fault.status == 429:
        return answers.throttled().answer if fault.part == "token" else answers.exhausted()
    if fault.part == "token" and fault.status < 500:
        return Answer(fault.status, {"error": "invalid_request", "error_description": "A fault, as ordered."})
    return rpc_status(fault.status, _STATUS_NAMES.get(fault.status, _UNAVAILABLE), "A fault, as ordered.")
