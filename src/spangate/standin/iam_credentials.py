"""IAM Credentials: `generateAccessToken` for a service account, and the look-up of regions that client libraries make.

Rules (iamcredentials v1, IAM's predefined roles): the caller shows an access token with the scope `cloud-platform` or
`iam`; it, or any set it is in, holds a role on the service account that has `iam.serviceAccounts.getAccessToken`. With
delegates, each link of the chain but the last needs `iam.serviceAccounts.implicitDelegation`, which
`roles/iam.workloadIdentityUser` has not. One hour at most, twelve with the organisation's policy.
Not here: the tokens themselves (access_token.py), answers (answers.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from spangate.model.google import CLOUD_SCOPE, SERVICE_ACCOUNT
from spangate.standin import answers
from spangate.standin.access_token import Holder, TokenMint
from spangate.standin.answers import Answer
from spangate.standin.asked import Asked, read_json
from spangate.standin.certificates import fingerprint
from spangate.standin.config import ServiceAccount, StandInConfig
from spangate.standin.names import members
from spangate.standin.roles import DELEGATE, GET_TOKEN, ROLES_WITH, WORKLOAD_IDENTITY_USER
from spangate.standin.sts import holds

# The role that this service is mostly asked about goes with it.
__all__ = ["WORKLOAD_IDENTITY_USER", "IamCredentials"]

_METHOD = "google.iam.credentials.v1.IAMCredentials.GenerateAccessToken"
_CALLER_SCOPES = frozenset({CLOUD_SCOPE, "https://www.googleapis.com/auth/iam"})
LIFETIME_DEFAULT_SECONDS = 3600
HOURS_MAX = 1
EXTENDED_HOURS_MAX = 12
# Ours: chains of delegates have one or two.
DELEGATES_MAX = 16
SCOPES_MAX = 32
_NAME = re.compile(r"projects/([^/]+)/serviceAccounts/([^/]+)")
_LIFETIME = re.compile(r"([0-9]{1,9})(?:\.[0-9]{1,9})?s", re.ASCII)
_SCOPE = re.compile(r"https://www\.googleapis\.com/auth/[a-z0-9._/-]+|openid|email|profile", re.ASCII)


class IamCredentials:
    """The API, over a clock and a mint."""

    def __init__(self, mint: TokenMint, now: Callable[[], datetime], nonce: Callable[[], str]) -> None:
        self._mint = mint
        self._now = now
        self._nonce = nonce

    def generate_access_token(self, name: str, asked: Asked, config: StandInConfig) -> Answer:
        """A token for the service account `name`. Raises Refused."""
        now = self._now().replace(microsecond=0)
        caller = self._caller(asked, config, now)
        if not _CALLER_SCOPES.intersection(caller.scopes):
            raise answers.insufficient_scope(_METHOD)
        body = read_json(asked)
        more = sorted(body.keys() - {"delegates", "scope", "lifetime"})
        if more:
            raise answers.invalid_argument(
                f'Invalid JSON payload received. Unknown name "{more[0][:64]}": Cannot find field.'
            )
        email = _email(name)
        delegates = tuple(_email(one) for one in _texts(body, "delegates", DELEGATES_MAX))
        scopes = _scopes(body)
        lifetime = _lifetime(body, EXTENDED_HOURS_MAX if config.lifetime_extension else HOURS_MAX)
        behind = _permitted(caller, (*delegates, email), config)
        ends = now + lifetime
        holder = Holder(email, scopes, now, ends, account=email, behind=(*caller.behind, caller.name, *behind))
        return Answer(
            200,
            {
                "accessToken": self._mint.make(holder, self._nonce()),
                "expireTime": ends.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
        )

    def allowed_locations(self, name: str, asked: Asked, config: StandInConfig) -> Answer:
        """No boundary is set for any pool or account, which client libraries read from `0x0`. Raises Refused."""
        self._caller(asked, config, self._now())
        if name not in config.pools and _email(name) not in config.accounts:
            raise answers.permission_denied("iam.serviceAccounts.get")
        return Answer(200, {"locations": [], "encodedLocations": "0x0"})

    def _caller(self, asked: Asked, config: StandInConfig, now: datetime) -> Holder:
        if asked.authorization is None:
            raise answers.no_credentials()
        scheme, _, token = asked.authorization.partition(" ")
        holder = self._mint.read(token) if scheme.lower() == "bearer" else None
        if holder is None or not holds(holder, config, now):
            raise answers.bad_credentials()
        if holder.bound is not None and (asked.certificate is None or fingerprint(asked.certificate) != holder.bound):
            raise answers.bad_credentials()
        return holder


def _permitted(caller: Holder, chain: tuple[str, ...], config: StandInConfig) -> tuple[str, ...]:
    """The delegates passed through. Each holder of the chain may act for the next one. Raises Refused."""
    names = frozenset(members(caller.pool, caller.mapped)) if caller.pool and caller.mapped else frozenset()
    if caller.account is not None:
        names = frozenset({f"serviceAccount:{caller.account}"})
    for position, email in enumerate(chain):
        permission = GET_TOKEN if position == len(chain) - 1 else DELEGATE
        account = config.accounts.get(email)
        allowed = _allowed(account, permission) if account and not account.disabled else frozenset()
        if not names & allowed:
            raise answers.permission_denied(permission)
        names = frozenset({f"serviceAccount:{email}"})
    return chain[:-1]


def _allowed(account: ServiceAccount, permission: str) -> frozenset[str]:
    """Who has the permission on the account."""
    return frozenset(member for role in ROLES_WITH[permission] for member in account.bindings.get(role, ()))


def _email(name: str) -> str:
    """The address in a resource name, whose project is the wildcard."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise answers.invalid_argument(f"Invalid resource name `{name[:128]}`.")
    if match[1] != "-":
        # iamcredentials v1: "The `-` wildcard character is required; replacing it with a project ID is invalid."
        raise answers.invalid_argument("Invalid resource name: the project is not the wildcard `-`.")
    if not re.fullmatch(SERVICE_ACCOUNT, match[2], re.ASCII):
        raise answers.bad_account(match[2][:128])
    return match[2]


def _texts(body: Mapping[str, Any], key: str, most: int) -> list[str]:
    value = body.get(key, [])
    if not isinstance(value, list) or len(value) > most or not all(isinstance(one, str) for one in value):
        raise answers.invalid_argument(f"Invalid value at '{key}'.")
    return value


def _scopes(body: Mapping[str, Any]) -> tuple[str, ...]:
    scopes = _texts(body, "scope", SCOPES_MAX)
    if not scopes:
        raise answers.invalid_argument("Scope required.")
    if not all(_SCOPE.fullmatch(one) for one in scopes):
        raise answers.invalid_argument("Request contains an invalid argument.")
    return tuple(scopes)


def _lifetime(body: Mapping[str, Any], hours_max: int) -> timedelta:
    value = body.get("lifetime", f"{LIFETIME_DEFAULT_SECONDS}s")
    match = _LIFETIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise answers.invalid_argument("Invalid value at 'lifetime' (type.googleapis.com/google.protobuf.Duration).")
    seconds = int(match[1])
    if seconds == 0:
        raise answers.lifetime_not_positive()
    if seconds > hours_max * 3600:
        raise answers.lifetime_too_long(hours_max)
    return timedelta(seconds=seconds)
