"""The canonical form of a checked policy, and its version.

Rules: JSON with sorted keys and no white space; nothing in it depends on order, formatting, comments or on how grants
are split; everything in it can change a decision. Two policies with one version decide every request alike.
Not here: the schema's own fingerprint (model/schema.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from spangate.model.identity import SpiffeId
from spangate.model.policy import POLICY_VERSION_HEX_DIGITS, Grant, PolicyDatabase

# Changes when the meaning of the canonical form changes, so that a new meaning never wears an old version.
_FORM = 1


def canonical_form(
    trust_domain: str,
    databases: Mapping[str, PolicyDatabase],
    identities: Mapping[str, SpiffeId],
    grants: Iterable[Grant],
) -> str:
    """The policy as one line of JSON; equal exactly for equal policies."""
    columns: dict[str, dict[str, dict[str, dict[str, set[str]]]]] = {}
    for grant in grants:
        operations = columns.setdefault(grant.identity, {}).setdefault(grant.database, {})
        operations.setdefault(grant.operation.value, {}).setdefault(grant.table, set()).update(grant.columns)
    content = {
        "form": _FORM,
        "trust_domain": trust_domain,
        "databases": {
            alias: {"path": str(database.path), "schema": database.schema.fingerprint}
            for alias, database in databases.items()
        },
        "identities": {name: str(spiffe_id) for name, spiffe_id in identities.items()},
        "access": columns,
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"), default=sorted)


def policy_version(canonical: str) -> str:
    """The first 12 hex digits of SHA-256 over a canonical form."""
    return hashlib.sha256(canonical.encode()).hexdigest()[:POLICY_VERSION_HEX_DIGITS]
