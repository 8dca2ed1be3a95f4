"""The stand-in's configuration for one installation: what an operator would have set up at Google.

Rules: one pool with one provider, mapped as docs/google.md says: `google.subject` is the SPIFFE ID without the trust
domain, `attribute.spiffe_id` all of it; who may impersonate what follows from the intent and nothing else. Values in,
JSON values out (`parse_config` reads them).
Not here: starting anything (app/).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spangate.errors import Broken
from spangate.model.google import GoogleFederation, Impersonation, SubjectTokenType
from spangate.model.identity import SpiffeId, check_trust_domain
from spangate.standin.roles import TOKEN_CREATOR, WORKLOAD_IDENTITY_USER


def standin_config_for(
    federation: GoogleFederation,
    trust_domain: str,
    *,
    issuer: str = "",
    jwks_json: str = "",
    keys_at: str = "",
    anchors_pem: Sequence[str] = (),
    impersonations: Mapping[SpiffeId, Impersonation] | None = None,
) -> dict[str, Any]:
    """What `parse_config` takes, as JSON values.

    With tokens: `issuer`, and its keys as `jwks_json` or fetched at `keys_at` (`http://127.0.0.1:...`); with neither
    they are fetched from the issuer, which then is on loopback. With certificates: `anchors_pem`, one root in each.
    """
    check_trust_domain(trust_domain)
    mtls = federation.subject_token is SubjectTokenType.MTLS
    claim = "assertion.san.uri" if mtls else "assertion.sub"
    provider: dict[str, Any] = {
        "name": federation.provider,
        "attributeMapping": {
            "google.subject": f"{claim}.extract('spiffe://{trust_domain}/{{id}}')",
            "attribute.spiffe_id": claim,
        },
        "attributeCondition": f"{claim}.startsWith('spiffe://{trust_domain}/')",
    }
    if mtls:
        if not anchors_pem:
            raise Broken("a provider for certificates needs trust anchors")
        provider["x509"] = {"trustStore": {"trustAnchors": [{"pemCertificate": pem} for pem in anchors_pem]}}
    else:
        keys = {"jwksJson": jwks_json} if jwks_json else {"keysAt": keys_at} if keys_at else {}
        provider["oidc"] = {"issuerUri": issuer, **keys}
    pool = f"projects/{federation.project_number}/locations/global/workloadIdentityPools/{federation.pool}"
    return {
        "pools": [{"name": pool, "providers": [provider]}],
        "serviceAccounts": _accounts(pool, federation.impersonation, impersonations or {}),
    }


def _accounts(pool: str, everybody: Impersonation | None, of: Mapping[SpiffeId, Impersonation]) -> list[dict[str, Any]]:
    """Each account that is impersonated, on whose behalf ever, with the roles that takes."""
    roles: dict[str, dict[str, set[str]]] = {}
    wanted = [(f"principalSet://iam.googleapis.com/{pool}/*", everybody)] if everybody else []
    for identity, impersonation in of.items():
        subject = "/".join(identity.segments)
        wanted.append((f"principal://iam.googleapis.com/{pool}/subject/{subject}", impersonation))
    for member, impersonation in wanted:
        holder = member
        chain = (*impersonation.delegates, impersonation.service_account)
        for email in chain:
            # Whoever acts by way of a delegate needs more than the right to a token.
            role = WORKLOAD_IDENTITY_USER if len(chain) == 1 else TOKEN_CREATOR
            roles.setdefault(email, {}).setdefault(role, set()).add(holder)
            holder = f"serviceAccount:{email}"
    return [
        {
            "email": email,
            "bindings": [{"role": role, "members": sorted(members)} for role, members in sorted(by_role.items())],
        }
        for email, by_role in sorted(roles.items())
    ]
