"""The keys of issuers on loopback, fetched for the stand-in by way of their discovery documents.

Rules: only `http://127.0.0.1` and `http://localhost`, no proxy, no redirect, bounded answers, short patience; keys that
were fetched are kept for a while, and asked for again when one is missing. What goes wrong is no key.
Not here: what is done with keys (standin/id_token.py).
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage
from typing import IO, Any

from spangate.standin.config import Jwk, Oidc, usable_keys

# Google keeps them longer; a key that is not among them is looked for at once anyway.
KEPT_SECONDS = 60.0
# A token with a key that nobody has makes no storm of requests.
AGAIN_SECONDS = 1.0
PATIENCE_SECONDS = 2.0
DOCUMENT_BYTES_MAX = 256 * 1024
_LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|localhost)(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?", re.ASCII)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """A redirect is an error."""


class IssuerKeys:
    """Gives an issuer's keys. One thread at a time."""

    def __init__(self) -> None:
        self._kept: dict[Oidc, tuple[float, tuple[Jwk, ...] | None]] = {}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)

    def __call__(self, oidc: Oidc, again: bool) -> tuple[Jwk, ...] | None:
        """The keys, None if they cannot be had. `again`: those that were kept did not do."""
        if oidc.keys is not None:
            return oidc.keys
        now = time.monotonic()
        fetched, keys = self._kept.get(oidc, (float("-inf"), None))
        if now - fetched < (AGAIN_SECONDS if again or keys is None else KEPT_SECONDS):
            return keys
        keys = self._fetch(oidc)
        self._kept = {**self._kept, oidc: (now, keys)} if len(self._kept) < 64 else {oidc: (now, keys)}
        return keys

    def _fetch(self, oidc: Oidc) -> tuple[Jwk, ...] | None:
        at = (oidc.keys_at or oidc.issuer).rstrip("/")
        try:
            document = self._get(f"{at}/.well-known/openid-configuration")
            if document.get("issuer") != oidc.issuer:
                return None
            where = str(document.get("jwks_uri"))
            # What the issuer publishes under its own name is fetched where it really is.
            if where.startswith(oidc.issuer):
                where = at + where[len(oidc.issuer) :]
            return usable_keys(self._get(where))
        except (OSError, ValueError, RecursionError, HTTPException, urllib.error.URLError):
            return None

    def _get(self, url: str) -> Mapping[str, Any]:
        if not _LOOPBACK.fullmatch(url):
            raise ValueError("not on loopback")
        with self._opener.open(url, timeout=PATIENCE_SECONDS) as answer:
            data = answer.read(DOCUMENT_BYTES_MAX + 1)
        if len(data) > DOCUMENT_BYTES_MAX:
            raise ValueError("too long")
        value = json.loads(data)
        if not isinstance(value, dict):
            raise ValueError("not an object")  # noqa: TRY004 - one error for whatever is wrong
        return value
