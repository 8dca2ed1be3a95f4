"""Allow or deny, with the rule or the missing rule that made it.

Reasons are one closed enumeration: the same words in answers, command line, audit and documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

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
    RETIRED_CERTIFICATE = "retired-certificate"
    UNSUPPORTED_RPC = "unsupported-rpc"
    UNSUPPORTED_FEATURE = "unsupported-feature"
    FOREIGN_SESSION = "foreign-session"
    FOREIGN_TRANSACTION = "foreign-transaction"
    MALFORMED_REQUEST = "malformed-request"
    COMPRESSED_MESSAGE = "compressed-message"
    REQUEST_TOO_LARGE = "request-too-large"
    # Neither allowed nor denied: Spangate itself cannot decide.
    CHECKPOINT_UNAVAILABLE = "checkpoint-unavailable"
    # Allowed, but there is no access token to send on: for good, or for now.
    TOKEN_REFUSED = "token-refused"  # noqa: S105 - a reason, not a secret
    TOKEN_UNAVAILABLE = "token-unavailable"  # noqa: S105 - a reason, not a secret
    FILTER_FAILED = "filter-failed"


class DenialStatus(IntEnum):
    """google.rpc.Code of the checkpoint's denials: none is one that a client tries again."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7


# A slip of the program's own gets the status that Spanner would give it, since programs and libraries act on that.
_STATUS_OF: Mapping[Reason, DenialStatus] = {
    Reason.UNKNOWN_TABLE: DenialStatus.NOT_FOUND,
    Reason.UNREADABLE_STATEMENT: DenialStatus.INVALID_ARGUMENT,
}


def denial_status(reason: Reason) -> DenialStatus:
    """The gRPC status of a denial for `reason`."""
    return _STATUS_OF.get(reason, DenialStatus.PERMISSION_DENIED)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for one identity and one request shape under one policy.

    `identity` is the SPIFFE ID, in the trust domain itself where the certificate names an alias of it: then `presented`
    is what the certificate says, and empty otherwise. `name` is the identity's in the intent (None if it has none);
    `database` the alias (None if unknown); `missing` are the accesses no grant covers, or for the reason DENIED those
    that exceptions deny; `grants` are exactly the grants that a decision rests on: those that allow, or for the reason
    DENIED the exceptions; `detail` is the analyser's or checker's own sentence where there is one.
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
    presented: str = ""

    @property
    def asked_by(self) -> str:
        """The SPIFFE ID as the certificate says it."""
        return self.presented or self.identity
