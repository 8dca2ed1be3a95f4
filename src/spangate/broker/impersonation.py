"""Impersonation: a federated token becomes a service account's (generateAccessToken of IAM Credentials).

Rules: the project in the resource name is `-`, as the API wants it; the lifetime is at most an hour; the answer's end
is held against our own clock and against what was asked, so that a wrong clock never prolongs a token.
Source: discovery document of iamcredentials v1 (projects.serviceAccounts.generateAccessToken).
Not here: the exchange before (exchange.py), HTTP (adapters/).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from spangate.broker.answers import BadAnswer, Grant, access_token, json_object
from spangate.model.google import SERVICE_ACCOUNT, Impersonation

# RFC 3339 as Google writes it: always UTC, up to nine digits of a second.
_MOMENT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,9})?Z", re.ASCII)


def generate_path(impersonation: Impersonation) -> str:
    """The path of the call. Raises ValueError for what is no address of a service account."""
    if not re.fullmatch(SERVICE_ACCOUNT, impersonation.service_account, re.ASCII):
        raise ValueError(f"`{impersonation.service_account}` is not the address of a service account")
    return f"/v1/projects/-/serviceAccounts/{impersonation.service_account}:generateAccessToken"


def generate_body(impersonation: Impersonation, scopes: Sequence[str]) -> str:
    """The JSON body of the call."""
    content: dict[str, object] = {"scope": list(scopes), "lifetime": f"{impersonation.lifetime_seconds}s"}
    if impersonation.delegates:
        content["delegates"] = [f"projects/-/serviceAccounts/{one}" for one in impersonation.delegates]
    return json.dumps(content)


def read_generated(body: bytes, impersonation: Impersonation, now: datetime) -> Grant:
    """The service account's token of a 200 that came at `now` (aware). Raises BadAnswer."""
    answer = json_object(body)
    ends = answer.get("expireTime")
    match = _MOMENT.fullmatch(ends) if isinstance(ends, str) else None
    if match is None:
        raise BadAnswer("its `expireTime` is no moment")
    try:
        moment = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError:
        raise BadAnswer("its `expireTime` is no moment") from None
    left = (moment - now).total_seconds()
    if left <= 0:
        raise BadAnswer("its token has ended already; is this machine's clock right?")
    return Grant(access_token(answer.get("accessToken")), min(left, impersonation.lifetime_seconds))
