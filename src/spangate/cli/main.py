"""The command line: parse -> call -> render.

Rules: errors go to stderr, lower case, with a help line where there is one; exit code 2 for the caller's fault, 1 for
others' (and for a denial), the command's own for `run`. Colours and moving progress only on a terminal.
Not here: what the commands do (app/).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from spangate import __version__
from spangate.cli import direct, doctor, run, up
from spangate.cli.shared import INTENT_FILE, AsOption, IntentOption, JsonOption, err, moving_line, out
from spangate.cli.shared import command as _command

# Imports of what a command needs stand in the command: `spangate --help` and completion must not load a compiler.

app = typer.Typer(
    name="spangate",
    help="Keyless, identity-aware access to Cloud Spanner: one intent file says who may do what.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start here: `spangate init`, then `spangate up`, then `spangate run --as app -- COMMAND`.",
)


def _version(value: bool) -> None:
    if value:
        out.print(f"spangate {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Keyless, identity-aware access to Cloud Spanner."""


@app.command(epilog="Example: spangate init my-service")
@_command
def init(directory: Annotated[Path, typer.Argument(help="Where to; made if need be.")] = Path()) -> None:
    """Write a small intent file and schema to begin with."""
    from spangate.app.starter import write_starter

    for path in write_starter(directory):
        out.print(f"wrote {path}")
    out.print("next: `spangate up`, and in another terminal `spangate run --as app -- COMMAND`")


@app.command(epilog="Example: spangate setup")
@_command
def setup() -> None:
    """Compile the SQL analyser for this processor (once, about 20 seconds; `up` does it too)."""
    from spangate.adapters.zetasql_engine import precompile

    with err.status("preparing") as status:
        path = precompile(lambda text: moving_line(text, status.update))
    out.print(f"ready: {path}")


@app.command(epilog="Examples: spangate check; spangate check --json -i other/spangate.yaml")
@_command
def check(intent: IntentOption = Path(INTENT_FILE), as_json: JsonOption = False) -> None:
    """Check the intent and its schemas, and show who may do what: patterns and roles written out."""
    from spangate.adapters.clock import SystemClock
    from spangate.app.gateway_trust import read_trust
    from spangate.app.policies import policy_of
    from spangate.cli.check import plan_json, plan_lines

    policy = policy_of(intent)
    read_trust(intent, None, problem=lambda _: None)
    if as_json:
        out.print(json.dumps(plan_json(policy)))
        return
    out.print(
        f"{intent}: fine. policy {policy.version}: {_count(policy.databases, 'database')}, "
        f"{_count(policy.identities, 'identity')}, {_count(policy.grants, 'grant')}"
    )
    for line in plan_lines(policy, SystemClock().now()):
        out.print(line)


up.register(app)


@app.command(
    epilog="Examples: spangate token --as checkout --audience https://orders.example; "
    'curl -H "Authorization: Bearer $(spangate token --as checkout --audience orders)" ...'
)
@_command
def token(
    identity: AsOption,
    audience: Annotated[list[str], typer.Option(help="Who will be shown the token; may stand more than once.")],
    intent: IntentOption = Path(INTENT_FILE),
    as_json: JsonOption = False,
    executable_json: Annotated[
        bool,
        typer.Option("--executable-json", help="The form that Google's client libraries take from a command they run."),
    ] = False,
) -> None:
    """Print a token (JWT-SVID) that says who somebody is, for a few minutes and to that audience only."""
    from spangate.app.tokens import token_for, token_for_library

    if executable_json:
        sys.stdout.write(json.dumps(token_for_library(intent, identity, audience, os.environ)) + "\n")
        return
    found = token_for(intent, identity, audience)
    # Not by the console, which could wrap it.
    sys.stdout.write(
        (json.dumps({"token": found.token, "expires_at": found.expires_at}) if as_json else found.token) + "\n"
    )


@app.command(epilog="Example: spangate jwks > jwks.json    (for Google: --jwk-json-path=jwks.json)")
@_command
def jwks(intent: IntentOption = Path(INTENT_FILE)) -> None:
    """Print the public keys that verify tokens, as a JWK set."""
    from spangate.app.tokens import public_keys

    sys.stdout.write(json.dumps(public_keys(intent), indent=2) + "\n")


@app.command(
    epilog="Examples: spangate rotate; spangate rotate --status; spangate rotate --abandon; "
    "spangate rotate --confirm google"
)
@_command
def rotate(
    show: Annotated[bool, typer.Option("--status", help="Only say where it stands, and for whom it waits.")] = False,
    turn_back: Annotated[bool, typer.Option("--abandon", help="Turn back to the old root.")] = False,
    store: Annotated[
        str | None, typer.Option("--confirm", metavar="STORE", help="A trust store elsewhere has been changed.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch until it has ended.")] = True,
    intent: IntentOption = Path(INTENT_FILE),
    as_json: JsonOption = False,
) -> None:
    """Rotate the root of a running `up`: begin, or go on watching; no client notices."""
    from spangate.cli.rotate import rotate_command

    rotate_command(out, err, intent, show=show, turn_back=turn_back, store=store, wait=wait, as_json=as_json)


@app.command(
    epilog="Examples: spangate cacerts --current now --out steps; "
    "spangate cacerts --current now --check steps/1-trust-both"
)
@_command
def cacerts(
    current: Annotated[Path, typer.Option(metavar="FOLDER", help="The files of the mesh's `cacerts` as it is now.")],
    new: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The files of the authority to be; left out, a new root is made."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the steps are written, with private keys.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Only say whether these files may follow the current ones.")
    ] = None,
) -> None:
    """Rotate the root of an Istio mesh: the `cacerts` secret for each step, checked."""
    from spangate.cli.mesh_roots import cacerts_command

    cacerts_command(out, current, new, check, folder)


run.register(app)


@app.command(
    epilog="Examples: spangate explain k3v5p2m7q4x6a2bd; "
    'spangate explain --as reports --sql "SELECT Email FROM Customers"'
)
@_command
def explain(
    decision_id: Annotated[str | None, typer.Argument(help="A decision id, or its first characters.")] = None,
    identity: Annotated[str | None, typer.Option("--as", help="Whose statement it would be.")] = None,
    sql: Annotated[str | None, typer.Option(help="A statement to judge; nothing is executed.")] = None,
    database: Annotated[str | None, typer.Option(help="The database's name in the intent, if it has several.")] = None,
    intent: IntentOption = Path(INTENT_FILE),
    as_json: JsonOption = False,
) -> int:
    """Say in one sentence why a request was allowed or denied. Exit code 0 for allowed, 1 for denied."""
    from spangate.app.explain import explain_decision, explain_statement
    from spangate.decision import explain_json, explain_sentence
    from spangate.errors import YourFault

    if decision_id is not None and identity is None and sql is None:
        decision = explain_decision(intent, decision_id)
    elif decision_id is None and identity is not None and sql is not None:
        decision = explain_statement(intent, identity, sql, database)
    else:
        raise YourFault("give either a decision id, or both --as and --sql")
    out.print(json.dumps(explain_json(decision)) if as_json else explain_sentence(decision))
    return 0 if decision.allowed else 1


@app.command(epilog="Examples: spangate log; spangate log -f --denied; spangate log --as reports --json | jq .accesses")
@_command
def log(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="How many records to begin with.")] = 20,
    identity: Annotated[str | None, typer.Option("--as", help="Only this identity's: its name or SPIFFE ID.")] = None,
    denied: Annotated[bool, typer.Option("--denied", help="Only what was not allowed.")] = False,
    intent: IntentOption = Path(INTENT_FILE),
    as_json: JsonOption = False,
) -> int:
    """Show who did what: one line a request."""
    from spangate.adapters.state import StateDirectory
    from spangate.cli.log import log_command

    return log_command(StateDirectory(intent).path, follow, count, as_json, identity, denied)


direct.register(app)
doctor.register(app)


def _count(things: object, word: str) -> str:
    number = len(things)  # type: ignore[arg-type]
    plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{number} {word if number == 1 else plural}"


def main() -> None:
    """The program's entry point."""
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
