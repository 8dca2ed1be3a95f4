"""The keys by which a Kubernetes cluster signs service account tokens, from a file or over HTTPS.

Rules: over HTTPS the server is verified, by the cluster's own authority if that is given; no proxy, no redirect,
bounded answers, short patience. Keys are kept for a while, and looked for again when a token names one that is not
among them, but not more often than every few seconds: tokens that anybody makes up cause no storm. When the cluster
does not answer, what was fetched last is good for some hours, since clusters change keys over days; then nobody is let
in. A file is read each time.
Source: https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/, issuer discovery
Not here: what a token must be (authority/kubernetes_token.py).
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spangate.adapters.bearer_file import read_bearer
from spangate.adapters.bounded_file import read_file
from spangate.errors import TryAgain, YourFault

KEPT_SECONDS = 300.0
# After a question that did not help, or was not answered.
AGAIN_SECONDS = 5.0
STALE_SECONDS = 6 * 3600.0
PATIENCE_SECONDS = 5.0
# A key has some 500 bytes; clusters publish two or three.
DOCUMENT_BYTES_MAX = 256 * 1024
KEYS_MAX = 64

Jwk = Mapping[str, Any]


class KeyFile:
    """A JWK set in a file, which somebody else keeps up to date."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keys(self, key_id: str) -> Sequence[Jwk]:  # noqa: ARG002 - as ClusterKeys
        """All of them. Raises YourFault."""
        return read_keys(read_file(self._path, DOCUMENT_BYTES_MAX), f"`{self._path}`")


class ClusterKeys:
    """A JWK set at a URL. Any thread may ask; one at a time fetches."""

    def __init__(
        self,
        url: str,
        *,
        ca: Path | None = None,
        token: Path | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ca`: whom the server is verified by, a PEM file; the system's if it is not given. `token`: a file with the
        bearer token that the server is shown, which the discovery role needs where anonymous requests are off. Raises
        YourFault for a URL that is not of HTTPS.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.fragment:
            raise YourFault(f"`{url[:200]}` is not an https URL of a JWK set")
        self._host, self._port = parts.hostname, parts.port or 443
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._url = url
        self._ca = ca
        self._token = token
        self._seconds = seconds
        self._lock = threading.Lock()
        self._keys: tuple[Jwk, ...] = ()
        self._fetched = self._asked = float("-inf")

    def keys(self, key_id: str) -> Sequence[Jwk]:
        """Those that hold now, with the one of `key_id` if there is one. Raises TryAgain, YourFault."""
        if self._due(key_id) and self._lock.acquire(blocking=not self._usable()):
            # Whoever finds keys here does not wait for who looks for others: a server that hangs hangs one request.
            try:
                if self._due(key_id):
                    self._refresh()
            finally:
                self._lock.release()
        if not self._usable():
            raise TryAgain(f"the cluster's keys at `{self._url}` cannot be had", help="does the API server answer?")
        return self._keys

    def _due(self, key_id: str) -> bool:
        now = self._seconds()
        known = any(key.get("kid") == key_id for key in self._keys)
        return (now - self._fetched >= KEPT_SECONDS or not known) and now - self._asked >= AGAIN_SECONDS

    def _usable(self) -> bool:
        return self._seconds() - self._fetched < STALE_SECONDS

    def _refresh(self) -> None:
        self._asked = self._seconds()
        try:
            self._keys = tuple(read_keys(self._fetch(), f"`{self._url}`"))
            self._fetched = self._asked
        except (TryAgain, YourFault):
            if not self._usable():
                raise

    def _fetch(self) -> bytes:
        headers = {"accept": "application/jwk-set+json, application/json", "host": self._host}
        if self._token is not None:
            # The kubelet replaces it before it ends: read each time.
            headers["authorization"] = f"Bearer {read_bearer(self._token)}"
        try:
            context = ssl.create_default_context(cafile=None if self._ca is None else str(self._ca))
        except (OSError, ssl.SSLError) as error:
            raise YourFault(f"cannot use the authority in `{self._ca}`: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=PATIENCE_SECONDS, context=context)
        try:
            connection.request("GET", self._target, headers=headers)
            answer = connection.getresponse()
            content = answer.read(DOCUMENT_BYTES_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            raise TryAgain(f"cannot get the cluster's keys from `{self._url}`: {error}") from error
        # http.client quotes the header that it complains of, and one of them is the token.
        except ValueError:
            raise TryAgain(f"cannot ask for the cluster's keys at `{self._url}`") from None
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise TryAgain(f"`{self._url}` answers with {answer.status} instead of the cluster's keys")
        return content


def read_keys(content: bytes, where: str) -> list[Jwk]:
    """The keys of a JWK set (RFC 7517, section 5). Raises YourFault."""
    try:
        value = json.loads(content) if len(content) <= DOCUMENT_BYTES_MAX else None
    except (ValueError, RecursionError):
        value = None
    keys = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys) or len(keys) > KEYS_MAX:
        raise YourFault(f"{where} is not a JWK set of at most {KEYS_MAX} keys and {DOCUMENT_BYTES_MAX} bytes")
    return keys
