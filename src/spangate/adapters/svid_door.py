"""The authority's door: certificates and tokens for `spangate run` and `spangate token`, over a Unix socket.

    POST /sign    {"identity": "spiffe://...", "csr": "<PEM>"}
                  -> {"chain": "<PEM>", "bundle": "<PEM>", "not_after": "<RFC 3339>"}
    POST /token   {"identity": "spiffe://...", "audiences": ["..."]} and perhaps "lifetime_seconds": <whole number>
                  -> {"token": "<JWT-SVID>", "expires_at": "<RFC 3339>"}
    GET  /bundle  -> the trust bundle in PEM
    GET  /keys    -> the public keys of tokens, a JWK set
    an error      -> {"error": "<sentence>"} and perhaps "help"; 400 bad request, 403 not this identity, 413 too long,
                     503 not now, 500 a defect of ours

The door of Spangate's own processes has POST /sign alone, for Spangate's own identities alone (`own_app`).

Rules: in the standalone form the operator owns every workload: whoever runs as the same Unix user (the only one that
gets through this door, see unix_server.py) may ask for ANY workload identity of the trust domain, except the reserved
ones (the gateway's own). There is no attestation of the single workload here; a mesh has it from istiod.
Private keys stay with the asker; only the public key travels, inside the signing request.
Not here: signing and checking (authority/), the asker's side (svid_client.py).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from spangate.adapters.unix_server import read_body
from spangate.authority.ca import Authority
from spangate.authority.jwt_svid import LIFETIME_MAX, JwtAuthority
from spangate.authority.request import CSR_CHARACTERS_MAX
from spangate.errors import Broken, SpangateError, TryAgain
from spangate.model.identity import SPIFFE_ID_BYTES_MAX, BadSpiffeId, SpiffeId

# A request of the longest kind; newlines of the PEM text are two characters in JSON, hence the factor.
BODY_BYTES_MAX = 2 * (CSR_CHARACTERS_MAX + SPIFFE_ID_BYTES_MAX)

_RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"


def svid_app(authority: Authority, tokens: JwtAuthority, *, reserved: Collection[SpiffeId] = ()) -> Starlette:
    """The application to serve. `reserved` identities are refused to everybody who asks here."""
    refused = frozenset(reserved)

    def sign(body: bytes) -> Response:
        asked = _parse(body)
        if asked is None:
            return _error(400, "the request is not a JSON object of the two texts `identity` and `csr`")
        return _signed(authority, asked["csr"], _allowed(asked["identity"], authority.trust_domain, refused))

    def token(body: bytes) -> Response:
        asked = _parse_token(body)
        if asked is None:
            return _error(400, "the request is not a JSON object of the text `identity` and the list `audiences`")
        issued = tokens.sign(_allowed(asked[0], authority.trust_domain, refused), *asked[1:])
        return JSONResponse({"token": issued.token, "expires_at": issued.expires_at.strftime(_RFC_3339)})

    async def keys(_: Request) -> Response:
        return JSONResponse(tokens.jwks())

    async def bundle(_: Request) -> Response:
        return PlainTextResponse(authority.bundle_pem(), media_type="application/x-pem-file")

    return Starlette(
        routes=[
            Route("/sign", _answering(sign), methods=["POST"]),
            Route("/token", _answering(token), methods=["POST"]),
            Route("/bundle", bundle, methods=["GET"]),
            Route("/keys", keys, methods=["GET"]),
        ]
    )


def own_app(authority: Authority, identities: Mapping[SpiffeId, tuple[str, ...]]) -> Starlette:
    """For Spangate's own processes: certificates for these identities, each with its DNS names, and for no others."""

    def sign(body: bytes) -> Response:
        asked = _parse(body)
        if asked is None:
            return _error(400, "the request is not a JSON object of the two texts `identity` and `csr`")
        identity = _allowed(asked["identity"], authority.trust_domain, ())
        if identity not in identities:
            return _error(403, f"`{identity}` is not Spangate's own identity")
        return _signed(authority, asked["csr"], identity, identities[identity])

    return Starlette(routes=[Route("/sign", _answering(sign), methods=["POST"])])


def _signed(authority: Authority, csr: str, identity: SpiffeId, dns_names: tuple[str, ...] = ()) -> Response:
    issued = authority.sign(csr, identity, dns_names)
    not_after = issued.not_after.strftime(_RFC_3339)
    return JSONResponse({"chain": issued.chain_pem, "bundle": authority.bundle_pem(), "not_after": not_after})


class _Refused(Exception):
    """The asker gets this answer."""

    def __init__(self, answer: Response) -> None:
        self.answer = answer


def _answering(work: Callable[[bytes], Response]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that reads a body of bounded length and turns errors into answers."""

    async def answer(request: Request) -> Response:
        body = await read_body(request, BODY_BYTES_MAX)
        if body is None:
            return _error(413, f"the request is longer than {BODY_BYTES_MAX} bytes")
        try:
            return work(body)
        except _Refused as refused:
            return refused.answer
        except SpangateError as e:
            return _error(_status(e), e.message, e.help)

    return answer


def _allowed(text: str, trust_domain: str, refused: Collection[SpiffeId]) -> SpiffeId:
    """The identity, if it is given to workloads here. Raises _Refused."""
    try:
        identity = SpiffeId.parse(text)
    except BadSpiffeId as e:
        raise _Refused(_error(400, f"the asked identity is not a SPIFFE ID: {e}")) from e
    if identity.trust_domain != trust_domain:
        hint = "an identity of a mesh comes in files: `spangate run --svid-directory DIRECTORY`"
        raise _Refused(_error(403, f"`{identity}` is not in the trust domain `{trust_domain}`", hint))
    if identity in refused:
        raise _Refused(_error(403, f"`{identity}` is Spangate's own identity and is not given to workloads"))
    return identity


def _parse_token(body: bytes) -> tuple[str, tuple[str, ...], timedelta | None] | None:
    """Identity, audiences and lifetime, or None."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or set(value) - {"lifetime_seconds"} != {"identity", "audiences"}:
        return None
    identity, audiences, seconds = value["identity"], value["audiences"], value.get("lifetime_seconds", 0)
    if type(seconds) is not int or not 0 <= seconds <= LIFETIME_MAX.total_seconds():
        return None
    if not isinstance(identity, str) or not isinstance(audiences, list):
        return None
    if not all(isinstance(one, str) for one in audiences):
        return None
    return identity, tuple(audiences), timedelta(seconds=seconds) if seconds else None


def _parse(body: bytes) -> dict[str, str] | None:
    """Exactly the two texts, or None. An unknown field may mean something to the asker that it does not to us."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or set(value) != {"identity", "csr"}:
        return None
    if not all(isinstance(text, str) for text in value.values()):
        return None
    return value


def _status(error: SpangateError) -> int:
    if isinstance(error, TryAgain):
        return 503
    return 500 if isinstance(error, Broken) else 400


def _error(status: int, message: str, hint: str | None = None) -> Response:
    content = {"error": message} if hint is None else {"error": message, "help": hint}
    return JSONResponse(content, status_code=status)
