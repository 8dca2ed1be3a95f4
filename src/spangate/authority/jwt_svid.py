"""JWT-SVIDs: tokens that say who somebody is, to one audience, for minutes.

Rules (SPIFFE JWT-SVID): `sub` is the SPIFFE ID, `aud` has at least one audience, `exp` is there, `alg` is one of the
list and never `none`; the header has `alg`, `kid` and `typ` only. Ours also have `iss`, `iat` and `jti`, which OIDC and
Google's token service want. As with certificates: build -> sign -> check what was signed -> record; what fails its
check, or cannot be recorded, is never handed out. Who may have which identity is decided before (adapters/).
Source: https://github.com/spiffe/spiffe/blob/main/standards/JWT-SVID.md, SPIFFE_Trust_Domain_and_Bundle.md, section 4;
OpenID Connect Discovery 1.0, sections 3 and 4.
Not here: keys and when they sign (jwt_keys.py), reading and verifying (jwt_reader.py, jwt_verify.py).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from spangate.authority.jwt_keys import JwtKey, JwtKeyStore, KeyTable, tended
from spangate.authority.jwt_reader import BadToken, read_token
from spangate.authority.jwt_verify import ALGORITHMS, AUDIENCES_MAX, check_audience, check_times, verify
from spangate.errors import Broken, YourFault
from spangate.model.identity import BadSpiffeId, SpiffeId, check_trust_domain

# Long enough for a slow exchange, short enough that a token found in a log is worth nothing.
LIFETIME = timedelta(minutes=5)
LIFETIME_MIN = timedelta(seconds=10)
LIFETIME_MAX = timedelta(hours=1)
# Of other authorities: SPIRE gives five minutes, others up to a day.
FOREIGN_LIFETIME_MAX = timedelta(days=1)
# "each <= 256 chars" (allowedAudiences of Google's providers); a provider's own name has some 130.
AUDIENCE_CHARACTERS_MAX = 256
# What readers of the bundle are asked to wait before they look again; a rotation waits for them (bundle_readers.py).
REFRESH_HINT = timedelta(minutes=1)
_ISSUER = re.compile(
    r"(?:https://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|http://(?:127\.0\.0\.1|localhost))(?::[0-9]{1,5})?"
    r"(?:/[A-Za-z0-9._~-]+)*",
    re.ASCII,
)
_TOKEN_ID_BYTES_MIN = 16
_P256_BYTES = 32
_SIGNATURE_USE = "sig"
_SVID_USE = "jwt-svid"


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""


class Serials(Protocol):
    """Makes what must not be guessed."""

    def new_serial(self) -> int:
        """A fresh number of at least 64 random bits."""


@dataclass(frozen=True, slots=True)
class IssuedJwt:
    """A token, and what is recorded of it: everything but the token. Times are aware, in whole seconds."""

    token: str = field(repr=False)
    identity: SpiffeId
    audiences: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime
    key_id: str
    token_id: str


@dataclass(frozen=True, slots=True)
class ValidJwt:
    """Who a verified token speaks for, and for how long. `claims` are all that it says."""

    identity: SpiffeId
    audiences: tuple[str, ...]
    expires_at: datetime
    claims: Mapping[str, Any] = field(repr=False)


Record = Callable[[IssuedJwt], None]


class JwtAuthority:
    """Signs the JWT-SVIDs of one trust domain. Any thread may use it; one calls `tend` every jwt_keys.TEND."""

    def __init__(
        self,
        *,
        trust_domain: str,
        issuer: str,
        clock: Clock,
        serials: Serials,
        store: JwtKeyStore,
        record: Record,
        lifetime: timedelta = LIFETIME,
    ) -> None:
        """`issuer`: the `iss` of every token, an https URL without query or fragment (http for a loopback host), at
        which the discovery document is to be found. Raises BadSpiffeId, YourFault.
        """
        _check_lifetime(lifetime)
        self.trust_domain = check_trust_domain(trust_domain)
        self.issuer = check_issuer(issuer)
        self._clock = clock
        self._serials = serials
        self._store = store
        self._record = record
        self._lifetime = lifetime
        self._table = self._tended()

    def tend(self) -> None:
        """Makes and forgets keys that are due. Raises what the store raises; then all stays as it was."""
        self._table = self._tended()

    def sign(self, spiffe_id: SpiffeId, audiences: tuple[str, ...], lifetime: timedelta | None = None) -> IssuedJwt:
        """A token for `spiffe_id`, to be shown to `audiences`, for the usual time or for `lifetime`.

        Raises YourFault for an identity of another trust domain, bad audiences or a bad lifetime, Broken if what was
        signed is not what was asked, and whatever the store and `record` raise.
        """
        if spiffe_id.trust_domain != self.trust_domain:
            raise YourFault(f"`{spiffe_id}` is not in the trust domain `{self.trust_domain}`")
        check_audiences(audiences)
        _check_lifetime(lifetime or self._lifetime)
        now = self._clock.now().astimezone(UTC).replace(microsecond=0)
        key = self._table.signing
        ends = now + (lifetime or self._lifetime)
        token_id = f"{self._serials.new_serial():x}".zfill(2 * _TOKEN_ID_BYTES_MIN)
        claims = {
            "iss": self.issuer,
            "sub": str(spiffe_id),
            "aud": audiences[0] if len(audiences) == 1 else list(audiences),
            "iat": int(now.timestamp()),
            "exp": int(ends.timestamp()),
            "jti": token_id,
        }
        issued = IssuedJwt(_signed(claims, key), spiffe_id, audiences, now, ends, key.id, token_id)
        self._check(issued, key, claims)
        self._record(issued)
        return issued

    def jwks(self) -> Mapping[str, object]:
        """The public keys, for OIDC: what `jwks_uri` of the discovery document answers (RFC 7517, section 5)."""
        return {"keys": [key.jwk(_SIGNATURE_USE) for key in self._table.published]}

    def discovery(self) -> Mapping[str, object]:
        """What `<issuer>/.well-known/openid-configuration` answers."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/keys",
            # Required of every provider; there is no user to send anywhere.
            "authorization_endpoint": f"{self.issuer}/authorize",
            "response_types_supported": ["id_token"],
            # Left out it would mean codes too, and strict readers then want a token endpoint (Discovery, section 3).
            "grant_types_supported": ["implicit"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "claims_supported": ["iss", "sub", "aud", "iat", "exp", "jti"],
        }

    def spiffe_bundle(self) -> Mapping[str, object]:
        """The keys as SPIFFE software takes them: a JWK set with `use: jwt-svid`."""
        keys = [key.jwk(_SVID_USE) for key in self._table.published]
        return {"keys": keys, "spiffe_refresh_hint": int(REFRESH_HINT.total_seconds())}

    def validate(self, token: str, audience: str) -> ValidJwt:
        """Whom a token of this authority speaks for to `audience`. Raises BadToken."""
        bundles = {self.trust_domain: self.spiffe_bundle()}
        return validate_jwt_svid(token, audience, bundles, self._clock.now())

    def _tended(self) -> KeyTable:
        return tended(self._store, self._clock.now(), token_life=LIFETIME_MAX)

    def _check(self, issued: IssuedJwt, key: JwtKey, claims: Mapping[str, Any]) -> None:
        """What was signed, read as a stranger would read it."""
        try:
            found = validate_jwt_svid(
                issued.token,
                issued.audiences[0],
                {self.trust_domain: {"keys": [key.jwk(_SVID_USE)]}},
                issued.issued_at,
            )
        except BadToken as error:
            raise Broken(f"the token just signed is wrong: {error}") from error
        if found.identity != issued.identity or found.audiences != issued.audiences or found.claims != claims:
            raise Broken("the token just signed says something else than was asked")


def validate_jwt_svid(token: str, audience: str, bundles: Mapping[str, Mapping[str, Any]], now: datetime) -> ValidJwt:
    """Whom `token` speaks for to `audience`, by the keys of its trust domain (`bundles`: trust domain -> JWK set).

    Raises BadToken. No key of one trust domain can speak for another.
    """
    read = read_token(token)
    subject = read.claims.get("sub")
    if not isinstance(subject, str):
        raise BadToken("it names no subject")
    try:
        identity = SpiffeId.parse(subject)
    except BadSpiffeId as error:
        raise BadToken(f"its subject is not a SPIFFE ID: {error}") from None
    bundle = bundles.get(identity.trust_domain)
    if bundle is None:
        raise BadToken("its trust domain is not one that is trusted")
    keys = bundle.get("keys")
    if not isinstance(keys, list):
        raise BadToken("its trust domain has no keys")
    verify(read, keys, algorithms=ALGORITHMS, uses=frozenset({_SVID_USE, _SIGNATURE_USE}))
    _, ends = check_times(read.claims, now, life_max=FOREIGN_LIFETIME_MAX)
    return ValidJwt(identity, check_audience(read.claims, audience), ends, read.claims)


def _check_lifetime(lifetime: timedelta) -> None:
    if not LIFETIME_MIN <= lifetime <= LIFETIME_MAX:
        raise YourFault(
            f"a token lifetime of {lifetime.total_seconds():g} s is not between "
            f"{LIFETIME_MIN.total_seconds():g} and {LIFETIME_MAX.total_seconds():g} s"
        )


def check_issuer(text: str) -> str:
    """`text`, if it can be an OIDC issuer; else YourFault."""
    if not _ISSUER.fullmatch(text):
        raise YourFault(
            f"the issuer `{text}` is not an https URL of host, port and path alone, without a slash at its end",
            help="for tests, http works with 127.0.0.1 and localhost",
        )
    return text


def check_audiences(audiences: tuple[str, ...]) -> None:
    """Raises YourFault unless each is a printable text and none stands twice."""
    if not 0 < len(audiences) <= AUDIENCES_MAX:
        raise YourFault(f"a token is for one to {AUDIENCES_MAX} audiences")
    if len(set(audiences)) != len(audiences):
        raise YourFault("an audience is asked twice for one token")
    for one in audiences:
        if not one or len(one) > AUDIENCE_CHARACTERS_MAX or not one.isprintable():
            raise YourFault(f"an audience has 1 to {AUDIENCE_CHARACTERS_MAX} printable characters")


def _signed(claims: Mapping[str, Any], key: JwtKey) -> str:
    """Compact serialization (RFC 7515, section 7.1) with ES256, whose signature is R and S (RFC 7518, section 3.4)."""
    header = {"alg": "ES256", "kid": key.id, "typ": "JWT"}
    content = f"{_part(header)}.{_part(claims)}"
    r, s = decode_dss_signature(key.private.sign(content.encode("ascii"), ec.ECDSA(hashes.SHA256())))
    return f"{content}.{_base64url(r.to_bytes(_P256_BYTES, 'big') + s.to_bytes(_P256_BYTES, 'big'))}"


def _part(value: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
