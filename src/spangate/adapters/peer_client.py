"""The peer's side of the authority's door: reports, goodbyes, and rotations.

Rules: what the authority answers is held against what it may be, before anybody acts on it.
Not here: when to report and what follows (peer_reports.py), the door (rotation_door.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spangate.adapters.holdings import Holding
from spangate.adapters.peer_reports import Answer
from spangate.adapters.rotation_door import STATUS_BYTES_MAX
from spangate.adapters.svid_client import SvidClient
from spangate.errors import PeersFault
from spangate.model.identity import SpiffeId


@dataclass(frozen=True, slots=True)
class Peer:
    """Who reports: `instance` is this running program, `kind` what people call it. Who only trusts has no identity, but
    a word for people.
    """

    instance: str
    identity: SpiffeId | str
    kind: str


def report(client: SvidClient, peer: Peer, held: Holding, met: int | None = None) -> Answer:
    """Tells what `peer` holds; `met`: a gateway's counter. Raises what SvidClient.fetch raises."""
    body: dict[str, object] = {
        "instance": peer.instance,
        "identity": str(peer.identity),
        "kind": peer.kind,
        "trusts": sorted(held.trusts),
        "uses": held.uses,
    }
    return read_answer(client.ask("POST", "/peers", body if met is None else {**body, "met": met}))


def read_answer(answer: Mapping[str, Any]) -> Answer:
    """What a peer is to do. Raises PeersFault."""
    renew, bundle, again = answer.get("renew"), answer.get("bundle"), answer.get("again_ms")
    if not isinstance(renew, bool) or not (bundle is None or isinstance(bundle, str)):
        raise PeersFault("the authority's answer to a report cannot be read")
    if not isinstance(again, int) or isinstance(again, bool):
        raise PeersFault("the authority's answer to a report has no time")
    return Answer(renew, bundle, again / 1000)


def gone(client: SvidClient, peer: Peer) -> None:
    """It has ended, and its private key with it. Raises what SvidClient.fetch raises."""
    client.ask("POST", "/gone", {"instance": peer.instance})


def rotation(client: SvidClient) -> Mapping[str, Any]:
    """Where a rotation stands. Raises what SvidClient.fetch raises."""
    return client.ask("GET", "/rotation", None, bytes_max=STATUS_BYTES_MAX)


def rotate(client: SvidClient, what: str, store: str | None = None) -> Mapping[str, Any]:
    """`begin`, `abandon`, or `confirm` a trust store; where it stands then. Raises what SvidClient.fetch raises."""
    asked = {"do": what} if store is None else {"do": what, "store": store}
    return client.ask("POST", "/rotation", asked, bytes_max=STATUS_BYTES_MAX)
