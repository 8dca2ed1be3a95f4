"""The authority's door: certificates and tokens for `spangate run` and `spangate token`, over a Unix socket.

    POST /sign    {"identity": "spiffe://...", "csr": "<PEM>"}, and "holder" if the asker reports as a peer
                  (rotation_door.py) under that name
                  -> {"chain": "<PEM>", "bundle": "<PEM>", "not_after": "<RFC 3339>"}
    POST /token   {"identity": "spiffe://...", "audiences": ["..."]} and perhaps "lifetime_seconds": <whole number>
                  -> {"token": "<JWT-SVID>", "expires_at": "<RFC 3339>"}
    GET  /bundle  -> the trust bundle in PEM
    GET  /keys    -> the public keys of tokens, a JWK set
    GET  /bundles -> what others are verified by, of all trust domains (bundle_answer.py)
    an error      -> {"error": "<sentence>"} and perhaps "help"; 400 bad request, 403 not this identity, 413 too long,
                     503 not now, 500 a defect of ours

The door of Spangate's own processes has POST /sign alone, and reports, for Spangate's own identities alone (`own_app`).

Rules: in the standalone form the operator owns every workload: whoever runs as the same Unix user (the only one that
gets through this door, see unix_server.py) may ask for ANY workload identity of the trust domain, except the reserved
ones (the gateway's own). There is no attestation of the single workload here; a mesh has it from istiod.
Private keys stay with the asker; only the public key travels, inside the signing request.
Not here: signing and checking (authority/), the asker's side (svid_client.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from spangate.adapters.bundle_answer import bundles_answer
from spangate.adapters.door_answers import Refused, answering, error_response
from spangate.authority.ca import Authority
from spangate.authority.federation import Roots, known_roots
from spangate.authority.jwt_svid import LIFETIME_MAX, JwtAuthority
from spangate.authority.peers import RESERVED_INSTANCES
from spangate.authority.request import CSR_CHARACTERS_MAX
from spangate.model.identity import SPIFFE_ID_BYTES_MAX, BadSpiffeId, SpiffeId

# A request of the longest kind; newlines of the PEM text are two characters in JSON, hence the factor.
BODY_BYTES_MAX = 2 * (CSR_CHARACTERS_MAX + SPIFFE_ID_BYTES_MAX)

# How a peer calls itself: random, or Spangate's own words.
_HOLDER = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"
# What helps whoever asks for an identity of another trust domain.
IN_FILES = "an identity of a mesh comes in files: `spangate run --svid-directory DIRECTORY`"
SPEAKS_FOR_ITS_OWN = (
    "this authority speaks for its own trust domain only: make the other one the intent's own `trust_domain`"
)


def svid_app(
    authority: Authority,
    tokens: JwtAuthority,
    *,
    reserved: Collection[SpiffeId] = (),
    belongs: Callable[[str, Request], None] = lambda _holder, _request: None,
    more: Sequence[Route] = (),
    roots: Roots | None = None,
) -> Starlette:
    """The application to serve. `reserved` identities are refused to everybody who asks here; `more` it serves too.

    `belongs` is told who asks for what is held under a name, before that is given. `roots`: of all trust domains; the
    authority's own if left out.
    """
    refused = frozenset(reserved)
    known = roots or known_roots(authority)

    def sign(body: bytes, request: Request) -> Response:
        asked = _parse(body)
        if asked is None:
            return error_response(400, "the request is not a JSON object of the two texts `identity` and `csr`")
        if asked.get("holder") in RESERVED_INSTANCES:
            return error_response(403, f"nobody holds anything as `{asked['holder']}` here")
        identity = _allowed(asked["identity"], authority.trust_domain, refused, IN_FILES)
        if "holder" in asked:
            belongs(asked["holder"], request)
        return _signed(authority, asked, identity)

    def token(body: bytes, _: Request) -> Response:
        asked = _parse_token(body)
        if asked is None:
            return error_response(
                400, "the request is not a JSON object of the text `identity` and the list `audiences`"
            )
        issued = tokens.sign(_allowed(asked[0], authority.trust_domain, refused, SPEAKS_FOR_ITS_OWN), *asked[1:])
        return JSONResponse({"token": issued.token, "expires_at": issued.expires_at.strftime(_RFC_3339)})

    async def keys(_: Request) -> Response:
        return JSONResponse(tokens.jwks())

    async def bundles(_: Request) -> Response:
        return JSONResponse(bundles_answer(known(), tokens.jwks()))

    async def bundle(_: Request) -> Response:
        return PlainTextResponse(authority.bundle_pem(), media_type="application/x-pem-file")

    return Starlette(
        routes=[
            Route("/sign", answering(sign, BODY_BYTES_MAX), methods=["POST"]),
            Route("/token", answering(token, BODY_BYTES_MAX), methods=["POST"]),
            Route("/bundle", bundle, methods=["GET"]),
            Route("/bundles", bundles, methods=["GET"]),
            Route("/keys", keys, methods=["GET"]),
            *more,
        ]
    )


def own_app(
    authority: Authority, identities: Mapping[SpiffeId, tuple[str, ...]], *, more: Sequence[Route] = ()
) -> Starlette:
    """For Spangate's own processes: certificates for these identities, each with its DNS names, and for no others."""

    def sign(body: bytes, _: Request) -> Response:
        asked = _parse(body)
        if asked is None:
            return error_response(400, "the request is not a JSON object of the two texts `identity` and `csr`")
        identity = _allowed(asked["identity"], authority.trust_domain, (), IN_FILES)
        if identity not in identities:
            return error_response(403, f"`{identity}` is not Spangate's own identity")
        return _signed(authority, asked, identity, identities[identity])

    return Starlette(routes=[Route("/sign", answering(sign, BODY_BYTES_MAX), methods=["POST"]), *more])


def _signed(
    authority: Authority, asked: Mapping[str, str], identity: SpiffeId, dns_names: tuple[str, ...] = ()
) -> Response:
    issued = authority.sign(asked["csr"], identity, dns_names, holder=asked.get("holder", ""))
    not_after = issued.not_after.strftime(_RFC_3339)
    return JSONResponse({"chain": issued.chain_pem, "bundle": issued.bundle_pem, "not_after": not_after})


def _allowed(text: str, trust_domain: str, refused: Collection[SpiffeId], hint: str) -> SpiffeId:
    """The identity, if it is given to workloads here. Raises Refused; with `hint` for one of another trust domain."""
    try:
        identity = SpiffeId.parse(text)
    except BadSpiffeId as e:
        raise Refused(error_response(400, f"the asked identity is not a SPIFFE ID: {e}")) from e
    if identity.trust_domain != trust_domain:
        raise Refused(error_response(403, f"`{identity}` is not in the trust domain `{trust_domain}`", hint))
    if identity in refused:
        raise Refused(error_response(403, f"`{identity}` is Spangate's own identity and is not given to workloads"))
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
    """Exactly the two texts, perhaps the third, or None. An unknown field may mean something to the asker that it does
    not to us.
    """
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or set(value) - {"holder"} != {"identity", "csr"}:
        return None
    if not all(isinstance(text, str) for text in value.values()):
        return None
    return value if _HOLDER.fullmatch(value.get("holder", "nobody")) else None
