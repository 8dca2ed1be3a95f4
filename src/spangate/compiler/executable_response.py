"""What a command answers that Google's libraries run for a subject token: the executable response (AIP-4117).

Rules: the library says in the environment what it will do with the token; one that would be shown to anybody else is
not given. A failure is an answer too: libraries read it only with exit code 0.
Not here: the configuration that names the command (credentials.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spangate.model.google import SubjectTokenType

AUDIENCE = "GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE"
TOKEN_TYPE = "GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE"  # noqa: S105 - a variable's name
OUTPUT_FILE = "GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE"
VERSION = 1

_TYPES = frozenset({SubjectTokenType.JWT.urn, SubjectTokenType.ID_TOKEN.urn})


def problem_with(environment: Mapping[str, str], audience: str) -> str | None:
    """Why a token for `audience` is not given to the library that set this environment; None if nothing is wrong.

    `audience` is `https:` and the provider's name as the library has it.
    """
    if AUDIENCE not in environment or TOKEN_TYPE not in environment:
        return "no Google client library runs this command: it would say for whom the token is"
    if f"https:{environment[AUDIENCE]}" != audience:
        return f"the library goes to `{environment[AUDIENCE]}`, and this command gives tokens for `{audience}`"
    if environment[TOKEN_TYPE] not in _TYPES:
        return f"the library wants a `{environment[TOKEN_TYPE]}`, and this command gives JSON web tokens"
    if environment.get(OUTPUT_FILE):
        return "the configuration names an output file, and a token is never written into a file"
    return None


def success(token: str, environment: Mapping[str, str], expires_at_seconds: int) -> Mapping[str, Any]:
    """The token, of the type that was asked for. `expires_at_seconds` since 1970."""
    return {
        "version": VERSION,
        "success": True,
        "token_type": environment[TOKEN_TYPE],
        "id_token": token,
        "expiration_time": expires_at_seconds,
    }


def failure(code: str, message: str) -> Mapping[str, Any]:
    """Why there is none."""
    return {"version": VERSION, "success": False, "code": code, "message": message}
