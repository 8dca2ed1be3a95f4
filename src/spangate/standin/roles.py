"""IAM's predefined roles, as far as impersonation needs them, and what each one allows.

Source: IAM's list of roles and permissions.
Not here: who holds which (config.py), what is asked for (iam_credentials.py).
"""

from __future__ import annotations

from collections.abc import Mapping

GET_TOKEN = "iam.serviceAccounts.getAccessToken"  # noqa: S105 - a permission, not a secret
DELEGATE = "iam.serviceAccounts.implicitDelegation"
WORKLOAD_IDENTITY_USER = "roles/iam.workloadIdentityUser"
TOKEN_CREATOR = "roles/iam.serviceAccountTokenCreator"  # noqa: S105 - a role, not a secret
ROLES_WITH: Mapping[str, frozenset[str]] = {
    GET_TOKEN: frozenset({WORKLOAD_IDENTITY_USER, TOKEN_CREATOR}),
    DELEGATE: frozenset({TOKEN_CREATOR}),
}
