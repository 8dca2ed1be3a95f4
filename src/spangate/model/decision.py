"""Allow or deny, with the rule or the missing rule that made it.

Reasons are one closed enumeration: the same words in answers, command line, audit and documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from spangate.model.access import Access
from spangate.model.policy import Grant


class Reason(StrEnum):
    """Why a request was allowed, denied or could not be decided. docs/reasons.md explains each to its reader."""

    # Made by the checkpoint.
    GRANTED = "granted"
    MISSING_GRANT = "missing-grant"
    DENIED = "denied"
    UNKNOWN_IDENTITY = "unknown-identity"
    UNKNOWN_DATABASE = "unknown-database"
    UNKNOWN_TABLE = "unknown-table"
    UNREADABLE_STATEMENT = "unreadable-statement"
    # Made by the filter in Envoy, before anything is asked.
    NO_CERTIFICATE = "no-certificate"
    UNTRUSTED_CERTIFICATE = "untrusted-certificate"
    UNSUPPORTED_RPC = "unsupported-rpc"
    UNSUPPORTED_FEATURE = "unsupported-feature"
    FOREIGN_SESSION = "foreign-session"
    FOREIGN_TRANSACTION = "foreign-transaction"
    MALFORMED_REQUEST = "malformed-request"
    COMPRESSED_MESSAGE = "compressed-message"
    REQUEST_TOO_LARGE = "request-too-large"
    # Neither allowed nor denied: Spangate itself cannot decide.
    CHECKPOINT_UNAVAILABLE = "checkpoint-unavailable"
    FILTER_FAILED = "filter-failed"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for one identity and one request shape under one policy.

    `identity` is the SPIFFE ID, `name` its name in the intent (None if it has none); `database` the alias (None if
    unknown); `missing` are the accesses no grant covers, or for the reason DENIED those that exceptions deny; `grants`
    are exactly the grants that a decision rests on: those that allow, or for the reason DENIED the exceptions;
    `detail` is the analyser's or checker's own sentence where there is one.
    """

    id: str
    allowed: bool
    reason: Reason
    identity: str
    name: str | None
    rpc: str
    database: str | None
    accesses: tuple[Access, ...]
    missing: tuple[Access, ...]
    grants: tuple[Grant, ...]
    policy: str
    detail: str = ""
