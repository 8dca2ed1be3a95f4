"""What the SPIFFE Workload API answers: values in, encoded messages out.

Rules: every answer is the whole of what the asker may have, never a difference (section 4.3). A process has one
identity, so an answer holds one SVID, and a hint to choose by is not needed. A request that leaves out what it must
hold is INVALID_ARGUMENT (section 4.5); so is a token that does not stand its test. One that asks for another identity
is PERMISSION_DENIED.
Source: https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_API.md, sections 4 to 6;
SPIFFE_Workload_Endpoint.md, section 6
Not here: who asks (unix_attestation.py), when an answer changes (adapters/workload_supply.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from spangate.authority.generations import fingerprint
from spangate.authority.jwt_reader import TOKEN_CHARACTERS_MAX
from spangate.authority.jwt_svid import ValidJwt
from spangate.authority.workload_messages import (
    SERVICE,
    JWTBundlesRequest,
    JWTBundlesResponse,
    JWTSVIDRequest,
    JWTSVIDResponse,
    ValidateJWTSVIDRequest,
    ValidateJWTSVIDResponse,
    X509BundlesRequest,
    X509BundlesResponse,
    X509SVIDRequest,
    X509SVIDResponse,
)
from spangate.model.identity import SpiffeId

# The longest request validates a token; names and audience around it are short.
REQUEST_BYTES_MAX = TOKEN_CHARACTERS_MAX + 8 * 1024
# "every client request MUST include the static gRPC metadata key" (SPIFFE_Workload_Endpoint, section 3).
SECURITY_HEADER = (b"workload.spiffe.io", b"true")


class Status(IntEnum):
    """The codes of gRPC that are used here."""

    OK = 0
    INVALID_ARGUMENT = 3
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Method(IntEnum):
    """What can be called."""

    X509_SVID = 1
    X509_BUNDLES = 2
    JWT_SVID = 3
    JWT_BUNDLES = 4
    VALIDATE_JWT_SVID = 5


METHODS: Mapping[bytes, Method] = {
    f"/{SERVICE}/FetchX509SVID".encode(): Method.X509_SVID,
    f"/{SERVICE}/FetchX509Bundles".encode(): Method.X509_BUNDLES,
    f"/{SERVICE}/FetchJWTSVID".encode(): Method.JWT_SVID,
    f"/{SERVICE}/FetchJWTBundles".encode(): Method.JWT_BUNDLES,
    f"/{SERVICE}/ValidateJWTSVID".encode(): Method.VALIDATE_JWT_SVID,
}


class Refused(Exception):
    """The asker gets this status and message."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class X509Svid:
    """A certificate in use, with its key, as it is given to a workload. `not_after` is aware, in UTC."""

    identity: SpiffeId
    chain_pem: str
    key_pem: str = field(repr=False)
    bundle_pem: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Bundles:
    """What a workload verifies others by: roots in PEM, and a JWK set, by trust domain."""

    x509_pem: Mapping[str, str]
    jwks: Mapping[str, Mapping[str, Any]]


class Issuer(Protocol):
    """Makes what the Workload API gives out. Every method may block, and may raise SpangateError."""

    def x509_svid(self, identity: SpiffeId, holder: str) -> X509Svid:
        """A certificate for a fresh key; `holder` is the name under which its use is reported."""
        ...

    def jwt_svid(self, identity: SpiffeId, audiences: tuple[str, ...]) -> str:
        """A token. Raises YourFault for bad audiences."""
        ...

    def bundles(self) -> Bundles:
        """What is trusted now."""
        ...

    def validate(self, token: str, audience: str) -> ValidJwt:
        """Whom a token speaks for. Raises BadToken."""
        ...

    def signer(self) -> str:
        """Who signs certificates now: another text means that all are to be made anew; empty if that is not told."""
        ...

    def report(self, holder: str, identity: SpiffeId | None, trusts: frozenset[str], uses: str) -> bool:
        """What those who listen have been given: fingerprints of roots, and of the one over the certificate in use.

        Whether the certificate is to be made anew.
        """
        ...

    def gone(self, holder: str) -> None:
        """Nobody has that certificate and its key any more."""
        ...


@dataclass(frozen=True, slots=True)
class JwtAsked:
    """A token is asked for these audiences."""

    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ValidationAsked:
    """Is the token good for this audience?"""

    audience: str
    token: str = field(repr=False)


def fingerprints(pem: str) -> frozenset[str]:
    """Of the certificates of a bundle."""
    return frozenset(fingerprint(one) for one in x509.load_pem_x509_certificates(pem.encode("ascii")))


def root_over(chain_pem: str, bundle_pem: str) -> str:
    """The fingerprint of the root that has signed the last certificate of a chain; empty if none of the bundle has."""
    last = x509.load_pem_x509_certificates(chain_pem.encode("ascii"))[-1]
    for root in x509.load_pem_x509_certificates(bundle_pem.encode("ascii")):
        try:
            last.verify_directly_issued_by(root)
        except (InvalidSignature, ValueError, TypeError):
            continue
        return fingerprint(root)
    return ""


def read_jwt_request(body: bytes, identity: SpiffeId) -> JwtAsked:
    """What a FetchJWTSVID of `identity` asks. Raises Refused."""
    asked = _message(JWTSVIDRequest, body)
    if not asked.audience or not all(asked.audience):
        raise Refused(Status.INVALID_ARGUMENT, "a token needs an audience")
    if asked.spiffe_id and asked.spiffe_id != str(identity):
        raise Refused(Status.PERMISSION_DENIED, "this process does not have the identity that it asks a token for")
    return JwtAsked(tuple(asked.audience))


def read_validation_request(body: bytes) -> ValidationAsked:
    """What a ValidateJWTSVID asks. Raises Refused."""
    asked = _message(ValidateJWTSVIDRequest, body)
    if not asked.audience or not asked.svid:
        raise Refused(Status.INVALID_ARGUMENT, "a validation needs a token and an audience")
    return ValidationAsked(asked.audience, asked.svid)


def read_empty_request(method: Method, body: bytes) -> None:
    """A request without parameters. Raises Refused if it is not even a message."""
    kinds = {
        Method.X509_SVID: X509SVIDRequest,
        Method.X509_BUNDLES: X509BundlesRequest,
        Method.JWT_BUNDLES: JWTBundlesRequest,
    }
    _message(kinds[method], body)


def x509_svid_answer(svid: X509Svid, bundles: Bundles) -> bytes:
    """The answer to FetchX509SVID. The bundle of the own trust domain is the newest, not the certificate's."""
    own = svid.identity.trust_domain
    answer = X509SVIDResponse()
    answer.svids.add(
        spiffe_id=str(svid.identity),
        x509_svid=_certificates_der(svid.chain_pem),
        x509_svid_key=_key_der(svid.key_pem),
        bundle=_certificates_der(bundles.x509_pem.get(own, svid.bundle_pem)),
    )
    for trust_domain, pem in bundles.x509_pem.items():
        if trust_domain != own:
            answer.federated_bundles[_name(trust_domain)] = _certificates_der(pem)
    return _encoded(answer)


def x509_bundles_answer(bundles: Bundles) -> bytes:
    """The answer to FetchX509Bundles."""
    answer = X509BundlesResponse()
    for trust_domain, pem in bundles.x509_pem.items():
        answer.bundles[_name(trust_domain)] = _certificates_der(pem)
    return _encoded(answer)


def jwt_svid_answer(identity: SpiffeId, token: str) -> bytes:
    """The answer to FetchJWTSVID."""
    answer = JWTSVIDResponse()
    answer.svids.add(spiffe_id=str(identity), svid=token)
    return _encoded(answer)


def jwt_bundles_answer(bundles: Bundles) -> bytes:
    """The answer to FetchJWTBundles."""
    answer = JWTBundlesResponse()
    for trust_domain, jwks in bundles.jwks.items():
        answer.bundles[_name(trust_domain)] = json.dumps(jwks, sort_keys=True, separators=(",", ":")).encode()
    return _encoded(answer)


def validated_answer(found: ValidJwt) -> bytes:
    """The answer to ValidateJWTSVID."""
    claims = Struct()
    claims.update(dict(found.claims))
    return _encoded(ValidateJWTSVIDResponse(spiffe_id=str(found.identity), claims=claims.SerializeToString()))


def _name(trust_domain: str) -> str:
    """A trust domain as a key of bundles: its SPIFFE ID."""
    return f"spiffe://{trust_domain}"


def _message(kind: Any, body: bytes) -> Any:  # noqa: ANN401 - protobuf makes its classes when the program runs
    try:
        return kind.FromString(body)
    except DecodeError:
        raise Refused(Status.INVALID_ARGUMENT, "the request is not a message of this method") from None


def _encoded(message: Any) -> bytes:  # noqa: ANN401 - protobuf makes its classes when the program runs
    # Two answers that say the same are the same bytes, so that a change can be told from none.
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded


def _certificates_der(pem: str) -> bytes:
    found = x509.load_pem_x509_certificates(pem.encode("ascii"))
    return b"".join(one.public_bytes(serialization.Encoding.DER) for one in found)


def _key_der(pem: str) -> bytes:
    key = serialization.load_pem_private_key(pem.encode("ascii"), None)
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
