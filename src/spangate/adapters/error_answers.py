"""How the doors say over HTTP that something cannot be had: {"error": "<sentence>"} and perhaps "help"."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from spangate.errors import Broken, SpangateError, TryAgain


def error_answer(status: int, message: str, hint: str | None = None) -> Response:
    """The answer with that status."""
    content = {"error": message} if hint is None else {"error": message, "help": hint}
    return JSONResponse(content, status_code=status)


def answer_of(error: SpangateError) -> Response:
    """400 for who asked, 503 for not now, 500 for a defect of ours."""
    if isinstance(error, TryAgain):
        return error_answer(503, error.message, error.help)
    return error_answer(500 if isinstance(error, Broken) else 400, error.message, error.help)
