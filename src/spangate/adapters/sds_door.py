"""Gives Envoy its certificate, key and trust bundle: SDS over REST on a Unix socket, so that no key touches a disk.

    POST /v3/discovery:secrets  {"resource_names": [...], "version_info": "...", ...}
         -> 200 {"version_info", "type_url", "resources": [...]}, or 304 when Envoy has this version already

Rules: chain, key and bundle change together, under one version: no answer mixes two generations. Names that are not
served and requests that cannot be read are errors, never an empty answer. Envoy names the version that it has taken
into use with its next question, and goes on naming the one before when it cannot use an answer: that is what is in use
(Taken), whatever was sent.
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
# Envoy is at most a question behind, and a second has one; an older one that it still names is not known, and counts as
# none.
KNOWN_VERSIONS_MAX = 8


@dataclass(frozen=True, slots=True)
class Secrets:
    """One generation, all PEM: leaf and intermediates, the leaf's private key, the roots to trust.

    `trust_domains` are those whose names peers may have, besides what Envoy's own configuration accepts. `roots_pem`:
    the authority's roots that `bundle_pem` was made from, where that is not these themselves.
    """

    chain_pem: str
    key_pem: str = field(repr=False)
    bundle_pem: str
    trust_domains: tuple[str, ...] = ()
    roots_pem: str = ""

    @property
    def version(self) -> str:
        """Digest of the public parts; a new key always comes with a new certificate."""
        public = "\n".join([self.chain_pem, self.bundle_pem, *self.trust_domains]).encode()
        return hashlib.sha256(public).hexdigest()[:VERSION_HEX_DIGITS]


@dataclass(frozen=True, slots=True)
class PublicParts:
    """What of a generation is no secret: the chain, and the authority's roots that the bundle was made from."""

    chain_pem: str
    roots_pem: str


@dataclass(frozen=True, slots=True)
class InUse:
    """What one Envoy has taken: for its certificate, and for its bundle; None for what it has not."""

    certificate: PublicParts | None
    bundle: PublicParts | None

    def certificate_is(self, secrets: Secrets | None) -> bool:
        """Whether the certificate in use is the one of `secrets`."""
        return secrets is not None and self.certificate is not None and self.certificate.chain_pem == secrets.chain_pem


class Source(Protocol):
    """Where the generation of the moment comes from."""

    def current(self) -> Secrets | None:
        """The generation of this moment; None before the first."""
        ...


class SecretSource:
    """Holds the current generation. Any thread may read or replace it.

    `changing` is held by whoever asks the authority and replaces by its answer, from the question on: an older answer
    must not overtake a newer one.
    """

    def __init__(self, secrets: Secrets | None = None) -> None:
        self._lock = threading.Lock()
        self._secrets = secrets
        self.changing = threading.RLock()

    def replace(self, secrets: Secrets) -> None:
        """From now on, `secrets`, whole."""
        with self._lock:
            self._secrets = secrets

    def current(self) -> Secrets | None:
        """The generation of this moment; None before the first."""
        with self._lock:
            return self._secrets


class Taken:
    """What one Envoy has taken into use. Any thread may ask; the door tells."""

    def __init__(self, certificate_name: str = CERTIFICATE_SECRET, bundle_name: str = BUNDLE_SECRET) -> None:
        self._names = certificate_name, bundle_name
        self._lock = threading.Lock()
        # By version, oldest first.
        self._offered: dict[str, PublicParts] = {}
        # By the secret's name: the version that Envoy says it uses.
        self._versions: dict[str, str] = {}

    def offered(self, secrets: Secrets) -> None:
        """Envoy is given this generation, or has it."""
        with self._lock:
            self._offered.pop(secrets.version, None)
            self._offered[secrets.version] = PublicParts(secrets.chain_pem, secrets.roots_pem or secrets.bundle_pem)
            while len(self._offered) > KNOWN_VERSIONS_MAX:
                self._offered.pop(next(iter(self._offered)))

    def named(self, name: str, version: str) -> None:
        """Envoy says that it uses this version of the secret; none, if it is empty."""
        with self._lock:
            self._versions[name] = version

    def in_use(self) -> InUse:
        """What Envoy has said last."""
        with self._lock:
            found = [self._offered.get(self._versions.get(name, "")) for name in self._names]
        return InUse(*found)


def sds_app(
    source: Source,
    taken: Taken | None = None,
    *,
    certificate_name: str = CERTIFICATE_SECRET,
    bundle_name: str = BUNDLE_SECRET,
) -> Starlette:
    """The application to serve to one Envoy; `taken` is told what it uses."""
    known = taken or Taken(certificate_name, bundle_name)

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
        for name in names:
            known.named(name, version)
        secrets = source.current()
        if secrets is None:
            return _error(503, "there is no certificate yet")
        known.offered(secrets)
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
