"""What the authority publishes, for whoever has to verify its tokens and certificates: HTTP on loopback, no secrets.

    GET /.well-known/openid-configuration   the discovery document (OpenID Connect Discovery 1.0, section 4)
    GET /keys                               the public keys, a JWK set (RFC 7517): what `jwks_uri` says
    GET /bundle                             the trust bundle in SPIFFE's form: roots and token keys in one JWK set
                                            (SPIFFE Trust Domain and Bundle, section 4)

Rules: GET and HEAD, these paths, nothing else; answers say how long they may be kept. It listens on loopback: for
others, a TLS server of one's own stands in front of it, at the issuer's URL.
Not here: the documents (authority/jwt_svid.py), who gets a token (svid_door.py).
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
from collections.abc import Callable, Mapping

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from spangate.authority.jwt_keys import public_jwk
from spangate.authority.jwt_svid import REFRESH_HINT, JwtAuthority
from spangate.errors import Broken, TryAgain

LOOPBACK = "127.0.0.1"
# A new key is published a week before it signs; copies that are an hour old are fine.
KEPT_SECONDS = 3600
_CONNECTIONS_MAX = 256
_GRACE_SECONDS = 1
_START_SECONDS_MAX = 10.0

Roots = Callable[[], tuple[x509.Certificate, ...]]


def oidc_app(tokens: JwtAuthority, roots: Roots, bundle_read: Callable[[], None] = lambda: None) -> Starlette:
    """The application to serve. `bundle_read` is told that somebody reads the trust bundle."""

    def at(path: str, document: Callable[[], Mapping[str, object]], media_type: str, kept_seconds: int) -> Route:
        async def answer(_: Request) -> Response:
            content = json.dumps(document()).encode()
            return Response(
                content, media_type=media_type, headers={"cache-control": f"public, max-age={kept_seconds}"}
            )

        return Route(path, answer, methods=["GET"])

    def bundle() -> Mapping[str, object]:
        bundle_read()
        return spiffe_bundle(tokens, roots())

    application = Starlette(
        routes=[
            at("/.well-known/openid-configuration", tokens.discovery, "application/json", KEPT_SECONDS),
            at("/keys", tokens.jwks, "application/jwk-set+json", KEPT_SECONDS),
            at("/bundle", bundle, "application/json", int(REFRESH_HINT.total_seconds())),
        ]
    )
    # `/keys/` is nothing: a redirect would lead to whatever host the asker names, and past a TLS server in front.
    application.router.redirect_slashes = False
    return application


def spiffe_bundle(tokens: JwtAuthority, roots: tuple[x509.Certificate, ...]) -> Mapping[str, object]:
    """Token keys and roots together, as SPIFFE software takes a trust bundle."""
    found = dict(tokens.spiffe_bundle())
    return {**found, "keys": [*_list(found["keys"]), *map(_root_jwk, roots)]}


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise Broken("a JWK set has no list of keys")
    return value


def _root_jwk(root: x509.Certificate) -> dict[str, object]:
    """Section 4.2.1: `use` is `x509-svid`, `x5c` holds exactly the root."""
    key = root.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Broken("a root's key is not on a curve")
    der = root.public_bytes(serialization.Encoding.DER)
    return {**public_jwk(key), "use": "x509-svid", "x5c": [base64.b64encode(der).decode("ascii")]}


class LoopbackServer:
    """Serves an application on 127.0.0.1, in a thread of its own. Port 0 lets the kernel choose."""

    def __init__(
        self,
        application: ASGIApp,
        listener: socket.socket,
        *,
        name: str,
        protocol: type[asyncio.Protocol] | None = None,
    ) -> None:
        """`listener` comes from `loopback_listener`. `protocol`: another than plain HTTP/1.1, for uvicorn."""
        self._listener = listener
        self._name = name
        self._server = uvicorn.Server(
            uvicorn.Config(
                application,
                http=protocol or "auto",
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_CONNECTIONS_MAX,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name=f"spangate-{name}", daemon=True
        )

    def start(self) -> None:
        """Returns once it answers."""
        self._thread.start()
        waited = threading.Event()
        step = 0.005
        for _ in range(int(_START_SECONDS_MAX / step)):
            if self._server.started:
                return
            waited.wait(step)
        raise Broken(f"the {self._name} did not start")

    def stop(self) -> None:
        """Safe to call twice."""
        self._server.should_exit = True
        self._thread.join(timeout=_GRACE_SECONDS + 3)
        self._listener.close()


def loopback_listener(port: int) -> socket.socket:
    """A bound socket on 127.0.0.1. Raises TryAgain if the port is taken."""
    # The protocol is named: only then does asyncio turn off Nagle's delay, which would hold back each answer for 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as error:
        listener.close()
        raise TryAgain(f"cannot listen on {LOOPBACK}:{port}: {error.strerror}", help="choose another port") from error
    return listener
