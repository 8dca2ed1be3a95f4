"""Google as the contract sees it: two addresses, and what was set up there."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import requests
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fakes.google import exchange_fields
from fakes.standin import StandInProcess
from spangate.model.google import CLOUD_SCOPE

PATIENCE_SECONDS = 30
MTLS = "urn:ietf:params:oauth:token-type:mtls"


@dataclass
class Mtls:
    """The same for client certificates. `root`: what the server is verified by, None for the usual roots."""

    sts: str
    audience: str
    chain: Path
    key: Path
    root: Path | None = None

    def exchange(self, chain: Path | None = None, key: Path | None = None, *, token: str | None = None) -> Any:
        """The answer to a certificate, the configured one unless another is given."""
        chain, key = chain or self.chain, key or self.key
        if token is None:
            token = chain_token(chain)
        fields = {**exchange_fields(token), "audience": self.audience, "subject_token_type": MTLS}
        return requests.post(
            f"{self.sts}/v1/token",
            json=fields,
            timeout=PATIENCE_SECONDS,
            cert=(str(chain), str(key)),
            verify=str(self.root) if self.root else True,
        )


@dataclass
class Google:
    """Where Google is, and what it was set up with. `standin` is None for the real one."""

    sts: str
    iam: str
    audience: str
    issuer: str
    key: Any
    algorithm: str
    key_id: str
    subject: str
    account: str
    unbound: str
    mtls: Mtls | None = None
    standin: StandInProcess | None = None

    def token(self, **changes: Any) -> str:
        """A subject token, good but for the changes; None leaves a claim out. `headers` changes the header."""
        headers = {"kid": self.key_id, **changes.pop("headers", {})}
        key, algorithm = changes.pop("key", self.key), changes.pop("algorithm", self.algorithm)
        moment = int(datetime.now(UTC).timestamp())
        claims = {
            "iss": self.issuer,
            "sub": self.subject,
            "aud": f"https:{self.audience}",
            "iat": moment,
            "exp": moment + 300,
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key, algorithm=algorithm, headers=headers)

    def exchange(
        self, token: str, *, form: bool = True, headers: Mapping[str, str] | None = None, **changes: Any
    ) -> Any:
        """The answer of the token service."""
        fields = {**exchange_fields(token), "audience": self.audience, **changes}
        fields = {name: value for name, value in fields.items() if value is not None}
        sent: dict[str, Any] = {"data": fields} if form else {"json": fields}
        return requests.post(f"{self.sts}/v1/token", timeout=PATIENCE_SECONDS, headers=headers, **sent)

    def access_token(self, **changes: Any) -> str:
        answer = self.exchange(self.token(**changes))
        assert answer.status_code == 200, answer.json().get("error")
        return str(answer.json()["access_token"])

    def generate(self, access_token: str | None, account: str | None = None, project: str = "-", **body: Any) -> Any:
        """The answer of IAM Credentials."""
        path = f"/v1/projects/{project}/serviceAccounts/{account or self.account}:generateAccessToken"
        headers = {"authorization": f"Bearer {access_token}"} if access_token else {}
        content = {"scope": [CLOUD_SCOPE], **body}
        return requests.post(f"{self.iam}{path}", timeout=PATIENCE_SECONDS, headers=headers, json=content)


def error_of(answer: Any) -> tuple[int, str, str]:
    """Status, error and description of the token service, or status, name and message of IAM."""
    body = json.loads(answer.text)
    error = body["error"]
    if isinstance(error, dict):
        return answer.status_code, error["status"], error["message"]
    return answer.status_code, error, body["error_description"]


def chain_token(chain: Path) -> str:
    """A chain in PEM as `subject_token`."""
    found = x509.load_pem_x509_certificates(chain.read_bytes())
    return json.dumps([base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in found])
