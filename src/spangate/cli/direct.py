"""The commands of direct mode: `credentials` and `metadata`.

Rules: what a program reads goes to stdout, what a person reads to stderr.
Not here: what they do (app/credentials.py, app/direct.py).
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from spangate.cli.shared import INTENT_FILE, AsOption, IntentOption, command, err, out
from spangate.compiler.credentials import SourceKind


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(
        epilog="Examples: spangate credentials --as checkout --out credentials.json; "
        "spangate credentials --as checkout --token-file /var/run/secrets/google/token"
    )(command(credentials))
    app.command(epilog="Example: spangate metadata --as checkout --port 9099")(command(metadata))


def credentials(
    identity: AsOption,
    source: Annotated[
        SourceKind | None, typer.Option(help="Where libraries get the subject token; left out, what fits.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For `file`: the token that somebody keeps fresh.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="For `url`: the port of `spangate metadata`.")] = 0,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For `certificate`: the SVID with its chain, the leaf first.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="For `certificate`: its private key.")] = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write it; left out, it is printed.")
    ] = None,
    intent: IntentOption = Path(INTENT_FILE),
) -> None:
    """Write the configuration by which Google's client libraries get tokens on their own; it holds no secret."""
    from spangate.app.credentials import CredentialsOptions, credentials_for, write

    options = CredentialsOptions(
        intent=intent,
        identity=identity,
        program=str(Path(sys.argv[0]).absolute()),
        source=source,
        token_file=token_file,
        port=port,
        certificate=certificate,
        key=key,
        out=out_file,
    )
    found = credentials_for(options)
    if out_file is None:
        sys.stdout.write(json.dumps(found.configuration, indent=2) + "\n")
    else:
        for path in write(found, out_file):
            err.print(f"wrote {path}")
    err.print(f"source:  {found.kind.value}, because {found.why}")
    err.print(f"needs:   {found.needs}")
    if out_file is not None:
        err.print(f"use it:  export GOOGLE_APPLICATION_CREDENTIALS={shlex.quote(str(out_file.absolute()))}")


def metadata(
    identity: AsOption,
    intent: IntentOption = Path(INTENT_FILE),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The local port; 0 chooses a free one.")] = 0,
) -> None:
    """Serve a metadata endpoint that gives Google's client libraries an identity's tokens; stop it with Ctrl-C."""
    from spangate.app.direct import Served, serve_metadata

    def started(served: Served) -> None:
        for name, value in served.environment.items():
            out.print(f"export {name}={value}")
        err.print(f"serves `{served.identity}` at {served.address}, to processes of your user; stop: Ctrl-C")
        if served.subject_tokens:
            port_of = served.address.rpartition(":")[2]
            err.print(f"also for: spangate credentials --as {identity} --port {port_of}")

    serve_metadata(intent, identity, port, started=started, notice=lambda text: err.print(f"spangate: {text}"))
