"""What pods report at their door: which roots an Envoy in a pod trusts, and which its certificate is under.

    POST /v1/peers   {"instance", "trusts": ["<fingerprint>", ...], "uses": "<fingerprint>" or ""}
                     -> {"identity", "renew": true or false, "bundle": "<PEM>" or null, "again_ms": 1000}
    POST /v1/gone    {"instance"}: it has ended, and its private key with it -> {"identity"}

Both want the token of the pod, as everything that this door gives to somebody.

Rules: a pod speaks of itself and of nobody else. The name under which it is known here is made of the identity and the
pod that its token proves; only its last part, which tells programs of one pod apart, is the asker's word. Certificates
are asked for under the same names. Nobody takes more than a share of the names that there may be (pod_shares.py): a
certificate beyond it is nobody's by name, and counts until it has ended.
Not here: who asks (attest_door.py), what is concluded (authority/gate.py), reports on this machine (rotation_door.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from spangate.adapters.rotation_door import read_holding, seen_answer
from spangate.authority.ca import Authority
from spangate.authority.kubernetes_token import Attested
from spangate.authority.peers import Peers
from spangate.authority.pod_shares import NAMES_OF_POD_MAX, PodShares
from spangate.errors import TryAgain

KIND = "pod"
# As random as a name has to be (app/run.py), and room for others' ways to write it.
INSTANCE = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)
# Of the digest of a pod and its service account. Of one pod nobody finds two of one name; where it has no UUID, of all.
_DIGITS, _DIGITS_ALONE = 16, 32
# Kubernetes makes such; then people can find the pod by the name that is made of it.
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def pod_name(attested: Attested) -> str:
    """What all names of one pod and service account begin with, and no other's."""
    digest = hashlib.sha256(f"{attested.identity}\n{attested.pod_uid}".encode()).hexdigest()
    if not _UUID.fullmatch(attested.pod_uid):
        return f"pod:{digest[:_DIGITS_ALONE]}:"
    return f"pod:{attested.pod_uid}.{digest[:_DIGITS]}:"


def holder_of(attested: Attested, instance: object) -> str | None:
    """The name of a program in a pod; None if `instance` cannot be one."""
    if not isinstance(instance, str) or not INSTANCE.fullmatch(instance):
        return None
    return pod_name(attested) + instance


class PodReports:
    """Tells the authority's peers what pods say of themselves. Any thread may use it."""

    def __init__(self, authority: Authority, peers: Peers, shares: PodShares) -> None:
        self._authority = authority
        self._peers = peers
        self._shares = shares

    def holder(self, attested: Attested, instance: object) -> str | None:
        """The name under which a certificate for `instance` is recorded: none beyond the pod's share; None if it cannot
        be a name. Raises TryAgain.
        """
        holder = holder_of(attested, instance)
        if holder is None or self._shares.takes_name(pod_name(attested), holder):
            return holder
        return ""

    def give(self, attested: Attested) -> None:
        """Counts what the pod is given. Raises TryAgain beyond its share."""
        self._shares.give(pod_name(attested))

    def seen(self, attested: Attested, asked: Mapping[str, Any]) -> dict[str, object] | None:
        """What the pod is to do; None for a report that cannot be read. Raises TryAgain, and what Peers.seen raises."""
        holder, held = holder_of(attested, asked.get("instance")), read_holding(asked)
        if holder is None or held is None or set(asked) != {"instance", "trusts", "uses"}:
            return None
        if not self._shares.takes_name(pod_name(attested), holder):
            raise TryAgain(f"more than {NAMES_OF_POD_MAX} programs of this pod have been here within the hour")
        identity = str(attested.identity)
        wanted = self._peers.seen(holder, identity, kind=KIND, trusts=held.trusts, uses=held.uses)
        return {"identity": identity, **seen_answer(self._authority, wanted)}

    def gone(self, attested: Attested, asked: Mapping[str, Any]) -> dict[str, object] | None:
        """Notes that it has ended; None for a request that cannot be read. Raises what Peers.gone raises."""
        holder = holder_of(attested, asked.get("instance"))
        if holder is None or set(asked) != {"instance"}:
            return None
        self._peers.gone(holder)
        self._shares.gone(pod_name(attested), holder)
        return {"identity": str(attested.identity)}
