"""The authority's door for workloads in pods: certificates and tokens for whoever shows its service account token.

    POST /v1/svid    Authorization: Bearer <projected token>   {"csr": "<PEM>"}, and "instance" if the asker reports
                     under that name (pod_reports.py)
                     -> {"identity": "spiffe://...", "chain": "<PEM>", "bundle": "<PEM>", "not_after": "<RFC 3339>"}
    POST /v1/jwt     Authorization: Bearer <projected token>   {"audiences": ["..."]}
                     -> {"identity": "spiffe://...", "token": "<JWT-SVID>", "expires_at": "<RFC 3339>"}
    GET  /v1/bundle  -> {"bundle": "<PEM>", "roots": {"<trust domain>": "<PEM>", ...}, "keys": <JWK set>}: the roots of
                        the authority, and what others are verified by
    an error         -> {"error": "<sentence>"} and perhaps "help"; 400 bad request, 401 not this token, 413 too long,
                        503 not now, 500 a defect of ours

Rules: over TLS, whose certificate says that this is the authority. Nobody names an identity: what is given is what the
token proves, for its service account. One token in one header of each request, and from one address until it ends; who
asks from where is what the kernel says, and no header. What was proven is written down before it is answered: the pod,
and what it was given. A token is never logged, and no error repeats it.
Not here: what a token must be and from where (authority/kubernetes_token.py, authority/token_addresses.py), TLS
(tls_server.py), the asker (attest_client.py).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spangate.adapters.bundle_answer import bundles_answer
from spangate.adapters.cluster_keys import Jwk
from spangate.adapters.error_answers import answer_of, error_answer
from spangate.adapters.pod_reports import PodReports
from spangate.adapters.unix_server import read_body
from spangate.authority.ca import Authority
from spangate.authority.federation import Roots, known_roots
from spangate.authority.jwt_reader import BadToken, read_token
from spangate.authority.jwt_svid import JwtAuthority
from spangate.authority.kubernetes_token import Attested, Cluster, attest
from spangate.authority.request import CSR_CHARACTERS_MAX
from spangate.authority.token_addresses import ShownElsewhere, TokenAddresses
from spangate.errors import SpangateError

# Newlines of a PEM text are two characters in JSON, hence the factor.
BODY_BYTES_MAX = 2 * CSR_CHARACTERS_MAX
_RFC_3339 = "%Y-%m-%dT%H:%M:%SZ"
_BEARER = "bearer "
_ELSEWHERE = (
    "if this is the pod, delete it, so that it gets a new token, and find out who else was shown this one; where a "
    "proxy changes the addresses of pods, set `addresses: any` (docs/kubernetes.md)"
)


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""


class Keys(Protocol):
    """The cluster's keys."""

    def keys(self, key_id: str) -> Sequence[Jwk]:
        """Those that hold now, with the one of `key_id` if there is one. Raises SpangateError."""
        ...


class Recorder(Protocol):
    """Writes down what was proven."""

    def record_attested(self, number: str, attested: Attested, at: datetime) -> None:
        """`number`: of the certificate or token that was given. Raises SpangateError."""
        ...


class _Refused(Exception):
    """The asker gets this answer."""

    def __init__(self, answer: Response) -> None:
        self.answer = answer


class AttestDoor:
    """What the door does; `app` serves it."""

    def __init__(
        self,
        authority: Authority,
        tokens: JwtAuthority,
        cluster: Cluster,
        keys: Keys,
        *,
        clock: Clock,
        recorder: Recorder,
        addresses: TokenAddresses | None,
        reports: PodReports,
        roots: Roots | None = None,
    ) -> None:
        """`addresses`: what holds each token to one; None takes it from any. `roots`: of all trust domains; the
        authority's own if left out.
        """
        self._authority = authority
        self._roots = roots or known_roots(authority)
        self._reports = reports
        self._tokens = tokens
        self._cluster = cluster
        self._keys = keys
        self._clock = clock
        self._recorder = recorder
        self._addresses = addresses

    def app(self) -> Starlette:
        """The application to serve."""
        routes = [
            Route("/v1/svid", self._answering(self._svid), methods=["POST"]),
            Route("/v1/jwt", self._answering(self._jwt), methods=["POST"]),
            Route("/v1/peers", self._answering(_reported(self._reports.seen)), methods=["POST"]),
            Route("/v1/gone", self._answering(_reported(self._reports.gone)), methods=["POST"]),
            Route("/v1/bundle", self._bundle, methods=["GET"]),
        ]
        return Starlette(routes=routes)

    def _answering(self, work: Callable[[Attested, bytes], Response]) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that knows who asks, before it reads what."""

        async def answer(request: Request) -> Response:
            try:
                shown_from = "" if request.client is None else request.client.host
                headers = request.headers.getlist("authorization")
                attested = await run_in_threadpool(self._attested, headers, shown_from)
                body = await read_body(request, BODY_BYTES_MAX)
                if body is None:
                    return error_answer(413, f"the request is longer than {BODY_BYTES_MAX} bytes")
                return await run_in_threadpool(work, attested, body)
            except _Refused as refused:
                return refused.answer
            except SpangateError as error:
                return answer_of(error)

        return answer

    def _attested(self, headers: Sequence[str], shown_from: str) -> Attested:
        """Who asks, by the only token that is shown, from that address. Raises _Refused, SpangateError."""
        if len(headers) != 1 or not headers[0].lower().startswith(_BEARER):
            raise _unproven("the request shows no service account token (`Authorization: Bearer ...`), or several")
        token = headers[0][len(_BEARER) :]
        try:
            # Its form first, so that nobody has keys looked for by what is no token.
            keys = self._keys.keys(read_token(token).key_id)
            now = self._clock.now()
            attested = attest(token, self._cluster, keys, trust_domain=self._authority.trust_domain, now=now)
            if self._addresses is not None:
                self._addresses.check(attested, shown_from, now)
        except BadToken as bad:
            raise _unproven(f"the service account token is refused: {bad}") from None
        except ShownElsewhere:
            raise _unproven("the service account token was first shown from another address", _ELSEWHERE) from None
        return attested

    def _svid(self, attested: Attested, body: bytes) -> Response:
        asked = _read(body) or {}
        csr = asked.get("csr")
        self._reports.give(attested)
        holder = self._reports.holder(attested, asked["instance"]) if "instance" in asked else ""
        if set(asked) - {"instance"} != {"csr"} or not isinstance(csr, str) or holder is None:
            raise _Refused(error_answer(400, "the request is not a JSON object of the text `csr`, and an `instance`"))
        issued = self._authority.sign(csr, attested.identity, holder=holder)
        self._recorder.record_attested(f"{issued.serial:x}", attested, self._clock.now())
        return JSONResponse(
            {
                "identity": str(attested.identity),
                "chain": issued.chain_pem,
                "bundle": issued.bundle_pem,
                "not_after": issued.not_after.strftime(_RFC_3339),
            }
        )

    def _jwt(self, attested: Attested, body: bytes) -> Response:
        asked = _object(body, "audiences")
        if not isinstance(asked, list) or not all(isinstance(one, str) for one in asked):
            raise _Refused(error_answer(400, "the request is not a JSON object of the list `audiences` alone"))
        self._reports.give(attested)
        issued = self._tokens.sign(attested.identity, tuple(asked))
        self._recorder.record_attested(issued.token_id, attested, self._clock.now())
        return JSONResponse(
            {
                "identity": str(attested.identity),
                "token": issued.token,
                "expires_at": issued.expires_at.strftime(_RFC_3339),
            }
        )

    async def _bundle(self, _: Request) -> Response:
        own = {"bundle": self._authority.bundle_pem()}
        return JSONResponse(own | bundles_answer(self._roots(), self._tokens.jwks()))


def _unproven(message: str, hint: str | None = None) -> _Refused:
    return _Refused(error_answer(401, message, hint))


def _reported(
    work: Callable[[Attested, Mapping[str, Any]], Mapping[str, object] | None],
) -> Callable[[Attested, bytes], Response]:
    """What `work` answers to an object, and that it is none."""

    def answer(attested: Attested, body: bytes) -> Response:
        asked = _read(body)
        found = None if asked is None else work(attested, asked)
        return error_answer(400, "the report cannot be read") if found is None else JSONResponse(found)

    return answer


def _read(body: bytes) -> Mapping[str, Any] | None:
    """A JSON object, or None."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _object(body: bytes, key: str) -> Any:  # noqa: ANN401 - a JSON value
    """The value of the only key; None if there is another one, too, or none."""
    value = _read(body) or {}
    return value[key] if set(value) == {key} else None
