"""The checkpoint's door, for the gateway's filter: HTTP on a Unix socket.

    POST /decide  header x-spangate-identity, body: the shape (rpc/shape.py)
         -> 200, headers x-spangate-decision (allow, deny), -id, -epoch, and -remember: 0 if it must not be kept; an
            allow: -role, -tag, -owner, -subject (whom it is about, under no alias), where the database says
            so -keep-tags: 1 and -context, and -broker: 1 where the request is to be sent on with an access token; a
            denial: -reason, -status (gRPC's number: 3, 5 or 7) and the client's message as the body
    GET  /epoch   -> 200, headers x-spangate-epoch: what decisions made now hold for; x-spangate-seal: the keys that the
            filter seals with (SealKeys.header); x-spangate-aliases: which trust domains are aliases of which;
            x-spangate-leaving, x-spangate-refused: issuers of certificates under a root that is on its way out, and
            under one that is gone: common names with commas between
    everything else, and 503 when it cannot decide now; with x-spangate-busy: 1 when it has too much to do

Rules: answers are headers, since the filter has no parser; an error is never a decision.
Not here: deciding (checkpoint/service.py), who may connect (unix_server.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from spangate.adapters.issuers_file import Issuers
from spangate.adapters.unix_server import REQUESTS_MAX, read_body
from spangate.checkpoint.service import Checkpoint
from spangate.errors import SpangateError, TryAgain
from spangate.model.decision import denial_status
from spangate.settings import LIMITS

# A shape is never larger than its request but for the lengths before each name.
SHAPE_BYTES_MAX = 2 * LIMITS.request_bytes_max


def checkpoint_app(
    checkpoint: Checkpoint,
    seal_keys: Callable[[], str],
    issuers: Callable[[], Issuers] = Issuers,
    *,
    broker: bool = False,
) -> Starlette:
    """The application to serve to one gateway. `seal_keys` gives the sealing keys of the moment, `issuers` those of
    certificates that are to be replaced, or refused.

    With `broker`, what is allowed goes on only with a token from the broker.
    """

    # A thread for every request that the door lets in: whoever waits for an analyser waits in the queue that is fair
    # (turns.py), and what is known already waits for nobody. Made when needed.
    threads = ThreadPoolExecutor(REQUESTS_MAX, thread_name_prefix="spangate-decide")

    async def decide(request: Request) -> Response:
        identity = request.headers.get("x-spangate-identity", "")
        shape = await read_body(request, SHAPE_BYTES_MAX)
        if shape is None or not identity:
            return PlainTextResponse("no identity or no shape", 400)
        try:
            answer = await asyncio.get_running_loop().run_in_executor(threads, checkpoint.answer, identity, shape)
        except TryAgain as error:
            return PlainTextResponse(error.message, 503, headers={"x-spangate-busy": "1"})
        except (SpangateError, OSError) as error:
            return PlainTextResponse(f"cannot decide: {error}", 500)
        headers = {
            "x-spangate-decision": "allow" if answer.decision.allowed else "deny",
            "x-spangate-id": answer.decision.id,
            "x-spangate-epoch": answer.epoch,
        }
        if answer.decision.allowed:
            headers |= {
                "x-spangate-role": answer.role,
                "x-spangate-tag": answer.tag,
                "x-spangate-owner": answer.owner,
                "x-spangate-subject": answer.decision.identity,
            }
            if answer.keep_tags:
                headers["x-spangate-keep-tags"] = "1"
            if broker:
                headers["x-spangate-broker"] = "1"
            if answer.context:
                headers["x-spangate-context"] = answer.context
        else:
            headers["x-spangate-reason"] = answer.decision.reason.value
            headers["x-spangate-status"] = str(denial_status(answer.decision.reason).value)
        if not answer.remember:
            headers["x-spangate-remember"] = "0"
        return PlainTextResponse(answer.message, headers=headers)

    async def epoch(_: Request) -> Response:
        names = issuers()
        headers = {
            "x-spangate-epoch": checkpoint.epoch,
            "x-spangate-seal": seal_keys(),
            "x-spangate-leaving": ",".join(names.leaving),
            "x-spangate-refused": ",".join(names.refused),
        }
        if checkpoint.aliases:
            headers["x-spangate-aliases"] = checkpoint.aliases
        return Response(headers=headers)

    return Starlette(
        routes=[Route("/decide", decide, methods=["POST"]), Route("/epoch", epoch, methods=["GET"])],
    )
