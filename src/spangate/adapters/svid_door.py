"""The authority's door: signs requests of `spangate run` over a Unix socket.

    POST /sign    {"identity": "spiffe://...", "csr": "<PEM>"}
                  -> {"chain": "<PEM>", "bundle": "<PEM>", "not_after": "<RFC 3339>"}
    GET  /bundle  -> the trust bundle in PEM
    an error      -> {"error": "<sentence>"} and perhaps "help"; 400 bad request, 403 not this identity, 413 too long,
                     503 not now, 500 a defect of ours

Rules: in the standalone form the operator owns every workload: whoever runs as the same Unix user (the only one that
gets through this door, see unix_server.py) may ask for ANY workload identity of the trust domain, except the reserved
ones (the gateway's own). There is no attestation of the single workload here; a mesh has it from istiod.
Private keys stay with the asker; only the public key travels, inside the signing request.
Not here: signing and checking (authority/), the asker's side (svid_client.py).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from spangate.adapters.unix_server import read_body
from spangate.authority.ca import Authority
from spangate.authority.request import CSR_CHARACTERS_MAX
from spangate.errors import Broken, SpangateError, TryAgain
from spangate.model.identity import SPIFFE_ID_BYTES_MAX, BadSpiffeId, SpiffeId

# A request of the longest kind; newlines of the PEM text are two characters in JSON, hence the factor.
BODY_BYTES_MAX = 2 * (CSR_CHARACTERS_MAX + SPIFFE_ID_BYTES_MAX)


def svid_app(authority: Authority, *, reserved: Collection[SpiffeId] = ()) -> Starlette:
    """The application to serve. `reserved` identities are refused to everybody who asks here."""
    refused = frozenset(reserved)

    async def sign(request: Request) -> Response:
        body = await read_body(request, BODY_BYTES_MAX)
        if body is None:
            return _error(413, f"the request is longer than {BODY_BYTES_MAX} bytes")
        asked = _parse(body)
        if asked is None:
            return _error(400, "the request is not a JSON object of the two texts `identity` and `csr`")
        try:
            identity = SpiffeId.parse(asked["identity"])
        except BadSpiffeId as e:
            return _error(400, f"the asked identity is not a SPIFFE ID: {e}")
        if identity.trust_domain != authority.trust_domain:
            return _error(403, f"`{identity}` is not in the trust domain `{authority.trust_domain}`")
        if identity in refused:
            return _error(403, f"`{identity}` is Spangate's own identity and is not given to workloads")
        try:
            issued = authority.sign(asked["csr"], identity)
        except SpangateError as e:
            return _error(_status(e), e.message, e.help)
        not_after = issued.not_after.strftime("%Y-%m-%dT%H:%M:%SZ")
        return JSONResponse({"chain": issued.chain_pem, "bundle": authority.bundle_pem(), "not_after": not_after})

    async def bundle(_: Request) -> Response:
        return PlainTextResponse(authority.bundle_pem(), media_type="application/x-pem-file")

    return Starlette(routes=[Route("/sign", sign, methods=["POST"]), Route("/bundle", bundle, methods=["GET"])])


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
