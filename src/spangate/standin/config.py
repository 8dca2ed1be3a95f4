"""What the stand-in knows of pools, providers and service accounts: frozen values, read from JSON.

    {"pools": [{"name": "projects/1/locations/global/workloadIdentityPools/mesh", "disabled": false, "providers": [
        {"name": "spangate", "disabled": false,
         "attributeMapping": {"google.subject": "assertion.sub"}, "attributeCondition": "",
         "oidc": {"issuerUri": "https://...", "allowedAudiences": [], "jwksJson": "{...}" or "keysAt": "http://..."}
         or "x509": {"trustStore": {"trustAnchors": [{"pemCertificate": "..."}], "intermediateCas": [...]}}}]}],
     "serviceAccounts": [{"email": "...", "bindings": [{"role": "roles/...", "members": ["principal://..."]}]}],
     "lifetimeExtension": false}

Rules: names and limits are those of iam v1 (WorkloadIdentityPool, WorkloadIdentityPoolProvider) and of Google's page
on X.509 federation; what Google would not store is refused with its place. Two things are ours: `keysAt`, where the
issuer's documents are fetched from instead of from the issuer, and issuers with `http://` on loopback.
Not here: what expressions mean (mapping.py), who is let in (sts.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cryptography import x509
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from spangate.errors import YourFault
from spangate.model.google import POOL, PROJECT_NUMBER, SERVICE_ACCOUNT
from spangate.standin.mapping import BadExpression, Condition, Mappings

# iam v1, WorkloadIdentityPoolProvider.oidc.allowedAudiences.
ALLOWED_AUDIENCES_MAX = 10
AUDIENCE_CHARACTERS_MAX = 256
# Google's page "Workload Identity Federation with X.509 certificates", limits.
TRUST_ANCHORS_MAX = 3
INTERMEDIATES_MAX = 10
CERTIFICATE_BYTES_MAX = 32 * 1024
SAME_INTERMEDIATES_MAX = 5
# Measured: RSA, and P-256 alone of the curves; the documents name these members and no others.
_JWK_MEMBERS = frozenset({"kty", "alg", "use", "kid", "n", "e", "x", "y", "crv"})
RSA_BITS_MIN = 2048
# Ours: a set of keys in rotation has a handful.
KEYS_MAX = 32
# Ours, each: a configuration is written by a program or by hand.
POOLS_MAX = 16
PROVIDERS_MAX = 16
ACCOUNTS_MAX = 256
MEMBERS_MAX = 1024
CONFIG_BYTES_MAX = 4 * 1024 * 1024

_POOL_NAME = re.compile(rf"projects/({PROJECT_NUMBER})/locations/global/workloadIdentityPools/({POOL})", re.ASCII)
_LOOPBACK = r"http://(?:127\.0\.0\.1|localhost)(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?"
_ISSUER = re.compile(rf"https://[A-Za-z0-9.-]+(?::[0-9]{{1,5}})?(?:/[A-Za-z0-9._~/%-]*)?|{_LOOPBACK}", re.ASCII)
_KEYS_AT = re.compile(_LOOPBACK, re.ASCII)
_MEMBER = re.compile(
    rf"serviceAccount:{SERVICE_ACCOUNT}"
    r"|principal://iam\.googleapis\.com/[!-~]+/subject/[!-~]+"
    r"|principalSet://iam\.googleapis\.com/[!-~]+/(?:\*|group/[!-~]+|attribute\.[a-z0-9_]+/[!-~]+)",
    re.ASCII,
)
_T = TypeVar("_T")

Jwk = Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Oidc:
    """An issuer of tokens. `keys` is None where its documents are to be fetched."""

    issuer: str
    allowed_audiences: tuple[str, ...] = ()
    keys: tuple[Jwk, ...] | None = None
    keys_at: str | None = None


@dataclass(frozen=True, slots=True)
class TrustStore:
    """Whose certificates are believed, and what may help to build a chain to them."""

    anchors: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of a pool: exactly one of `oidc` and `trust` is there."""

    id: str
    mappings: Mappings
    condition: Condition | None = None
    oidc: Oidc | None = None
    trust: TrustStore | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Pool:
    """A workload identity pool. Disabled, it ends the tokens that it gave out too."""

    project_number: str
    id: str
    providers: Mapping[str, Provider]
    disabled: bool = False

    @property
    def name(self) -> str:
        """The resource name."""
        return f"projects/{self.project_number}/locations/global/workloadIdentityPools/{self.id}"


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A service account and its policy: members by role."""

    email: str
    bindings: Mapping[str, frozenset[str]]
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class StandInConfig:
    """Everything the stand-in knows. `lifetime_extension`: the org policy that allows 12 hours."""

    pools: Mapping[str, Pool]
    accounts: Mapping[str, ServiceAccount] = field(default_factory=dict)
    lifetime_extension: bool = False


def parse_config(text: str) -> StandInConfig:
    """The configuration that `text` spells. Raises YourFault with the place."""
    if len(text.encode("utf-8", "surrogatepass")) > CONFIG_BYTES_MAX:
        raise YourFault(f"the stand-in's configuration is longer than {CONFIG_BYTES_MAX} bytes")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise YourFault(f"the stand-in's configuration is not JSON: {error}") from error
    top = _object(value, "", {"pools", "serviceAccounts", "lifetimeExtension"})
    pools = _named(_list(top, "pools", "", POOLS_MAX, _pool), "pools", lambda pool: pool.name)
    accounts = _named(
        _list(top, "serviceAccounts", "", ACCOUNTS_MAX, _account), "serviceAccounts", lambda account: account.email
    )
    return StandInConfig(pools, accounts, _flag(top, "lifetimeExtension", ""))


def _pool(value: object, at: str) -> Pool:
    found = _object(value, at, {"name", "disabled", "providers"})
    match = _POOL_NAME.fullmatch(_text(found, "name", at))
    if match is None:
        raise _wrong(f"{at}.name", "is not projects/<number>/locations/global/workloadIdentityPools/<pool>")
    providers = _list(found, "providers", at, PROVIDERS_MAX, _provider)
    named = _named(providers, f"{at}.providers", lambda provider: provider.id)
    return Pool(match[1], match[2], named, _flag(found, "disabled", at))


def _provider(value: object, at: str) -> Provider:
    found = _object(value, at, {"name", "disabled", "attributeMapping", "attributeCondition", "oidc", "x509"})
    name = _text(found, "name", at)
    if not re.fullmatch(POOL, name, re.ASCII):
        raise _wrong(f"{at}.name", "is not 4 to 32 lower-case letters, digits and dashes")
    if ("oidc" in found) == ("x509" in found):
        raise _wrong(at, "has not exactly one of `oidc` and `x509`")
    mapping = _object(found.get("attributeMapping"), f"{at}.attributeMapping", None)
    condition = _text(found, "attributeCondition", at, default="")
    try:
        mappings = Mappings.compile({key: str(expression) for key, expression in mapping.items()})
        compiled = Condition.compile(condition) if condition else None
    except BadExpression as error:
        raise _wrong(f"{at}.{error.where}", str(error)) from error
    disabled = _flag(found, "disabled", at)
    if "oidc" in found:
        return Provider(name, mappings, compiled, oidc=_oidc(found["oidc"], f"{at}.oidc"), disabled=disabled)
    return Provider(name, mappings, compiled, trust=_trust(found["x509"], f"{at}.x509"), disabled=disabled)


def _oidc(value: object, at: str) -> Oidc:
    found = _object(value, at, {"issuerUri", "allowedAudiences", "jwksJson", "keysAt"})
    issuer = _text(found, "issuerUri", at)
    if not _ISSUER.fullmatch(issuer):
        raise _wrong(f"{at}.issuerUri", "is not a URL with https (or http on loopback, for the stand-in only)")
    audiences = _list(found, "allowedAudiences", at, ALLOWED_AUDIENCES_MAX, _audience)
    keys_at = _text(found, "keysAt", at, default="")
    if keys_at and not _KEYS_AT.fullmatch(keys_at):
        raise _wrong(f"{at}.keysAt", "is not a URL with http on loopback")
    jwks = _text(found, "jwksJson", at, default="")
    if jwks and keys_at:
        raise _wrong(at, "has both `jwksJson` and `keysAt`")
    return Oidc(issuer, audiences, read_jwks(jwks, f"{at}.jwksJson") if jwks else None, keys_at or None)


def read_jwks(text: str, at: str) -> tuple[Jwk, ...]:
    """The keys of a JWK set that Google would store. Raises YourFault; `at` is where it stands."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(at, f"is not JSON: {error}") from error
    found = _object(value, at, {"keys"})
    return _list(found, "keys", at, KEYS_MAX, _jwk)


def _jwk(value: object, at: str) -> Jwk:
    found = _object(value, at, _JWK_MEMBERS)
    if not all(isinstance(one, str) for one in found.values()):
        raise _wrong(at, "has a member that is not a text")
    if not found.get("kid"):
        raise _wrong(at, "has no `kid`")
    try:
        if found.get("kty") == "RSA":
            if RSAKey.import_key(found).raw_value.key_size < RSA_BITS_MIN:
                raise _wrong(at, f"is an RSA key of less than {RSA_BITS_MIN} bits")
        elif found.get("kty") == "EC" and found.get("crv") == "P-256":
            ECKey.import_key(found)
        else:
            raise _wrong(at, "is neither an RSA key nor one on P-256")
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise _wrong(at, f"cannot be read as a key: {error}") from error
    return found


def usable_keys(document: Mapping[str, Any]) -> tuple[Jwk, ...]:
    """The keys of a published set that can verify a token here; those of other kinds are passed over."""
    found = document.get("keys")
    keys = []
    for one in found[:KEYS_MAX] if isinstance(found, list) else []:
        if isinstance(one, dict):
            try:
                keys.append(_jwk({name: one[name] for name in _JWK_MEMBERS & one.keys()}, "keys"))
            except YourFault:
                continue
    return tuple(keys)


def _trust(value: object, at: str) -> TrustStore:
    found = _object(value, at, {"trustStore"})
    store = _object(found.get("trustStore"), f"{at}.trustStore", {"trustAnchors", "intermediateCas"})
    at = f"{at}.trustStore"
    anchors = _list(store, "trustAnchors", at, TRUST_ANCHORS_MAX, _certificate)
    if not anchors:
        raise _wrong(f"{at}.trustAnchors", "is empty")
    intermediates = _list(store, "intermediateCas", at, INTERMEDIATES_MAX, _certificate)
    for one in intermediates:
        if sum(_same(one, other) for other in intermediates) > SAME_INTERMEDIATES_MAX:
            raise _wrong(f"{at}.intermediateCas", f"has more than {SAME_INTERMEDIATES_MAX} of one name and key")
    return TrustStore(anchors, intermediates)


def _same(one: x509.Certificate, other: x509.Certificate) -> bool:
    return one.subject == other.subject and one.public_key() == other.public_key()


def _certificate(value: object, at: str) -> x509.Certificate:
    pem = _text(_object(value, at, {"pemCertificate"}), "pemCertificate", at)
    if len(pem) > CERTIFICATE_BYTES_MAX:
        raise _wrong(at, f"is longer than {CERTIFICATE_BYTES_MAX} bytes")
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise _wrong(at, f"is not a certificate: {error}") from error
    if len(found) != 1:
        raise _wrong(at, "holds more than one certificate; there is one for each entry")
    return found[0]


def _account(value: object, at: str) -> ServiceAccount:
    found = _object(value, at, {"email", "bindings", "disabled"})
    email = _text(found, "email", at)
    if not re.fullmatch(SERVICE_ACCOUNT, email, re.ASCII):
        raise _wrong(f"{at}.email", "is not a service account's address")
    bindings: dict[str, frozenset[str]] = {}
    for role, members in _list(found, "bindings", at, MEMBERS_MAX, _binding):
        bindings[role] = bindings.get(role, frozenset()) | members
    return ServiceAccount(email, bindings, _flag(found, "disabled", at))


def _binding(value: object, at: str) -> tuple[str, frozenset[str]]:
    found = _object(value, at, {"role", "members"})
    return _text(found, "role", at), frozenset(_list(found, "members", at, MEMBERS_MAX, _member))


def _member(value: object, at: str) -> str:
    if not isinstance(value, str) or not _MEMBER.fullmatch(value):
        raise _wrong(at, "is neither principal://..., principalSet://... nor serviceAccount:...")
    return value


def _audience(value: object, at: str) -> str:
    if not isinstance(value, str) or not value or len(value) > AUDIENCE_CHARACTERS_MAX:
        raise _wrong(at, f"is not a text of 1 to {AUDIENCE_CHARACTERS_MAX} characters")
    return value


def _wrong(at: str, what: str) -> YourFault:
    return YourFault(f"the stand-in's configuration: `{at or 'it'}` {what}")


def _object(value: object, at: str, known: set[str] | frozenset[str] | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(at, "is not an object")
    more = sorted(value.keys() - known) if known is not None else []
    if more:
        raise _wrong(f"{at}.{more[0]}".lstrip("."), "is not known")
    return value


def _text(found: Mapping[str, Any], key: str, at: str, default: str | None = None) -> str:
    value = found.get(key, default)
    if not isinstance(value, str):
        raise _wrong(f"{at}.{key}", "is not a text")
    return value


def _flag(found: Mapping[str, Any], key: str, at: str) -> bool:
    value = found.get(key, False)
    if not isinstance(value, bool):
        raise _wrong(f"{at}.{key}".lstrip("."), "is neither true nor false")
    return value


def _list(found: Mapping[str, Any], key: str, at: str, most: int, parse: Callable[[object, str], _T]) -> tuple[_T, ...]:
    value = found.get(key, [])
    place = f"{at}.{key}".lstrip(".")
    if not isinstance(value, list):
        raise _wrong(place, "is not a list")
    if len(value) > most:
        raise _wrong(place, f"has more than {most} entries")
    return tuple(parse(one, f"{place}[{index}]") for index, one in enumerate(value))


def _named(values: tuple[_T, ...], at: str, name: Callable[[_T], str]) -> dict[str, _T]:
    named = {name(one): one for one in values}
    if len(named) != len(values):
        raise _wrong(at, "has one name twice")
    return named
