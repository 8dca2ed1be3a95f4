"""What the authority's doors have in common: bodies of bounded length in, JSON out, errors as answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from spangate.adapters.unix_server import read_body
from spangate.errors import Broken, SpangateError, TryAgain


class Refused(Exception):
    """The asker gets this answer."""

    def __init__(self, answer: Response) -> None:
        self.answer = answer


def answering(work: Callable[[bytes, Request], Response], bytes_max: int) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that reads a body of at most `bytes_max` and turns errors into answers."""

    async def answer(request: Request) -> Response:
        body = await read_body(request, bytes_max)
        if body is None:
            return error_response(413, f"the request is longer than {bytes_max} bytes")
        try:
            return work(body, request)
        except Refused as refused:
            return refused.answer
        except SpangateError as error:
            return error_response(status_of(error), error.message, error.help)

    return answer


def status_of(error: SpangateError) -> int:
    """503 for what may succeed later, 500 for a defect of ours, 400 for the rest."""
    if isinstance(error, TryAgain):
        return 503
    return 500 if isinstance(error, Broken) else 400


def error_response(status: int, message: str, hint: str | None = None) -> Response:
    """{"error": ...} and perhaps "help"."""
    content = {"error": message} if hint is None else {"error": message, "help": hint}
    return JSONResponse(content, status_code=status)
