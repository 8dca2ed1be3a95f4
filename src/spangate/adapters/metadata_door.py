"""A metadata endpoint on loopback for one identity: unmodified client libraries of Google get their token from it.

    GET /                                                                  the ping, by which libraries find it
    GET /computeMetadata/v1/project/project-id, .../numeric-project-id
    GET /computeMetadata/v1/universe/universe-domain
    GET /computeMetadata/v1/instance/service-accounts/default/             ?recursive=true: email, scopes, aliases
    GET /computeMetadata/v1/instance/service-accounts/default/token        {"access_token", "expires_in", "token_type"}
    GET /spangate/subject-token                                            where it is switched on: {"subject_token"}

Rules: every answer carries `Metadata-Flavor: Google`. Asked must be from this machine by a process that `admits` lets
in, for the very host and port that it listens on (a web page may have its own name point here), with
`Metadata-Flavor: Google` (a web page cannot add it) and without `X-Forwarded-For` (a proxy adds it). GET and HEAD.
The email is `default`: there is no service account's name to tell, and libraries that see one go and ask Google about
it. There are no ID tokens here: those of a metadata server are signed by Google, and ours would not be.
Not here: where tokens come from (broker/), who the process is (tcp_peer.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from spangate.broker.token import TokenSource
from spangate.compiler.credentials import IDENTITY_HEADER, SUBJECT_FIELD, SUBJECT_PATH
from spangate.errors import Broken, SpangateError, TryAgain, YourFault
from spangate.model.identity import SpiffeId

FLAVOR = "Metadata-Flavor"
GOOGLE = "Google"
ROOT = "/computeMetadata/v1"
ACCOUNT = f"{ROOT}/instance/service-accounts/default"
EMAIL = "default"
UNIVERSE = "googleapis.com"
# Half of what the server takes: however many connections other users hold, there is room for those who are served.
STRANGERS_CONNECTIONS_MAX = 128
# No request needs more; uvicorn bounds the head as a whole at 64 KiB.
TARGET_BYTES_MAX = 8192


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""


class Peers(Protocol):
    """Knows processes by their connections."""

    def admits(self, client: tuple[str, int], server: tuple[str, int]) -> bool:
        """Whether the process at `client`, connected to `server`, may ask."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Whom the door serves, and what it says of the project. What is empty is not known, and answered with 404."""

    identity: SpiffeId
    project: str
    project_number: str
    scopes: tuple[str, ...]


class Refused(Exception):
    """The asker gets this answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


# A subject token of the door's identity, for the provider.
SubjectTokens = Callable[[], str]


@dataclass(frozen=True, slots=True)
class MetadataDoor:
    """What is served on `host`, which is `127.0.0.1:port`. `subject` None: no subject tokens."""

    facts: Facts
    tokens: TokenSource
    clock: Clock
    host: str
    peers: Peers
    subject: SubjectTokens | None = None

    def app(self) -> ASGIApp:
        """The application."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope)
            try:
                # Looking for the process and asking the broker both wait.
                response = await run_in_threadpool(self._answer, request)
            except Refused as refused:
                response = _text(refused.message + "\n", refused.status)
            except SpangateError as error:
                response = _text(error.in_one_line + "\n", _status(error))
            response.headers[FLAVOR] = GOOGLE
            response.headers["Cache-Control"] = "no-store"
            await response(scope, receive, send)

        return answer

    def _answer(self, request: Request) -> Response:
        self._check(request)
        path = request.url.path
        if path == "/":
            return _text("computeMetadata/\n")
        if path == SUBJECT_PATH and self.subject is not None:
            return self._subject_token(request, self.subject)
        if request.headers.getlist(FLAVOR) != [GOOGLE]:
            raise Refused(403, f"the header `{FLAVOR}: {GOOGLE}` is missing")
        if path == f"{ACCOUNT}/token":
            return self._access_token()
        return self._known(path.rstrip("/"), recursive=request.query_params.get("recursive", "").lower() == "true")

    def _check(self, request: Request) -> None:
        if len(request.url.path) > TARGET_BYTES_MAX:
            raise Refused(414, "the path is too long")
        client, server = request.client, request.scope.get("server")
        if client is None or server is None or not self.peers.admits((client.host, client.port), server):
            raise Refused(403, f"this endpoint serves `{self.facts.identity}`, and your process is none of its own")
        if request.headers.getlist("host") != [self.host]:
            raise Refused(403, f"this endpoint answers for `{self.host}` only")
        if "x-forwarded-for" in request.headers or "forwarded" in request.headers:
            raise Refused(403, "a request that came through a proxy is refused")
        if request.method not in {"GET", "HEAD"}:
            raise Refused(405, f"`{request.method}` is not allowed: only GET")

    def _access_token(self) -> Response:
        # Which scopes are asked for does not matter, as on a virtual machine: the intent says what a token has.
        token = self.tokens.token(self.facts.identity)
        if token.identity != self.facts.identity:
            raise Broken("the broker answered with a token of another identity")
        seconds = int((token.expires_at - self.clock.now()).total_seconds())
        if seconds <= 0:
            raise TryAgain("the broker answered with a token that has ended", help="is the clock right?")
        return _json({"access_token": token.text, "expires_in": seconds, "token_type": "Bearer"})

    def _subject_token(self, request: Request, subject: SubjectTokens) -> Response:
        if request.headers.getlist(IDENTITY_HEADER) != [str(self.facts.identity)]:
            raise Refused(403, f"this endpoint serves `{self.facts.identity}`, and `{IDENTITY_HEADER}` does not say so")
        return _json({SUBJECT_FIELD: subject()})

    def _known(self, path: str, *, recursive: bool) -> Response:
        if path == f"{ACCOUNT}/identity":
            raise Refused(
                404,
                "there are no ID tokens here: they would have to be signed by Google. For a token that this "
                "installation signs: spangate token --as NAME --audience AUDIENCE",
            )
        if path == ACCOUNT and recursive:
            return _json(self._account())
        texts = self._texts()
        if path not in texts:
            raise Refused(404, "there is no such entry")
        return _text(texts[path])

    def _account(self) -> Mapping[str, object]:
        return {"aliases": [EMAIL], "email": EMAIL, "scopes": list(self.facts.scopes)}

    def _texts(self) -> Mapping[str, str]:
        facts = {
            f"{ROOT}/project/project-id": self.facts.project,
            f"{ROOT}/project/numeric-project-id": self.facts.project_number,
        }
        return {
            "/computeMetadata": "v1/\n",
            ROOT: "instance/\nproject/\nuniverse/\n",
            f"{ROOT}/instance": "service-accounts/\n",
            f"{ROOT}/instance/service-accounts": "default/\n",
            ACCOUNT: "aliases\nemail\nscopes\ntoken\n",
            f"{ACCOUNT}/aliases": f"{EMAIL}\n",
            f"{ACCOUNT}/email": EMAIL,
            f"{ACCOUNT}/scopes": "".join(f"{scope}\n" for scope in self.facts.scopes),
            f"{ROOT}/project": "".join(f"{path.rpartition('/')[2]}\n" for path, text in facts.items() if text),
            f"{ROOT}/universe": "universe-domain\n",
            f"{ROOT}/universe/universe-domain": UNIVERSE,
            **{path: text for path, text in facts.items() if text},
        }


def _status(error: SpangateError) -> int:
    """Libraries try again at 500 and 503, which only helps where it may be better then."""
    if isinstance(error, TryAgain):
        return 503
    return 403 if isinstance(error, YourFault) else 502


def _text(content: str, status: int = 200) -> Response:
    return Response(content, status, media_type="text/plain")


def _json(content: Mapping[str, object]) -> Response:
    return Response(json.dumps(content), media_type="application/json")
