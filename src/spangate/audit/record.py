"""The audit record: one request, who made it, what was decided and why, and what became of it.

Rules: every request has exactly one record, also one that nobody understood: then `problem` says what is wrong with it.
A record is one line of JSON, ASCII only, so that nothing a client sends can forge a second line or steer a terminal.
Not here: where the facts come from (line.py, join.py), files (adapters/).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from spangate.model.decision import Reason


class Outcome(StrEnum):
    """What became of a request at the gateway."""

    ALLOW = "allow"
    # The policy says no.
    DENY = "deny"
    # The gateway would not even ask: no certificate, an unsupported call, a malformed or too large request.
    REFUSE = "refuse"
    # Spangate could not decide, or its own records contradict each other.
    ERROR = "error"


OUTCOME_OF: Mapping[Reason, Outcome] = {
    Reason.GRANTED: Outcome.ALLOW,
    Reason.MISSING_GRANT: Outcome.DENY,
    Reason.DENIED: Outcome.DENY,
    Reason.UNKNOWN_IDENTITY: Outcome.DENY,
    Reason.UNKNOWN_DATABASE: Outcome.DENY,
    Reason.UNKNOWN_TABLE: Outcome.DENY,
    Reason.UNREADABLE_STATEMENT: Outcome.DENY,
    Reason.NO_CERTIFICATE: Outcome.REFUSE,
    Reason.UNTRUSTED_CERTIFICATE: Outcome.REFUSE,
    Reason.RETIRED_CERTIFICATE: Outcome.REFUSE,
    Reason.UNSUPPORTED_RPC: Outcome.REFUSE,
    Reason.UNSUPPORTED_FEATURE: Outcome.REFUSE,
    Reason.FOREIGN_SESSION: Outcome.REFUSE,
    Reason.FOREIGN_TRANSACTION: Outcome.REFUSE,
    Reason.MALFORMED_REQUEST: Outcome.REFUSE,
    Reason.COMPRESSED_MESSAGE: Outcome.REFUSE,
    Reason.REQUEST_TOO_LARGE: Outcome.REFUSE,
    Reason.CHECKPOINT_UNAVAILABLE: Outcome.ERROR,
    Reason.TOKEN_REFUSED: Outcome.ERROR,
    Reason.TOKEN_UNAVAILABLE: Outcome.ERROR,
    Reason.FILTER_FAILED: Outcome.ERROR,
}

# google.rpc.Code, in order of its numbers (https://grpc.io/docs/guides/status-codes/).
GRPC_STATUS_NAMES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)


# Made once: a record is made for every request.
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True, slots=True)
class Durations:
    """Microseconds: from the first byte in to the last byte out; spent in the gateway; spent waiting for Spanner."""

    total: int | None = None
    gateway: int | None = None
    spanner: int | None = None


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One request.

    `time` is RFC 3339; `identity` the peer's verified SPIFFE ID, `name` its name in the intent; `presented_identity`
    the SPIFFE ID in the certificate, if that names an alias of the identity's trust domain; `claimed_identity` what
    stands in a certificate that the filter did not accept or did not get to look at; `database` the alias;
    `accesses` what the request does and `missing` what of it no grant covers or an exception denies, as texts
    (`read Orders(OrderId)`); `policy` the version that decided; `commit_timestamp` RFC 3339 with nanoseconds,
    for writes; `grpc_code` None when there was no answer. `problem` is None for a record without contradictions.
    """

    decision: Outcome
    reason: Reason | None
    time: str | None = None
    identity: str | None = None
    claimed_identity: str | None = None
    presented_identity: str | None = None
    name: str | None = None
    rpc: str | None = None
    database: str | None = None
    accesses: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    policy: str | None = None
    decision_id: str | None = None
    grpc_code: int | None = None
    commit_timestamp: str | None = None
    duration_us: Durations = Durations()
    request_id: str | None = None
    detail: str | None = None
    problem: str | None = None

    @property
    def grpc_status(self) -> str | None:
        """The name of `grpc_code`, None for a number that gRPC does not know."""
        code = self.grpc_code
        return GRPC_STATUS_NAMES[code] if code is not None and 0 <= code < len(GRPC_STATUS_NAMES) else None

    def to_json(self) -> str:
        """One line without its newline; always the same keys in the same order."""
        content = {
            "time": self.time,
            "decision": self.decision.value,
            "reason": self.reason.value if self.reason else None,
            "identity": self.identity,
            "claimed_identity": self.claimed_identity,
            "presented_identity": self.presented_identity,
            "name": self.name,
            "rpc": self.rpc,
            "database": self.database,
            "accesses": list(self.accesses),
            "missing": list(self.missing),
            "policy": self.policy,
            "decision_id": self.decision_id,
            "grpc_status": self.grpc_status,
            "grpc_code": self.grpc_code,
            "commit_timestamp": self.commit_timestamp,
            "duration_us": {
                "total": self.duration_us.total,
                "gateway": self.duration_us.gateway,
                "spanner": self.duration_us.spanner,
            },
            "request_id": self.request_id,
            "detail": self.detail,
            "problem": self.problem,
        }
        return _ENCODER.encode(content)
