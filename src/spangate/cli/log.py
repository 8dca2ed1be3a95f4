"""`spangate log`: the audit, one line for each request.

Rules: what a client sent is shown, never obeyed: characters that are not printable become `?`. Colours only on a
terminal. `--json` prints the records as they stand in the file.
Not here: reading the file (adapters/audit_reader.py), what a record means (audit/record.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from spangate.adapters.audit_files import AUDIT_FILE
from spangate.adapters.audit_reader import RecordLine, following, last_records
from spangate.audit.record import Outcome
from spangate.errors import YourFault

# Widths that keep the columns of usual records below one another; longer texts push, they are not cut.
WHO_WIDTH = 12
RPC_WIDTH = 19
ACCESSES_CHARACTERS_MAX = 72
TEXT_CHARACTERS_MAX = 160
STYLE_OF = {Outcome.ALLOW: "green", Outcome.DENY: "red", Outcome.REFUSE: "yellow", Outcome.ERROR: "bold red"}
DECISION_WIDTH = max(len(outcome) for outcome in Outcome)


class _OutputClosed(Exception):
    """Whoever read our output went away: `spangate log | head`."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise _OutputClosed


def log_command(
    directory: Path, follow: bool, count: int, json_output: bool, identity: str | None, denied: bool
) -> int:
    """Print the last `count` records of the state directory, with `follow` also those that come. The exit code.

    `identity` keeps the records of one identity (its name in the intent, or its SPIFFE ID), `denied` those that were
    not allowed. Raises YourFault when there is no audit to show.
    """
    path = directory / AUDIT_FILE
    if not directory.is_dir() or not (follow or path.exists()):
        raise YourFault(f"there is no audit in `{directory}`", help="has `spangate up` run with this directory?")

    def wanted(line: RecordLine) -> bool:
        values = line.values
        if denied and values.get("decision") == Outcome.ALLOW:
            return False
        return identity is None or identity in (values.get("name"), values.get("identity"))

    console = _Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    try:
        earlier, offset = last_records(path, count, wanted)
        _show(console, earlier, json_output)
        if follow:
            _show(console, following(path, offset, wanted), json_output)
    except KeyboardInterrupt:
        return 0
    except (_OutputClosed, BrokenPipeError):
        # Else the interpreter complains when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _show(console: Console, lines: Iterable[RecordLine], json_output: bool) -> None:
    for line in lines:
        if json_output:
            console.file.write(line.text + "\n")
        else:
            console.print(render_record(line.values))
        console.file.flush()


def render_record(record: Mapping[str, object]) -> Text:
    """One line: time, who, what became of it, call, accesses, reason, commit timestamp, duration. Never raises."""
    decision = _text(record.get("decision"))
    style = STYLE_OF[Outcome(decision)] if decision in list(Outcome) else "bold red"
    line = Text()
    line.append(_time(record.get("time")), "dim")
    line.append(f"  {_who(record):<{WHO_WIDTH}}  ")
    line.append(f"{decision or '?':<{DECISION_WIDTH}}", style)
    line.append(f"  {_text(record.get('rpc')) or '?':<{RPC_WIDTH}}")
    for text in (_what(record), _why(record), _commit(record), _status(record)):
        if text:
            line.append(f"  {text}")
    line.append(f"  {_duration(record)}", "dim")
    problem = _text(record.get("problem"))
    if problem:
        line.append(f"  ! {problem}", "bold red")
    line.rstrip()
    return line


def _text(value: object, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """Printable, on one line, of bounded length; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    shown = "".join(c if c.isprintable() else "?" for c in value[: characters_max + 1])
    return shown if len(shown) <= characters_max else shown[: characters_max - 1] + "…"


def _time(value: object) -> str:
    """`2030-01-02 12:00:00.123`, in UTC as in the record."""
    return _text(value).replace("T", " ").removesuffix("Z") or "?"


def _who(record: Mapping[str, object]) -> str:
    known = _text(record.get("name")) or _text(record.get("identity"))
    claimed = _text(record.get("claimed_identity"))
    return known or (f"({claimed})" if claimed else "(nobody)")


def _what(record: Mapping[str, object]) -> str:
    """`shop: read Orders(OrderId), insert Items(...)`, shortened: how many more are left out."""
    accesses = _texts(record.get("accesses"))
    database = _text(record.get("database"))
    shown = ""
    for place, access in enumerate(accesses):
        longer = f"{shown}, {access}" if shown else access
        if len(longer) > ACCESSES_CHARACTERS_MAX:
            shown = f"{shown} +{len(accesses) - place}" if shown else _text(access, ACCESSES_CHARACTERS_MAX)
            break
        shown = longer
    return f"{database}: {shown}" if database and shown else database or shown


def _why(record: Mapping[str, object]) -> str:
    """Nothing for what was granted; else the reason, with what is missing or the detail."""
    reason = _text(record.get("reason"))
    if reason == "granted":
        return ""
    missing = ", ".join(_texts(record.get("missing")))
    said = _text(missing or record.get("detail"))
    return f"{reason or 'no reason'}: {said}" if said else reason


def _commit(record: Mapping[str, object]) -> str:
    commit = _text(record.get("commit_timestamp"))
    return f"committed {commit}" if commit else ""


def _status(record: Mapping[str, object]) -> str:
    """Only where it adds something: an allowed request that failed all the same."""
    status = _text(record.get("grpc_status"))
    return status if record.get("decision") == Outcome.ALLOW and status != "OK" else ""


def _duration(record: Mapping[str, object]) -> str:
    durations = record.get("duration_us")
    total = durations.get("total") if isinstance(durations, Mapping) else None
    return f"{total / 1000:.1f} ms" if isinstance(total, int | float) else ""


def _texts(value: object) -> Sequence[str]:
    return [_text(item) for item in value] if isinstance(value, list) else []
