"""What these tests share: reading what cases print, and what a denial must be to whoever meets it."""

from __future__ import annotations

import json
import time
from typing import Any

from e2e.harness import Audit, eventually
from spangate.model.identity import SpiffeId

# A client that tried again and again would back off for longer than this.
AT_ONCE_SECONDS = 10.0
# The Node.js client asks three times for every query that fails, Python's twice (inline begin, then BeginTransaction),
# whatever the error; Spanner itself is asked as often.
ASKS_MAX = 3
# The audit is written behind the requests; a line that has not come by then is not to come.
QUIET_SECONDS = 1.0


def printed(text: str) -> dict[str, Any]:
    """What the cases printed, by their name: what each found, or its error."""
    found = {}
    for line in text.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            found[entry["case"]] = entry.get("found", entry.get("error"))
    return found


def workload(name: str) -> SpiffeId:
    return SpiffeId.workload("post.example", "post", name)


def denials_of(audit: Audit, name: str, count: int) -> list[dict[str, Any]]:
    """The denied requests of an identity, for `count` things that it tried: no client may go on trying."""

    def denied() -> list[dict[str, Any]]:
        return [line for line in audit.lines(workload(name)) if line["decision"] != "allow"]

    eventually(lambda: len(denied()) >= count, f"{count} denials of {name}", 10)
    time.sleep(QUIET_SECONDS)
    found = denied()
    assert count <= len(found) <= ASKS_MAX * count, [(line["rpc"], line["detail"], line["missing"]) for line in found]
    return found


def check_denial(told: dict[str, Any], denials: list[dict[str, Any]]) -> None:
    """The message names the identity, and the decision that `spangate explain` explains."""
    assert "spangate: `guest`" in told["message"], told
    assert "missing-grant" in told["message"], told
    assert [line for line in denials if line["decision_id"] in told["message"]], told
    assert told["seconds"] < AT_ONCE_SECONDS, told
