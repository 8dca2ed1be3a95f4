"""Gives Envoy its certificate, key and trust bundle: SDS over REST on a Unix socket, so that no key touches a disk.

    POST /v3/discovery:secrets  {"resource_names": [...], "version_info": "...", ...}
         -> 200 {"version_info", "type_url", "resources": [...]}, or 304 when Envoy has this version already

Rules: chain, key and bundle change together, under one version: no answer mixes two generations. Names that are not
served and requests that cannot be read are errors, never an empty answer.
Source: envoy.service.discovery.v3.DiscoveryRequest and DiscoveryResponse,
envoy.extensions.transport_sockets.tls.v3.Secret; Envoy's REST subscription asks each `refresh_delay`.
Not here: who makes the certificate (svid_client.py), who may connect (unix_server.py).
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spangate.adapters.unix_server import read_body

SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type, not a secret
# Names of the two secrets in every Envoy bootstrap of ours.
CERTIFICATE_SECRET = "svid"  # noqa: S105 - a name, not a secret
BUNDLE_SECRET = "bundle"  # noqa: S105 - a name, not a secret
# Envoy sends its node description with every request, extensions and build data included: about 20 KiB.
BODY_BYTES_MAX = 256 * 1024
VERSION_HEX_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Secrets:
    """One generation, all PEM: leaf and intermediates, the leaf's private key, the roots to trust.

    `trust_domains` are those whose names peers may have, besides what Envoy's own configuration accepts.
    """

    chain_pem: str
    key_pem: str = field(repr=False)
    bundle_pem: str
    trust_domains: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Digest of the public parts; a new key always comes with a new certificate."""
        public = "\n".join([self.chain_pem, self.bundle_pem, *self.trust_domains]).encode()
        return hashlib.sha256(public).hexdigest()[:VERSION_HEX_DIGITS]


class Source(Protocol):
    """Where the generation of the moment comes from."""

    def current(self) -> Secrets | None:
        """The generation of this moment; None before the first."""
        ...


class SecretSource:
    """Holds the current generation. Any thread may read or replace it."""

    def __init__(self, secrets: Secrets | None = None) -> None:
        self._lock = threading.Lock()
        self._secrets = secrets

    def replace(self, secrets: Secrets) -> None:
        """From now on, `secrets`, whole."""
        with self._lock:
            self._secrets = secrets

    def current(self) -> Secrets | None:
        """The generation of this moment; None before the first."""
        with self._lock:
            return self._secrets


def sds_app(
    source: Source, *, certificate_name: str = CERTIFICATE_SECRET, bundle_name: str = BUNDLE_SECRET
) -> Starlette:
    """The application to serve to one Envoy."""

    async def discover(request: Request) -> Response:
        body = await read_body(request, BODY_BYTES_MAX)
        if body is None:
            return _error(413, f"the discovery request is longer than {BODY_BYTES_MAX} bytes")
        asked = _parse(body)
        if asked is None:
            return _error(400, "the discovery request cannot be read")
        names, version = asked
        unknown = [name for name in names if name not in (certificate_name, bundle_name)]
        if unknown:
            printable = unknown[0][:64].encode("ascii", "backslashreplace").decode("ascii")
            return _error(404, f"no secret is named `{printable}`")
        secrets = source.current()
        if secrets is None:
            return _error(503, "there is no certificate yet")
        if version == secrets.version:
            return Response(status_code=304)
        resources = [
            _certificate(name, secrets) if name == certificate_name else _bundle(name, secrets) for name in names
        ]
        return JSONResponse({"version_info": secrets.version, "type_url": SECRET_TYPE, "resources": resources})

    return Starlette(routes=[Route("/v3/discovery:secrets", discover, methods=["POST"])])


def _parse(body: bytes) -> tuple[list[str], str] | None:
    """Resource names and the version Envoy holds, or None."""
    try:
        request: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(request, dict) or request.get("type_url", SECRET_TYPE) != SECRET_TYPE:
        return None
    names, version = request.get("resource_names"), request.get("version_info", "")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    if len(set(names)) != len(names) or not isinstance(version, str):
        return None
    return names, version


def _certificate(name: str, secrets: Secrets) -> dict[str, object]:
    return {
        "@type": SECRET_TYPE,
        "name": name,
        "tls_certificate": {
            "certificate_chain": {"inline_string": secrets.chain_pem},
            "private_key": {"inline_string": secrets.key_pem},
        },
    }


def _bundle(name: str, secrets: Secrets) -> dict[str, object]:
    context: dict[str, object] = {"trusted_ca": {"inline_string": secrets.bundle_pem}}
    if secrets.trust_domains:
        # Merged with the matchers in Envoy's configuration: one that matches is enough.
        prefixes = [f"spiffe://{name}/" for name in secrets.trust_domains]
        context["match_typed_subject_alt_names"] = [
            {"san_type": "URI", "matcher": {"prefix": prefix}} for prefix in prefixes
        ]
    return {"@type": SECRET_TYPE, "name": name, "validation_context": context}


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)
