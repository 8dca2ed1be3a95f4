"""What all commands share: where they print, how errors are shown, options that several of them have.

Rules: errors go to stderr, lower case, with a help line where there is one. Colours only on a terminal.
Not here: the commands (main.py, up.py, run.py, direct.py, doctor.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import typer
from rich.console import Console

from spangate.errors import SpangateError

P = ParamSpec("P")

out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

INTENT_FILE = "spangate.yaml"
IntentOption = Annotated[
    Path, typer.Option("--intent", "-i", help="The intent file; its folder holds the state in .spangate.")
]
AsOption = Annotated[str, typer.Option("--as", help="A name of the intent, namespace/service-account, or a SPIFFE ID.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for programs instead of text for people.")]


def command(function: Callable[P, int | None]) -> Callable[P, None]:
    """Errors become messages and exit codes."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = function(*args, **kwargs) or 0
        except SpangateError as error:
            show_error(error)
            code = error.exit_code
        except KeyboardInterrupt:
            code = 130
        raise typer.Exit(code)

    return wrapped


def show_error(error: SpangateError) -> None:
    err.print("error:", error.message, style="red" if not error.help else None)
    if error.help:
        for line in error.help.splitlines():
            err.print("  help:", line, style="dim")


def moving_line(text: str, update: Callable[[str], None]) -> None:
    """What is being done: a moving line on a terminal, a line each elsewhere."""
    if err.is_terminal:
        update(text)
    else:
        err.print(f"- {text}")
