"""The authority's door for its peers and for rotations: routes beside those of svid_door.py, over the same socket.

    POST /peers     {"instance", "identity", "kind", "trusts": ["<fingerprint>", ...], "uses": "<fingerprint>" or ""}
                    and perhaps "met": how many requests a gateway has met under a root that is on its way out
                    -> {"renew": true or false, "bundle": "<PEM>" or null, "again_ms": 1000}
    POST /gone      {"instance"}: it has ended, and its private key with it -> {}
    GET  /rotation  -> where a rotation stands
    POST /rotation  {"do": "begin" | "abandon" | "confirm"}, with "store" for the last -> where it stands then
    an error        as in svid_door.py

Rules: who reports is believed about itself (the door lets in the own user only), but nobody speaks for Spangate's own
identities through the operator's door, and through that of Spangate's own processes they alone report.
Not here: what is concluded (authority/gate.py), the commands (app/rotate.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spangate.adapters.door_answers import answering, error_response
from spangate.adapters.gateway_usage import GatewayUsage
from spangate.adapters.holdings import Holding
from spangate.authority.ca import Authority
from spangate.authority.ledger import Life
from spangate.authority.peers import RESERVED_INSTANCES, TRUSTS_MAX, Peers, Wanted
from spangate.authority.rotator import Rotator, Status
from spangate.model.identity import SPIFFE_ID_BYTES_MAX

# A report of the longest kind: 256 fingerprints, a SPIFFE ID of two kilobytes.
BODY_BYTES_MAX = 32 * 1024
# Of those who are waited for, so many are named: nobody reads more, and each may have the longest SPIFFE ID.
WAITS_MAX = 200
# Those, and some roots.
STATUS_BYTES_MAX = 1024 * 1024
_FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.ASCII)
_INSTANCE = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_KIND = re.compile(r"[A-Za-z ]{1,32}", re.ASCII)
_REPORT = {"instance": str, "identity": str, "kind": str, "trusts": list, "uses": str}
# The process of whoever asks; None if it is not known.
AskersLife = Callable[[Request], Life | None]


def peer_routes(
    authority: Authority,
    peers: Peers,
    *,
    only: Collection[str] | None = None,
    never: Collection[str] = (),
    usage: GatewayUsage | None = None,
    life: AskersLife = lambda _: None,
) -> list[Route]:
    """For reports. `only` or `never`: the identities that may be spoken for. `life` tells of the asker's process."""

    def seen(body: bytes, request: Request) -> Response:
        report = _report(body)
        if report is None:
            return error_response(400, "the report cannot be read")
        identity, instance = report["identity"], report["instance"]
        if identity in never or (only is not None and identity not in only):
            return error_response(403, f"nobody reports for `{identity[:256]}` here")
        if only is None and instance in RESERVED_INSTANCES:
            return error_response(403, f"nobody reports as `{instance}` here")
        wanted = peers.seen(
            instance,
            identity,
            kind=report["kind"],
            trusts=frozenset(report["trusts"]),
            uses=report["uses"],
            life=life(request),
        )
        if usage is not None and "met" in report:
            usage.told(report["met"])
        return JSONResponse(seen_answer(authority, wanted))

    def gone(body: bytes, _: Request) -> Response:
        asked = _object(body)
        if asked is None or set(asked) != {"instance"} or not _matches(_INSTANCE, asked["instance"]):
            return error_response(400, "the request is not a JSON object of the text `instance`")
        if only is None and asked["instance"] in RESERVED_INSTANCES:
            return error_response(403, f"nobody speaks for `{asked['instance']}` here")
        peers.gone(asked["instance"])
        return JSONResponse({})

    return [
        Route("/peers", answering(seen, BODY_BYTES_MAX), methods=["POST"]),
        Route("/gone", answering(gone, BODY_BYTES_MAX), methods=["POST"]),
    ]


def rotation_routes(rotator: Rotator) -> list[Route]:
    """For whoever looks at rotations, begins them, turns back, or confirms."""

    def show(_body: bytes, _request: Request) -> Response:
        return JSONResponse(status_json(rotator.status()))

    def act(body: bytes, _: Request) -> Response:
        asked = _object(body) or {}
        what = asked.get("do")
        store = asked.get("store")
        if what == "begin" and set(asked) == {"do"}:
            rotator.begin()
        elif what == "abandon" and set(asked) == {"do"}:
            rotator.abandon()
        elif what == "confirm" and set(asked) == {"do", "store"} and isinstance(store, str):
            rotator.confirm(store)
        else:
            return error_response(400, "the request asks for nothing that a rotation does")
        return JSONResponse(status_json(rotator.status()))

    return [
        Route("/rotation", answering(show, BODY_BYTES_MAX), methods=["GET"]),
        Route("/rotation", answering(act, BODY_BYTES_MAX), methods=["POST"]),
    ]


def seen_answer(authority: Authority, wanted: Wanted) -> dict[str, object]:
    """What a peer is told to do."""
    bundle = authority.bundle_pem() if wanted.bundle else None
    return {"renew": wanted.renew, "bundle": bundle, "again_ms": int(wanted.again.total_seconds() * 1000)}


def read_holding(asked: Mapping[str, Any]) -> Holding | None:
    """What a report says is trusted and used; None if that cannot be read."""
    trusts, uses = asked.get("trusts"), asked.get("uses")
    if not isinstance(trusts, list) or not isinstance(uses, str) or len(trusts) > TRUSTS_MAX:
        return None
    if not all(_matches(_FINGERPRINT, one) for one in trusts) or (uses and not _matches(_FINGERPRINT, uses)):
        return None
    return Holding(frozenset(trusts), uses)


def status_json(status: Status) -> dict[str, object]:
    """As `spangate rotate --status --json` prints it."""
    return {
        "phase": status.phase.value,
        "since": _moment(status.since),
        "revision": status.revision,
        "roots": [
            {
                "number": one.number,
                "fingerprint": one.fingerprint,
                "name": one.name,
                "not_before": _moment(one.not_before),
                "not_after": _moment(one.not_after),
                "signs": one.signs,
                "pem": one.pem,
            }
            for one in status.roots
        ],
        "let_go": [
            {"number": one.number, "fingerprint": one.fingerprint, "until": _moment(one.until)} for one in status.let_go
        ],
        "waits": [
            {"who": one.who, "why": one.why, "until": None if one.until is None else _moment(one.until)}
            for one in status.waits[:WAITS_MAX]
        ],
        "waiting": len(status.waits),
        "peers": status.peers,
        "next": None if status.next is None else _moment(status.next),
        "stores": [{"name": name, "confirmed": confirmed} for name, confirmed in status.stores],
    }


def _report(body: bytes) -> Mapping[str, Any] | None:
    """A report in which everything is as it has to be, or None."""
    found = _object(body)
    if found is None or set(found) - {"met"} != set(_REPORT):
        return None
    if not all(isinstance(found[name], kind) for name, kind in _REPORT.items()):
        return None
    met = found.get("met", 0)
    if len(found["identity"]) > SPIFFE_ID_BYTES_MAX or read_holding(found) is None:
        return None
    if not isinstance(met, int) or isinstance(met, bool) or met < 0:
        return None
    return found if _matches(_INSTANCE, found["instance"]) and _matches(_KIND, found["kind"]) else None


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _matches(pattern: re.Pattern[str], text: object) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
