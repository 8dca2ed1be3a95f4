"""One line of the gateway's access log, read into typed facts.

Rules: the line is Envoy's, but path and identity in it are a client's: texts are shortened, numbers are checked. A
field that is absent, null or Envoy's `-` is None; one of the wrong kind is None too and is named in `faults`. Nothing
raises.
Not here: what the facts mean (join.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

# A SPIFFE ID has at most 2048 bytes; a request path of Spanner fewer than 100.
TEXT_CHARACTERS_MAX = 2048

# A million years in microseconds: anything above is not a duration.
NUMBER_MAX = 2**63

_COMMIT = re.compile(r"([0-9]{1,12})\.([0-9]{9})", re.ASCII)
# RFC 3339 as Envoy's %START_TIME% writes it; the fraction may have any length.
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class GatewayLine:
    """The facts. `allow` is the id of the decision; `deny` the reason's word; `deny_id` its decision, if it has one."""

    time: str | None
    identity: str | None
    path: str | None
    allow: str | None
    deny: str | None
    deny_id: str | None
    detail: str | None
    grpc_code: int | None
    commit_timestamp: str | None
    total_us: int | None
    gateway_us: int | None
    spanner_us: int | None
    request_id: str | None
    response_code_details: str | None
    faults: tuple[str, ...]


def decode_line(raw: bytes) -> Mapping[str, object] | None:
    """The JSON object of one line, or None. Bytes that are not UTF-8 (a forged path) become replacement characters."""
    try:
        value = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_line(values: Mapping[str, object]) -> GatewayLine:
    """The facts of a decoded line; never raises."""
    fields = _Fields(values)
    deny = fields.text("deny")
    reason, _, deny_id = deny.partition(" ") if deny is not None else (None, "", "")
    return GatewayLine(
        time=fields.time("time"),
        identity=fields.text("identity"),
        path=fields.text("path"),
        allow=fields.text("allow"),
        deny=reason,
        deny_id=deny_id or None,
        detail=fields.text("detail"),
        grpc_code=fields.number("grpc_status"),
        commit_timestamp=fields.commit("commit"),
        total_us=fields.number("total_us"),
        gateway_us=fields.number("gateway_us"),
        spanner_us=fields.number("spanner_us"),
        request_id=fields.text("request_id"),
        response_code_details=fields.text("response_code_details"),
        faults=tuple(fields.faults),
    )


class _Fields:
    """Reads fields one by one and remembers which could not be read."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values
        self.faults: list[str] = []

    def text(self, key: str) -> str | None:
        value = self._values.get(key)
        if value is None or value in ("", "-"):
            return None
        if not isinstance(value, str):
            self.faults.append(key)
            return None
        return value if len(value) <= TEXT_CHARACTERS_MAX else value[: TEXT_CHARACTERS_MAX - 3] + "..."

    def number(self, key: str) -> int | None:
        """A whole number from 0; Envoy may write it as a float."""
        value = self._values.get(key)
        if value is None or value in ("", "-"):
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < NUMBER_MAX:
            self.faults.append(key)
            return None
        return int(value)

    def time(self, key: str) -> str | None:
        text = self.text(key)
        if text is None or not _TIME.fullmatch(text):
            self.faults.append(key)
            return None
        return text

    def commit(self, key: str) -> str | None:
        """`<seconds>.<nanoseconds, 9 digits>` since 1970 as RFC 3339 with nanoseconds."""
        text = self.text(key)
        if text is None:
            return None
        match = _COMMIT.fullmatch(text)
        try:
            moment = datetime.fromtimestamp(int(match[1]), UTC) if match else None
        except (ValueError, OverflowError, OSError):
            moment = None
        if match is None or moment is None:
            self.faults.append(key)
            return None
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{match[2]}Z"
