"""The broker's door: access tokens for identities of the policy, over a Unix socket.

    POST /token      {"identity": "spiffe://..."}
                     -> {"access_token": "...", "expires_in": <seconds>, "token_type": "Bearer"}
    POST /authorize  header x-spangate-identity, no body; for the gateway's filter, which has no parser
                     -> 200, headers x-spangate-authorization: Bearer ..., x-spangate-ttl-ms
    an error         -> {"error": "<sentence>"} and perhaps "help" and "step", which call to Google failed; sentence and
                        help also in the header x-spangate-message;
                        400 bad request, 403 this identity gets none, 502 Google's answer makes no sense, 503 not now,
                        500 a defect of ours

Rules: a token goes to whoever asks for exactly its identity, and nowhere else; who may ask is whoever gets in
(unix_server.py: the own user). An identity that the policy does not name is looked for once more after a moment: the
checkpoint may have read a change of the intent just before us.
Not here: getting tokens (token_broker.py).
"""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spangate.adapters.clock import SystemClock
from spangate.adapters.token_broker import WAIT_SECONDS_MAX, TokenBroker, UnknownIdentity, too_slow
from spangate.adapters.unix_server import read_body
from spangate.broker.token import AccessToken
from spangate.errors import Broken, PeersFault, SpangateError, TryAgain
from spangate.model.identity import SPIFFE_ID_BYTES_MAX, BadSpiffeId, SpiffeId
from spangate.settings import INTERVALS

# The longest identity, and the little around it.
BODY_BYTES_MAX = SPIFFE_ID_BYTES_MAX + 256
# As long as a message to a client may be (decision/explain.py).
MESSAGE_CHARACTERS_MAX = 1024
# Two looks of the file watch, and a little.
UNKNOWN_WAIT_SECONDS = 3 * INTERVALS.watch_ms / 1000
_SECRET = {"cache-control": "no-store"}


def broker_app(broker: TokenBroker) -> Starlette:
    """The application to serve."""

    async def token(request: Request) -> Response:
        body = await read_body(request, BODY_BYTES_MAX)
        text = None if body is None else _identity(body)
        if text is None:
            return _error(400, "the request is not a JSON object of the text `identity` alone")
        answer = await _given(broker, text)
        if isinstance(answer, Response):
            return answer
        content = {"access_token": answer.text, "expires_in": int(_left(answer)), "token_type": "Bearer"}
        return JSONResponse(content, headers=_SECRET)

    async def authorize(request: Request) -> Response:
        named = request.headers.getlist("x-spangate-identity")
        if len(named) != 1:
            return _error(400, "the request names no identity, or several")
        answer = await _given(broker, named[0])
        if isinstance(answer, Response):
            return answer
        headers = {
            "x-spangate-authorization": f"Bearer {answer.text}",
            "x-spangate-ttl-ms": str(int(_left(answer) * 1000)),
        }
        return Response(headers=_SECRET | headers)

    return Starlette(
        routes=[Route("/token", token, methods=["POST"]), Route("/authorize", authorize, methods=["POST"])]
    )


async def _given(broker: TokenBroker, text: str) -> AccessToken | Response:
    try:
        identity = SpiffeId.parse(text)
    except BadSpiffeId as error:
        return _error(400, f"the asked identity is not a SPIFFE ID: {error}")
    if not broker.knows(identity):
        await asyncio.sleep(UNKNOWN_WAIT_SECONDS)
    try:
        answer = await asyncio.wait_for(asyncio.wrap_future(broker.request(identity)), WAIT_SECONDS_MAX)
    except TimeoutError:
        return _refusal(too_slow())
    except SpangateError as error:
        return _refusal(error)
    if answer.identity != identity:
        return _refusal(Broken("the token is another identity's"))
    return answer


def _left(token: AccessToken, now: datetime | None = None) -> float:
    """Seconds until its end, from 0."""
    return max(0.0, (token.expires_at - (now or SystemClock().now())).total_seconds())


def _identity(body: bytes) -> str | None:
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or set(value) != {"identity"} or not isinstance(value["identity"], str):
        return None
    return value["identity"]


def _refusal(error: SpangateError) -> Response:
    return _error(_status(error), error.message, error.help, error.step)


def _status(error: SpangateError) -> int:
    if isinstance(error, UnknownIdentity):
        return 403
    if isinstance(error, TryAgain):
        return 503
    if isinstance(error, PeersFault):
        return 502
    return 500 if isinstance(error, Broken) else 403


def _error(status: int, message: str, hint: str | None = None, step: str = "") -> Response:
    content = {"error": message} if hint is None else {"error": message, "help": hint}
    if step:
        content["step"] = step
    both = message if hint is None else f"{message}; {hint}"
    # What a header's value and a terminal can bear.
    line = re.sub(r"[^ -~]+", "?", both)[:MESSAGE_CHARACTERS_MAX]
    return JSONResponse(content, status_code=status, headers={"x-spangate-message": line})
