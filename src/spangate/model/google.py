"""How an installation is known to Google: workload identity pool, provider, and what its tokens are made into.

Rules: parsed once, at the door; nothing here is secret. Sources: the discovery documents of iam v1 (names of pools and
providers, `google.subject`) and iamcredentials v1 (lifetimes, delegates).
Not here: the exchange (broker/), the keys in the intent (intent/).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

# "google.subject: ... cannot exceed 127 bytes" (iam v1, WorkloadIdentityPoolProvider.attributeMapping).
SUBJECT_BYTES_MAX = 127
# "lifetime: ... the default and maximum is 1 hour" (iamcredentials v1, GenerateAccessTokenRequest).
IMPERSONATION_SECONDS_MAX = 3600
# A client library takes a token with less than 225 s left for stale and asks again for every call.
IMPERSONATION_SECONDS_MIN = 300
DATA_SCOPE = "https://www.googleapis.com/auth/spanner.data"
CLOUD_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
PROJECT_NUMBER = r"[1-9][0-9]{0,18}"
# 4 to 32 characters; `gcp-` at the beginning is Google's own.
POOL = r"(?!gcp-)[a-z0-9][a-z0-9-]{2,30}[a-z0-9]"
SERVICE_ACCOUNT = r"[a-z][a-z0-9-]{4,28}[a-z0-9]@[a-z][a-z0-9-]{4,28}[a-z0-9]\.iam\.gserviceaccount\.com"


class SubjectTokenType(Enum):
    """RFC 8693, section 3, and Google's `mtls`. The value is the word in the intent."""

    JWT = "jwt"
    ID_TOKEN = "id_token"  # noqa: S105 - a type, not a secret
    MTLS = "mtls"

    @property
    def urn(self) -> str:
        """As in `subject_token_type`."""
        return f"urn:ietf:params:oauth:token-type:{self.value}"


@dataclass(frozen=True, slots=True)
class Impersonation:
    """generateAccessToken for `service_account`, by way of `delegates` (e-mail addresses, in their order)."""

    service_account: str
    delegates: tuple[str, ...] = ()
    lifetime_seconds: int = IMPERSONATION_SECONDS_MAX


@dataclass(frozen=True, slots=True)
class GoogleFederation:
    """A provider of a workload identity pool, and what is asked of it. `project_number` in digits, not the id.

    `impersonation` is everybody's, unless the policy has one for the identity.
    """

    project_number: str
    pool: str
    provider: str
    subject_token: SubjectTokenType = SubjectTokenType.JWT
    scopes: tuple[str, ...] = (CLOUD_SCOPE,)
    impersonation: Impersonation | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for names that can be none."""
        if not re.fullmatch(PROJECT_NUMBER, self.project_number, re.ASCII):
            raise ValueError("the project number is not a number")
        for name in (self.pool, self.provider):
            if not re.fullmatch(POOL, name, re.ASCII):
                raise ValueError(f"`{name}` is not 4 to 32 lower-case letters, digits and dashes")

    @property
    def provider_name(self) -> str:
        """The provider's resource name."""
        return (
            f"projects/{self.project_number}/locations/global/workloadIdentityPools/{self.pool}"
            f"/providers/{self.provider}"
        )

    @property
    def audience(self) -> str:
        """What Google's token service takes as `audience` (sts v1)."""
        return f"//iam.googleapis.com/{self.provider_name}"

    @property
    def token_audience(self) -> str:
        """`aud` of subject tokens where the provider lists no audiences of its own (iam v1, allowedAudiences)."""
        return f"https://iam.googleapis.com/{self.provider_name}"
