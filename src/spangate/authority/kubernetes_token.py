"""A Kubernetes projected service account token -> the workload's SPIFFE ID.

Rules: signed by the cluster's own key, with RS256 or ES256; issued by the cluster's issuer to our audience and to no
other, so that a token that somebody else was shown is of no use here, nor ours to them; bound to a pod and short-lived:
the old kind from Secrets, which never end, is refused. `sub`, namespace and service account must agree.
Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
Not here: getting the cluster's keys (adapters/), giving a certificate for it (adapters/svid_door.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from spangate.authority.jwt_reader import BadToken, read_token
from spangate.authority.jwt_verify import check_audience, check_times, verify
from spangate.errors import YourFault
from spangate.model.identity import BadSpiffeId, SpiffeId

# What the kubelet projects has an hour by default; it extends a token that old programs hold to a year, but not one
# that names its audience.
LIFETIME_MAX = timedelta(days=1)
# istiod takes tokens of this audience for certificates: whoever is shown one could speak for the workload there.
ISTIOS_AUDIENCE = "istio-ca"
_ALGORITHMS = frozenset({"RS256", "ES256"})
_CLAIMS = "kubernetes.io"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Whose tokens are taken: `issuer` as in `iss`, and the one audience that is ours."""

    issuer: str
    audience: str

    def __post_init__(self) -> None:
        """Raises YourFault for Istio's audience."""
        if self.audience == ISTIOS_AUDIENCE:
            raise YourFault(
                f"the audience `{ISTIOS_AUDIENCE}` is istiod's: a token for it could be shown to istiod, too",
                help="project a second token with an audience of its own",
            )


@dataclass(frozen=True, slots=True)
class Attested:
    """The workload, the pod that its token is bound to, and when the token ends.

    `digest` tells tokens apart. It is of what was signed: of one content there may be several signatures that hold.
    """

    identity: SpiffeId
    pod_uid: str
    expires_at: datetime
    digest: str


def attest(
    token: str, cluster: Cluster, keys: Sequence[Mapping[str, Any]], *, trust_domain: str, now: datetime
) -> Attested:
    """Whom `token` speaks for, by the cluster's `keys` (JWKs). Raises BadToken."""
    read = read_token(token)
    verify(read, keys, algorithms=_ALGORITHMS, uses=frozenset({"sig"}))
    claims = read.claims
    if claims.get("iss") != cluster.issuer:
        raise BadToken("it is from another issuer")
    if check_audience(claims, cluster.audience) != (cluster.audience,):
        raise BadToken("it is for other audiences too, who could show it here")
    _, ends = check_times(claims, now, life_max=LIFETIME_MAX)
    bound = _mapping(claims, _CLAIMS)
    namespace = bound.get("namespace")
    account = _mapping(bound, "serviceaccount").get("name")
    pod_uid = _mapping(bound, "pod").get("uid")
    if not isinstance(namespace, str) or not isinstance(account, str) or not isinstance(pod_uid, str) or not pod_uid:
        raise BadToken("it is not bound to a pod: only projected tokens are taken")
    if claims.get("sub") != f"system:serviceaccount:{namespace}:{account}":
        raise BadToken("its subject is not the service account that it names")
    try:
        identity = SpiffeId.workload(trust_domain, namespace, account)
    except BadSpiffeId as error:
        raise BadToken(f"its names make no SPIFFE ID: {error}") from None
    signed, _, _ = token.rpartition(".")
    return Attested(identity, pod_uid, ends, hashlib.sha256(signed.encode("ascii")).hexdigest())


def _mapping(claims: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = claims.get(name)
    return value if isinstance(value, dict) else {}
