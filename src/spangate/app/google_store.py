"""Google's trust store of an X.509 provider: what a rotation of the authority's root asks of whoever may change it.

Rules: nothing here talks to Google: what is to be in the store is written out, together with the command that puts it
there. The store takes three anchors (https://docs.cloud.google.com/iam/docs/workload-identity-federation-with-x509-certificates);
a rotation needs two.
Not here: waiting for it (authority/gate.py).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable

from spangate.errors import YourFault
from spangate.model.google import POOL, PROJECT_NUMBER, SubjectTokenType
from spangate.model.policy import Policy

# Its name in `spangate rotate --confirm`.
GOOGLE_STORE = "google"
CONFIG_FILE = "trust-store.json"
_PROVIDER = re.compile(
    rf"projects/({PROJECT_NUMBER})/locations/global/workloadIdentityPools/({POOL})/providers/({POOL})", re.ASCII
)


def check_provider(text: str) -> str:
    """`text`, if it is a provider's resource name or empty; else YourFault."""
    if text and not _PROVIDER.fullmatch(text):
        raise YourFault(
            f"`{text[:256]}` is not the name of a provider",
            help="projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER, with the number",
        )
    return text


def googles_own_store(policy: Policy | None) -> str:
    """The provider in whose store Google has the authority's root; nothing where tokens are shown, not certificates."""
    google = None if policy is None else policy.google
    if google is None or google.subject_token is not SubjectTokenType.MTLS:
        return ""
    return google.provider_name


def trust_store(roots: Iterable[str]) -> str:
    """The store's configuration with these roots (PEM), as gcloud takes it: JSON, which is YAML too."""
    anchors = [{"pemCertificate": root} for root in roots]
    return json.dumps({"trustStore": {"trustAnchors": anchors}}, indent=1)


def update_command(provider: str) -> str:
    """The command that puts CONFIG_FILE in force."""
    found = _PROVIDER.fullmatch(check_provider(provider))
    if found is None:
        raise YourFault("no X.509 provider is configured", help="spangate up --google-trust-store PROVIDER")
    project, pool, name = (shlex.quote(part) for part in found.groups())
    return (
        f"gcloud iam workload-identity-pools providers update-x509 {name} --project={project} --location=global "
        f"--workload-identity-pool={pool} --trust-store-config-path={CONFIG_FILE}"
    )
