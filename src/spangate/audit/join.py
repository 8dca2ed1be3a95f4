"""One line of the gateway and the decision it names, joined into one audit record.

Rules:
- what the gateway did is the gateway's word: the mark `allow` or `deny` that the filter left;
- what was decided, and on what, is the checkpoint's word: the recorded decision with that id;
- an identity counts as verified only where the filter left a mark and did not refuse the certificate;
- a line without a mark was never decided: the reason comes from Envoy's own words (UNDECIDED), and is `filter-failed`
  if those say nothing better;
- whatever does not fit together becomes a record with a `problem`, never an exception and never silence.
Not here: reading lines (line.py), finding decisions and writing records (adapters/).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from spangate.audit.facts import DecisionFacts
from spangate.audit.line import GatewayLine, decode_line, read_line
from spangate.audit.record import OUTCOME_OF, AuditRecord, Durations, Outcome
from spangate.model.decision import Reason

Decisions = Callable[[str], DecisionFacts | None]

# Reasons that say of a certificate that it counts for nothing: who it names is only claimed.
_ONLY_CLAIMED = (Reason.NO_CERTIFICATE, Reason.UNTRUSTED_CERTIFICATE, Reason.RETIRED_CERTIFICATE)

SPANNER_SERVICE = "/google.spanner.v1.Spanner/"
# How much of a line that cannot be read is kept for whoever looks into it.
UNREADABLE_CHARACTERS_MAX = 200

# Beginnings of Envoy's response code details for requests that the filter never marked
# (https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/response_code_details).
UNDECIDED: tuple[tuple[str, Reason], ...] = (
    # compiler/gateway.py's doorkeeper, before the body of a Commit is collected.
    ("rbac_access_denied_matched_policy[untrusted]", Reason.UNTRUSTED_CERTIFICATE),
    ("request_payload_too_large", Reason.REQUEST_TOO_LARGE),
    ("http2.header_list_size_too_large", Reason.REQUEST_TOO_LARGE),
    ("http2.too_many_headers", Reason.REQUEST_TOO_LARGE),
    ("http2.cookies_total_bytes_too_large", Reason.REQUEST_TOO_LARGE),
    # The client broke the protocol, or went away before the request was complete.
    ("http1.", Reason.MALFORMED_REQUEST),
    ("http2.", Reason.MALFORMED_REQUEST),
    ("codec_error", Reason.MALFORMED_REQUEST),
    ("missing_host_header", Reason.MALFORMED_REQUEST),
    ("missing_path_rejected", Reason.MALFORMED_REQUEST),
    ("path_normalization_failed", Reason.MALFORMED_REQUEST),
    ("downstream_remote_disconnect", Reason.MALFORMED_REQUEST),
    ("stream_idle_timeout", Reason.MALFORMED_REQUEST),
    ("request_header_timeout", Reason.MALFORMED_REQUEST),
    ("request_overall_timeout", Reason.MALFORMED_REQUEST),
)
# What Envoy says of a request that it sent on and got an answer for.
SENT_ON = "via_upstream"


def join_raw(raw: bytes, decisions: Decisions) -> AuditRecord:
    """The record of one line as it stands in the gateway's file."""
    values = decode_line(raw)
    if values is None:
        return AuditRecord(
            decision=Outcome.ERROR,
            reason=None,
            detail=raw[:UNREADABLE_CHARACTERS_MAX].decode("utf-8", "replace"),
            problem="the gateway's line cannot be read",
        )
    return join(values, decisions)


def join(values: Mapping[str, object], decisions: Decisions) -> AuditRecord:
    """The record of one decoded line. `decisions` gives the facts of a recorded decision, or None. Never raises."""
    line = read_line(values)
    if line.allow is not None and line.deny is not None:
        record = _base(line, Outcome.ERROR, Reason.FILTER_FAILED, "the request is marked both allowed and denied")
    elif line.allow is not None:
        record = _decided(line, line.allow, Reason.GRANTED, decisions)
    elif line.deny is not None:
        record = _denied(line, line.deny, decisions)
    else:
        record = _undecided(line)
    if line.faults:
        record = _with_problem(record, f"the gateway's line has no readable {', '.join(line.faults)}")
    return record


def _denied(line: GatewayLine, word: str, decisions: Decisions) -> AuditRecord:
    try:
        reason = Reason(word)
    except ValueError:
        return _base(line, Outcome.ERROR, None, f"the gateway gives a reason that there is not: {word[:64]}")
    if reason is Reason.GRANTED:
        return _base(line, Outcome.ERROR, reason, "the gateway denied the request with the reason of an allow")
    if line.deny_id is None:
        return _base(line, OUTCOME_OF[reason], reason)
    return _decided(line, line.deny_id, reason, decisions)


def _decided(line: GatewayLine, decision_id: str, reason: Reason, decisions: Decisions) -> AuditRecord:
    """With the decision's facts, if it is there and speaks of this request."""
    outcome = OUTCOME_OF[reason]
    found = decisions(decision_id)
    if found is None:
        lacking = "there is no readable record of the decision"
        return _base(line, outcome, reason, lacking, decision_id=decision_id)
    contradiction = _contradiction(line, decision_id, reason, found)
    if contradiction is not None:
        return _base(line, Outcome.ERROR, reason, contradiction, decision_id=decision_id)
    return _base(line, outcome, reason, decision_id=decision_id, facts=found)


def _contradiction(line: GatewayLine, decision_id: str, reason: Reason, decision: DecisionFacts) -> str | None:
    """How the gateway's word and the recorded decision differ, or None."""
    if decision.id != decision_id:
        return "the recorded decision has another id"
    if decision.asked_by != line.identity:
        return f"the decision was made for another identity: {decision.asked_by}"
    if decision.allowed != (reason is Reason.GRANTED) or decision.reason is not reason:
        return f"the decision was another one: {decision.reason}"
    return None


def _undecided(line: GatewayLine) -> AuditRecord:
    """The filter left no mark."""
    details = line.response_code_details or ""
    if details == SENT_ON:
        return _base(line, Outcome.ERROR, Reason.FILTER_FAILED, "the request reached Spanner without a decision")
    reason = next((reason for start, reason in UNDECIDED if details.startswith(start)), Reason.FILTER_FAILED)
    record = _base(line, OUTCOME_OF[reason], reason)
    return record if record.detail or not details else replace(record, detail=details)


def _base(
    line: GatewayLine,
    outcome: Outcome,
    reason: Reason | None,
    problem: str | None = None,
    *,
    decision_id: str | None = None,
    facts: DecisionFacts | None = None,
) -> AuditRecord:
    """What the line tells, and the decision's facts where they belong to it."""
    marked = line.allow is not None or line.deny is not None
    verified = marked and reason not in _ONLY_CLAIMED
    return AuditRecord(
        decision=outcome,
        reason=reason,
        time=line.time,
        identity=(facts.identity if facts else line.identity) if verified else None,
        presented_identity=line.identity if facts and facts.identity != line.identity else None,
        claimed_identity=None if verified else line.identity,
        name=facts.name if facts else None,
        rpc=_rpc(line.path),
        database=facts.database if facts else None,
        accesses=facts.accesses if facts else (),
        missing=facts.missing if facts else (),
        policy=facts.policy if facts else None,
        decision_id=decision_id,
        grpc_code=line.grpc_code,
        commit_timestamp=line.commit_timestamp,
        duration_us=Durations(line.total_us, line.gateway_us, line.spanner_us),
        request_id=line.request_id,
        detail=line.detail or (facts.detail or None if facts else None),
        problem=problem,
    )


def _rpc(path: str | None) -> str | None:
    """`ExecuteSql` for Spanner's own; the whole path for anything else."""
    return path.removeprefix(SPANNER_SERVICE) if path is not None else None


def _with_problem(record: AuditRecord, problem: str) -> AuditRecord:
    return replace(record, problem=problem if record.problem is None else f"{record.problem}; {problem}")
