"""Token exchange (RFC 8693) as Google's token service has it: `POST /v1/token`, and `POST /v1/introspect`.

Rules: checked in the order parameters, audience, credential, condition, mapping; whatever is not taken is refused. The
token lives as long as the subject token, one hour at most (measured: min(exp - now, 3600), never longer).
Differences that are known: no workforce pools, AWS, SAML, actors or access boundaries; introspection takes no client's
password.
Source: sts v1 (discovery document, October 2026) and measurements of September 2026; texts in answers.py.
Not here: JWTs (id_token.py), certificates (certificates.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from spangate.model.google import SubjectTokenType
from spangate.standin import answers
from spangate.standin.access_token import Holder, TokenMint
from spangate.standin.answers import Answer
from spangate.standin.asked import Asked, read_fields, unquoted
from spangate.standin.certificates import fingerprint, verify_certificates
from spangate.standin.config import Pool, Provider, StandInConfig
from spangate.standin.id_token import Keys, verify_id_token
from spangate.standin.mapping import Mapped, TooLong, Unmapped
from spangate.standin.names import default_audiences, principal, read_audience

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type, not a secret
LIFETIME_MAX = timedelta(hours=1)
SCOPES_MAX = 32
OPTIONS_CHARACTERS_MAX = 4 * 1024 * 1024
_SCOPE = re.compile(r"https://www\.googleapis\.com/auth/[a-z0-9._/-]+|openid|email|profile", re.ASCII)
_OPTIONS = frozenset({"userProject", "accessBoundary", "bindCertFingerprint"})
# sts v1: "43 characters", unpadded base64 of SHA-256.
_FINGERPRINT = re.compile(r"[A-Za-z0-9+/_-]{43}", re.ASCII)
_KINDS = {one.urn: one for one in SubjectTokenType}


@dataclass(frozen=True, slots=True)
class _Wish:
    """A request for a token, its parameters read."""

    pool: str
    provider: str
    scopes: tuple[str, ...]
    kind: SubjectTokenType
    token: str
    bound: str | None


class TokenService:
    """The exchange, over a configuration, a clock, the issuers' keys and a mint."""

    def __init__(self, mint: TokenMint, now: Callable[[], datetime], nonce: Callable[[], str], keys: Keys) -> None:
        self._mint = mint
        self._now = now
        self._nonce = nonce
        self._keys = keys

    def exchange(self, asked: Asked, config: StandInConfig) -> Answer:
        """An access token for a subject token. Raises Refused."""
        if asked.authorization is not None:
            # sts v1: no Authorization header with this request; Google's front end answers in its own form.
            raise answers.bad_credentials()
        wish = _read_wish(read_fields(asked), asked.certificate)
        pool = config.pools.get(wish.pool)
        provider = pool.providers.get(wish.provider) if pool else None
        if pool is None or provider is None or pool.disabled or provider.disabled:
            raise answers.no_target()
        now = self._now().replace(microsecond=0)
        claims, ends = self._believed(wish, pool, provider, asked.certificate, now)
        mapped = _mapped(provider, claims)
        ends = min(ends, now + LIFETIME_MAX)
        name = principal(pool.name, mapped.subject)
        holder = Holder(name, wish.scopes, now, ends, mapped, pool.name, bound=wish.bound)
        return Answer(
            200,
            {
                "access_token": self._mint.make(holder, self._nonce()),
                "issued_token_type": ACCESS_TOKEN,
                "token_type": "Bearer",
                "expires_in": max(1, int((ends - now).total_seconds())),
            },
        )

    def _believed(
        self, wish: _Wish, pool: Pool, provider: Provider, certificate: bytes | None, now: datetime
    ) -> tuple[Mapping[str, Any], datetime]:
        """The credential's claims, and when it ends."""
        if wish.kind is SubjectTokenType.MTLS:
            if provider.trust is None:
                raise answers.invalid_value("subject_token_type")
            return verify_certificates(wish.token, provider.trust, certificate, now)
        if provider.oidc is None:
            raise answers.invalid_value("subject_token_type")
        allowed = frozenset(provider.oidc.allowed_audiences) or default_audiences(pool, provider.id)
        token = verify_id_token(wish.token, provider.oidc, allowed, now, self._keys)
        return token.claims, token.ends

    def introspect(self, asked: Asked, config: StandInConfig) -> Answer:
        """Whose token that is, for tests: the fields of sts v1, and `behind`, which is ours. Raises Refused."""
        holder = self._mint.read(read_fields(asked).get("token", ""))
        if holder is None or not holds(holder, config, self._now()):
            return Answer(200, {"active": False})
        return Answer(
            200,
            {
                "active": True,
                "iss": "https://sts.googleapis.com/",
                "sub": holder.mapped.subject if holder.mapped else holder.name,
                "username": holder.name,
                "scope": " ".join(holder.scopes),
                "iat": int(holder.issued.timestamp()),
                "exp": int(holder.ends.timestamp()),
                "behind": list(holder.behind),
            },
        )


def holds(holder: Holder, config: StandInConfig, now: datetime) -> bool:
    """Whether a token is good now. A disabled or deleted pool ends its tokens; a disabled provider does not."""
    if now >= holder.ends:
        return False
    if holder.pool is None:
        return True
    pool = config.pools.get(holder.pool)
    return pool is not None and not pool.disabled


def _mapped(provider: Provider, claims: Mapping[str, Any]) -> Mapped:
    """Who that is to Google. The condition is asked first, also where no subject is found (measured)."""
    problem: Unmapped | TooLong | None = None
    mapped: Mapped | None = None
    try:
        mapped = provider.mappings.map(claims)
    except (Unmapped, TooLong) as error:
        problem = error
    if provider.condition is not None and not provider.condition.is_met(claims, mapped):
        raise answers.rejected_by_condition()
    if isinstance(problem, TooLong):
        raise answers.too_long_attribute(problem.name, problem.bytes_max)
    if mapped is None:
        raise answers.no_subject()
    return mapped


def _read_wish(fields: Mapping[str, str], certificate: bytes | None) -> _Wish:
    if fields.get("grant_type") != EXCHANGE:
        raise answers.invalid_value("grant_type")
    target = read_audience(fields.get("audience", ""))
    if target is None:
        raise answers.invalid_audience()
    if fields.get("requested_token_type") != ACCESS_TOKEN:
        raise answers.invalid_value("requested_token_type")
    kind = _KINDS.get(fields.get("subject_token_type", ""))
    if kind is None:
        raise answers.invalid_value("subject_token_type")
    token = fields.get("subject_token", "")
    if not token:
        raise answers.invalid_value("subject_token")
    if "actor_token" in fields or "actor_token_type" in fields:
        raise answers.invalid_value("actor_token")
    bound = _read_options(fields.get("options", ""), certificate)
    return _Wish(*target, _read_scopes(fields.get("scope", "")), kind, token, bound)


def _read_scopes(text: str) -> tuple[str, ...]:
    scopes = tuple(text.split(" ")) if text else ()
    if not scopes or len(scopes) > SCOPES_MAX or not all(_SCOPE.fullmatch(one) for one in scopes):
        raise answers.invalid_value("scope")
    return scopes


def _read_options(text: str, certificate: bytes | None) -> str | None:
    """The fingerprint that binds the token to a certificate, if any."""
    if not text:
        return None
    if len(text) > OPTIONS_CHARACTERS_MAX:
        raise answers.invalid_value("options")
    try:
        # google-auth quotes the JSON once more than the form does.
        options = json.loads(unquoted(text) if text.startswith("%") else text)
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict) or options.keys() - _OPTIONS or "accessBoundary" in options:
        raise answers.invalid_value("options")
    if not all(isinstance(one, str) and one for one in options.values()):
        raise answers.invalid_value("options")
    bound = options.get("bindCertFingerprint")
    if bound is None:
        return None
    bound = unquoted(bound).replace("-", "+").replace("_", "/")
    if not _FINGERPRINT.fullmatch(bound) or certificate is None or fingerprint(certificate) != bound:
        raise answers.invalid_value("options")
    return str(bound)
