"""The stand-in for Google behind HTTP on loopback. It is not Google; what it gives out is worth nothing elsewhere.

    everything of standin/service.py
    PUT  /standin/faults   faults on order, for tests      {"part": "token", "status": 429, "times": 3}
    PUT  /standin/config   another configuration
    GET  /standin/asked    how many requests each part had {"token": 12, "iam": 3}

Rules: 127.0.0.1 only; bounded bodies; every answer names itself in `server`. The paths under /standin are there only if
the door was made with them: whoever reaches them rules the stand-in.
Not here: what is answered (standin/).
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spangate.adapters.unix_server import read_body
from spangate.errors import YourFault
from spangate.standin.asked import BODY_BYTES_MAX, Asked
from spangate.standin.config import parse_config
from spangate.standin.faults import BadOrder
from spangate.standin.service import StandIn

NAME = "spangate-standin (not Google)"
# Where the TLS door (standin_tls.py) puts the certificate that the client showed, in the ASGI scope.
CERTIFICATE = "spangate.standin.certificate"

Endpoint = Callable[[Request], Awaitable[Response]]


def standin_app(standin: StandIn, *, ruled: bool = False) -> Starlette:
    """The application to serve. `ruled`: with the paths for tests."""
    lock = threading.Lock()

    def work(asked: Asked) -> tuple[int, bytes]:
        with lock:
            answer = standin.answer(asked)
        return answer.status, json.dumps(answer.body).encode()

    async def answer(request: Request) -> Response:
        body = await read_body(request, BODY_BYTES_MAX)
        if body is None:
            return _json(413, json.dumps({"error": {"code": 413, "message": "The request is too long."}}).encode())
        asked = Asked(
            request.method,
            request.url.path,
            request.headers.get("content-type", ""),
            request.headers.get("authorization"),
            body,
            request.scope.get(CERTIFICATE),
        )
        status, content = await run_in_threadpool(work, asked)
        if standin.faults.delay_seconds:
            await asyncio.sleep(standin.faults.delay_seconds)
        return _json(status, content)

    routes = [Route("/{path:path}", answer, methods=["GET", "POST"])]
    return Starlette(routes=[*(_ruling(standin, lock) if ruled else []), *routes])


def _ruling(standin: StandIn, lock: threading.Lock) -> list[Route]:
    async def faults(request: Request) -> Response:
        body = await read_body(request, BODY_BYTES_MAX)
        try:
            with lock:
                standin.faults.order(json.loads(body or b""))
        except (BadOrder, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({})

    async def config(request: Request) -> Response:
        body = await read_body(request, BODY_BYTES_MAX)
        try:
            found = parse_config((body or b"").decode("utf-8", "replace"))
        except YourFault as error:
            return JSONResponse({"error": error.message}, 400)
        with lock:
            standin.config = found
        return JSONResponse({})

    async def asked(_: Request) -> Response:
        with lock:
            return JSONResponse(dict(standin.asked))

    return [
        Route("/standin/faults", faults, methods=["PUT"]),
        Route("/standin/config", config, methods=["PUT"]),
        Route("/standin/asked", asked, methods=["GET"]),
    ]


def _json(status: int, content: bytes) -> Response:
    headers = {"server": NAME, "cache-control": "no-store"}
    return Response(content, status, headers, media_type="application/json")
