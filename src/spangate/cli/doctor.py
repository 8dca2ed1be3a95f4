"""`spangate doctor` on a terminal, or as JSON: a line for each link.

Not here: the links (app/doctor/).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.text import Text

from spangate.app.doctor.walk import Finding, State, fine
from spangate.cli.shared import INTENT_FILE, AsOption, IntentOption, JsonOption, command, out

_COLOURS = {State.OK: "green", State.PROBLEM: "bold red", State.SKIPPED: "dim"}
_STATE_WIDTH = max(len(state) for state in State)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Examples: spangate doctor --as checkout; spangate doctor --as checkout --json")(command(doctor))


def doctor(identity: AsOption, intent: IntentOption = Path(INTENT_FILE), as_json: JsonOption = False) -> int:
    """Walk the whole chain for an identity and say what is wrong and what mends it. Exit code 1 if anything is."""
    # gRPC explains failed handshakes on stderr in words of its own.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from spangate.adapters.clock import SystemClock
    from spangate.app.doctor.chain import Chain
    from spangate.app.doctor.walk import walk
    from spangate.app.doctor.world import World

    world = World(intent)
    links = Chain(identity, world, SystemClock()).links()
    width = max(len(link.name) for link in links)
    found: list[Finding] = []
    try:
        for finding in walk(links):
            found.append(finding)
            if not as_json:
                for line in finding_lines(finding, width):
                    out.print(line)
    finally:
        world.farewell()
    out.print(json.dumps(findings_json(identity, found)) if as_json else summary(found))
    return 0 if fine(found) else 1


def finding_lines(finding: Finding, width: int) -> list[Text]:
    """The link's line, and for a problem below it what mends it."""
    start = f"{finding.state:<{_STATE_WIDTH}}  {finding.link:<{width}}  "
    first, *more = finding.sentence.splitlines() or [""]
    lines = [Text.assemble((start, _COLOURS[finding.state]), first)]
    lines += [Text(" " * len(start) + line) for line in more]
    for number, line in enumerate(finding.fix.splitlines()):
        lines.append(Text(" " * len(start) + ("fix: " if number == 0 else "     ") + line))
    return lines


def summary(found: Sequence[Finding]) -> str:
    """The last line."""
    broken = [finding.link for finding in found if finding.state is State.PROBLEM]
    if not broken:
        return "nothing is wrong"
    return f"broken: {', '.join(broken)}"


def findings_json(identity: str, found: Sequence[Finding]) -> dict[str, object]:
    """For programs."""
    return {
        "identity": identity,
        "fine": fine(found),
        "links": [
            {"link": each.link, "state": each.state.value, "sentence": each.sentence, "fix": each.fix} for each in found
        ],
    }
