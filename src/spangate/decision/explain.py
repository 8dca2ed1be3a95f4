"""Why a decision is what it is, in sentences for two readers.

Rules: the caller (`denial_message`) hears what it lacks, under which policy, and the command that tells more; never
where the policy stands or what others may do. Whoever keeps the policy (`explain_sentence`, `explain_json`) hears which
grant at which place made an allow, or what to add where. Every text is one line and bounded, whatever was asked.
Not here: the decision itself (rule.py), rendering for a terminal (cli/).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spangate.decision.record import Json, decision_to_json
from spangate.model.access import Access, Operation
from spangate.model.decision import Decision, Reason
from spangate.model.policy import Grant

# gRPC sends a status message as one HTTP/2 header, percent-encoded, and proxies commonly limit all headers to 8 KiB.
MESSAGE_BYTES_MAX = 1024
# A SPIFFE ID has at most 2048 bytes; usual ones have fewer than 100.
_IDENTITY_CHARACTERS_MAX = 160
_NAME_CHARACTERS_MAX = 60
_DETAIL_CHARACTERS_MAX = 400
_SENTENCE_ACCESSES_BYTES_MAX = 600
_SENTENCE_GRANTS_MAX = 6

# Reasons that do not come from grants. {who} is the caller, {rpc} the call.
_BECAUSE: Mapping[Reason, str] = {
    Reason.UNKNOWN_IDENTITY: "{who} is not an identity of the policy",
    Reason.DENIED: "{who} asked for what an exception denies",
    Reason.UNKNOWN_DATABASE: "{who} asked for a database that the policy does not name",
    Reason.UNKNOWN_TABLE: "{who} named a table or column that the schema does not have",
    Reason.UNREADABLE_STATEMENT: "{who} sent a statement that cannot be analysed",
    Reason.NO_CERTIFICATE: "the connection presented no client certificate",
    Reason.UNTRUSTED_CERTIFICATE: "the connection's certificate is not trusted",
    Reason.RETIRED_CERTIFICATE: "the root of the connection's certificate has been retired",
    Reason.UNSUPPORTED_RPC: "{who} called {rpc}, which is not supported",
    Reason.UNSUPPORTED_FEATURE: "{who} used a feature of {rpc} that is not supported",
    Reason.FOREIGN_SESSION: "{who} used a session that is not its own",
    Reason.FOREIGN_TRANSACTION: "{who} used a transaction or partition that is not its own",
    Reason.MALFORMED_REQUEST: "{who} sent a malformed request",
    Reason.COMPRESSED_MESSAGE: "{who} sent a compressed message",
    Reason.REQUEST_TOO_LARGE: "{who} sent a request that is too large",
    Reason.CHECKPOINT_UNAVAILABLE: "the checkpoint does not answer, so the request of {who} could not be decided",
    Reason.TOKEN_REFUSED: "the request of {who} is allowed, but Google gives {who} no access token",
    Reason.TOKEN_UNAVAILABLE: "the request of {who} is allowed, but there is no access token for it now",
    Reason.FILTER_FAILED: "the filter failed, so the request of {who} could not be decided",
}

# Operations whose word alone is no English: on a table, and on the database as a whole.
_ON_TABLE: Mapping[Operation, str] = {
    Operation.PARTITIONED_DML: "run partitioned DML on",
    Operation.SEND: "send to",
    Operation.ACK: "acknowledge messages of",
}
_ON_DATABASE: Mapping[Operation, str] = {
    Operation.PARTITIONED_DML: "run partitioned DML",
    Operation.SCHEMA: "read the schema",
    Operation.DDL: "change the schema",
    Operation.INFORMATION_SCHEMA: "read INFORMATION_SCHEMA",
    Operation.SPANNER_SYS: "read SPANNER_SYS",
    Operation.EXCLUDE_FROM_CHANGE_STREAMS: "leave writes out of change streams",
}
_STAR_HINT = "; name the columns instead of `*`"


def denial_message(decision: Decision) -> str:
    """One line for the caller, at most MESSAGE_BYTES_MAX bytes of UTF-8. Raises ValueError for an allow."""
    if decision.allowed:
        raise ValueError("an allowed request has no denial")
    name = f"`{_short(decision.name, _NAME_CHARACTERS_MAX)}` " if decision.name else ""
    identity = _short(decision.identity, _IDENTITY_CHARACTERS_MAX)
    who = f"{name}({identity})" if name else identity
    end = f" [{decision.reason}, policy {decision.policy}, decision {decision.id}; see: spangate explain {decision.id}]"
    if decision.reason in (Reason.MISSING_GRANT, Reason.DENIED) and decision.missing:
        because = f"{_where(decision)}{_because_of_what(decision)}"
        room = MESSAGE_BYTES_MAX - len(f"spangate: {who} may not {because}{end}".encode())
        text = f"{who} may not {_listed(decision.missing, room)}{because}"
    elif decision.reason is Reason.MISSING_GRANT:
        text = f"{who} holds no grant{_where(decision)}"
    else:
        text = _because(decision, who)
    return _bounded(_one_line(f"spangate: {text}"), MESSAGE_BYTES_MAX - len(end.encode())) + end


def _because_of_what(decision: Decision) -> str:
    """What the caller may know, and can do."""
    if decision.reason is Reason.DENIED:
        return ": an exception denies it"
    star = any(access.every and access.operation is Operation.READ for access in decision.missing)
    return _STAR_HINT if star else ""


def explain_sentence(decision: Decision) -> str:
    """One sentence for whoever keeps the policy: which grants made it so, or what to add to change it."""
    return _one_line(_sentence(decision))


def _sentence(decision: Decision) -> str:
    who = decision.name or decision.identity
    if decision.allowed:
        if not decision.accesses:
            return f"{who} may do this{_where(decision)} because it touches no table (policy {decision.policy})."
        what = _listed(decision.accesses, _SENTENCE_ACCESSES_BYTES_MAX)
        return f"{who} may {what}{_where(decision)} because of {_grants(decision)} (policy {decision.policy})."
    if decision.reason is Reason.DENIED and decision.missing:
        what = _listed(decision.missing, _SENTENCE_ACCESSES_BYTES_MAX)
        by = f": denied by {_grants(decision)}" if decision.grants else ""
        return f"{who} may not {what}{_where(decision)}{by} (policy {decision.policy})."
    if decision.reason is not Reason.MISSING_GRANT:
        return f"{_because(decision, who)} (policy {decision.policy})."
    if decision.missing:
        what = _listed(decision.missing, _SENTENCE_ACCESSES_BYTES_MAX)
        lack = f"may not {what}{_where(decision)}: no grant gives it"
    else:
        lack = f"may do nothing{_where(decision)}: it holds no grant there"
    advice = f"; {decision.detail} to allow it" if decision.detail else ""
    return f"{who} {lack}{advice} (policy {decision.policy})."


def explain_json(decision: Decision) -> Json:
    """The recorded decision with its sentence under `sentence`, for programs."""
    return {**decision_to_json(decision), "sentence": explain_sentence(decision)}


def _because(decision: Decision, who: str) -> str:
    text = _BECAUSE[decision.reason].format(who=who, rpc=_short(decision.rpc, _NAME_CHARACTERS_MAX))
    return f"{text}: {_short(decision.detail, _DETAIL_CHARACTERS_MAX)}" if decision.detail else text


def _where(decision: Decision) -> str:
    return f" in {_short(decision.database, _NAME_CHARACTERS_MAX)}" if decision.database else ""


def _grants(decision: Decision) -> str:
    """Each grant by its path in the file and its place."""
    found = [f"{_path(grant)} at {grant.position}" for grant in decision.grants[:_SENTENCE_GRANTS_MAX]]
    more = len(decision.grants) - len(found)
    if more:
        found.append(f"{more} more")
    return f"{', '.join(found[:-1])} and {found[-1]}" if len(found) > 1 else "".join(found)


def _path(grant: Grant) -> str:
    holder = f"access.{grant.identity}" if grant.role is None else f"roles.{grant.role}"
    deny = "deny." if grant.deny else ""
    return f"{holder}.{grant.database}.{deny}{grant.operation}"


def _listed(accesses: Sequence[Access], room: int) -> str:
    """As many accesses and columns as fit into `room` bytes, and how many more there are."""
    shown: list[str] = []
    for place, access in enumerate(accesses):
        left = room - len(", ".join(shown).encode()) - len(", and 1000000 more")
        text = _access(access, left)
        if len(text.encode()) > left:
            return ", ".join([*shown, f"and {len(accesses) - place} more"])
        shown.append(text)
    return ", ".join(shown)


def _access(access: Access, room: int) -> str:
    """The access with as many of its columns as fit into `room` bytes, at least the first."""
    if not access.table:
        return _ON_DATABASE.get(access.operation, access.operation.value)
    what = f"{_ON_TABLE.get(access.operation, access.operation.value)} {access.table}"
    columns = ("*",) if access.every else access.columns
    whole = f"{what}({', '.join(columns)})" if columns else what
    if len(whole.encode()) <= room or len(columns) < 2:
        return whole
    fitting = 1
    used = len(f"{what}({columns[0]} and 1000000 more)".encode())
    for column in columns[1:]:
        used += len(column.encode()) + 2
        if used > room:
            break
        fitting += 1
    return f"{what}({', '.join(columns[:fitting])} and {len(columns) - fitting} more)"


def _short(text: str, characters: int) -> str:
    line = _one_line(text)
    return line if len(line) <= characters else line[: characters - 3] + "..."


def _one_line(text: str) -> str:
    """Printable characters only, white space as one blank: nothing forges a second line or steers a terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def _bounded(text: str, size: int) -> str:
    data = text.encode()
    return text if len(data) <= size else data[: size - 3].decode(errors="ignore") + "..."
