"""How `spangate rotate` shows a rotation."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from spangate.adapters.state import Running
from spangate.app.google_store import CONFIG_FILE, GOOGLE_STORE, trust_store, update_command
from spangate.app.rotate import STEADY, abandon, begin, confirm, running_at, status, watch
from spangate.errors import YourFault

_MEANING: Mapping[str, str] = {
    "STEADY": "one root is trusted, and signs",
    "NEW_ROOT_TRUSTED": "1 of 3: the new root is trusted beside the old one, which signs",
    "NEW_ROOT_SIGNS": "2 of 3: the new root signs; the old one is still trusted",
    "OLD_ROOT_RETIRED": "3 of 3: the new root alone is trusted",
    "OLD_ROOT_SIGNS_AGAIN": "turning back: the old root signs again; the new one is still trusted",
    "NEW_ROOT_DROPPED": "turning back: the old root alone is trusted",
}
_EVERY = re.compile(r"([1-9][0-9]{0,4})([smhd])", re.ASCII)
_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
# More names than fit a screen help nobody; --json has all.
_WAITS_SHOWN = 12
NEVER = "never"


def rotate_every(text: str) -> timedelta | None:
    """What `--rotate-every` says: `90d`, `12h`, `30m`, or `never`."""
    if text == NEVER:
        return None
    found = _EVERY.fullmatch(text)
    if found is None:
        raise YourFault(f"`--rotate-every {text}` is no time", help="for example 90d, 12h, or never")
    return int(found[1]) * _UNITS[found[2]]


def rotate_command(
    out: Console,
    err: Console,
    intent: Path,
    *,
    show: bool,
    turn_back: bool,
    store: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """One of: begin and watch, show, turn back, confirm."""
    if show + turn_back + (store is not None) > 1:
        raise YourFault("give one of --status, --abandon and --confirm")
    running = running_at(intent)
    if show:
        _print(out, running, status(running), as_json)
        return
    if store is not None:
        _print(out, running, confirm(running, store), as_json)
        return
    found = abandon(running) if turn_back else begin(running)
    if wait:
        found = _watched(out, err, running, found, as_json)
    _print(out, running, found, as_json)


def _watched(
    out: Console, err: Console, running: Running, found: Mapping[str, Any], as_json: bool
) -> Mapping[str, Any]:
    """A moving line on a terminal, a line for each phase elsewhere."""
    told = ""
    asked = ""
    with err.status(_line(found)) as moving:

        def shown(now: Mapping[str, Any]) -> None:
            nonlocal told, asked
            moving.update(_line(now))
            phase = str(now["phase"])
            if phase != told and not err.is_terminal:
                err.print(f"- {_line(now)}")
            told = phase
            if phase != asked and any(not one["confirmed"] for one in now["stores"]) and not as_json:
                asked = phase
                for line in _store_lines(running, now):
                    out.print(line)

        shown(found)
        return watch(running, shown)


def _line(found: Mapping[str, Any]) -> str:
    phase = str(found["phase"])
    waits = found["waits"]
    waiting = f"; waits for {waits[0]['who']}: {waits[0]['why']}" if waits else ""
    more = f" (and {found['waiting'] - 1} more)" if found["waiting"] > 1 else ""
    return f"{phase}: {_MEANING.get(phase, '')}{waiting}{more}"


def _print(out: Console, running: Running, found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        # Not by the console, which could wrap it.
        sys.stdout.write(json.dumps(found) + "\n")
        return
    phase = str(found["phase"])
    out.print(f"{phase}: {_MEANING.get(phase, '')} (since {found['since']}, {found['peers']} peers)")
    for root in found["roots"]:
        signs = "trusted, signs" if root["signs"] else "trusted"
        out.print(f"  root {root['number']}  {root['fingerprint'][:16]}  {signs}, until {root['not_after']}")
    for one in found["let_go"]:
        out.print(f"  root {one['number']}  {one['fingerprint'][:16]}  not trusted any more")
    if found["next"] is not None:
        out.print(f"  the next rotation begins by itself at {found['next']}")
    waits = found["waits"]
    for wait in waits[:_WAITS_SHOWN]:
        until = f" (until {wait['until']} at the latest)" if wait["until"] else ""
        out.print(f"  waits for {wait['who']}: {wait['why']}{until}")
    if found["waiting"] > _WAITS_SHOWN:
        out.print(f"  and for {found['waiting'] - _WAITS_SHOWN} more: --json names {len(waits)}")
    if phase != STEADY:
        for line in _store_lines(running, found):
            out.print(line)


def _store_lines(running: Running, found: Mapping[str, Any]) -> list[str]:
    """What somebody has to do by hand."""
    if not any(one["name"] == GOOGLE_STORE and not one["confirmed"] for one in found["stores"]):
        return []
    return [
        f"  Google's trust store has to hold exactly these anchors. Save as {CONFIG_FILE}:",
        trust_store(root["pem"] for root in found["roots"]),
        "  then run:",
        f"    {update_command(running.google_trust_store)}",
        f"    spangate rotate --confirm {GOOGLE_STORE}",
    ]
