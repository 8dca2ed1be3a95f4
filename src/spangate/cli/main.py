"""The command line: parse -> call -> render.

Rules: errors go to stderr, lower case, with a help line where there is one; exit code 2 for the caller's fault, 1 for
others' (and for a denial), the command's own for `run`. Colours and moving progress only on a terminal.
Not here: what the commands do (app/).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from spangate import __version__
from spangate.cli import direct, doctor
from spangate.cli.shared import INTENT_FILE, AsOption, IntentOption, JsonOption, err, out
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
        path = precompile(lambda text: _progress(text, status.update))
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


@app.command(
    epilog="Examples: spangate up; spangate up --port 9443; spangate up --keys keys --passphrase-file passphrase; "
    "SPANNER_EMULATOR_HOST=127.0.0.1:9010 spangate up"
)
@_command
def up(
    intent: IntentOption = Path(INTENT_FILE),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The gateway's port; 0 chooses a free one.")] = 0,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker threads of the gateway.")] = 2,
    shared_state: Annotated[
        str,
        typer.Option(
            metavar="DATABASE",
            help="Share sealing keys with other gateways in this database: projects/P/instances/I/databases/D.",
        ),
    ] = "",
    keys: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Keep the authority's keys in this directory, encrypted, in this token (`pkcs11:` URI) or in this key "
            "ring of Cloud KMS (`gcpkms:` URI), so that its root outlives a restart; else they end with `up`.",
        ),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The passphrase of these keys, or the token's PIN; else SPANGATE_KEY_PASSPHRASE_FILE names it, or "
            "systemd gives it.",
        ),
    ] = None,
    oidc_port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port of the authority's public keys; 0 chooses a free one.")
    ] = 0,
    issuer: Annotated[
        str, typer.Option(metavar="URL", help="`iss` of the tokens, if others reach the public keys by another URL.")
    ] = "",
    rotate_every: Annotated[
        str, typer.Option(metavar="TIME", help="The authority's root is rotated when it is as old: 90d, 12h, never.")
    ] = "90d",
    google_trust_store: Annotated[
        str,
        typer.Option(
            metavar="PROVIDER", help="An X.509 provider whose trust store holds the root; a rotation waits for it."
        ),
    ] = "",
    workload_socket: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Where every user finds the Workload API; else only the own user, at a place of its own.",
        ),
    ] = None,
    kubernetes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings for a cluster whose pods are let in by their tokens."),
    ] = None,
    spanner: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="A Spanner over TLS in place of the emulator: spanner.googleapis.com:443."
        ),
    ] = "",
    spanner_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The certificate authorities that may vouch for it; else the system's."),
    ] = None,
    sts: Annotated[
        str, typer.Option(metavar="URL", help="Google's token service, if not sts.googleapis.com or the stand-in.")
    ] = "",
    sts_mtls: Annotated[
        str, typer.Option(metavar="URL", help="The same for certificates, if not sts.mtls.googleapis.com.")
    ] = "",
    iam_credentials: Annotated[
        str, typer.Option(metavar="URL", help="IAM Credentials, if not iamcredentials.googleapis.com.")
    ] = "",
    svid_directory: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY",
            help="The gateway's certificate from a mesh: key.pem, cert-chain.pem and root-cert.pem in this directory.",
        ),
    ] = None,
) -> None:
    """Start Spanner, authority, checkpoint and gateway; stop all with Ctrl-C."""
    from spangate.app.google_store import check_provider
    from spangate.app.up import Installed, UpOptions
    from spangate.app.up import up as start
    from spangate.cli.rotate import rotate_every as time_of
    from spangate.cli.up import google_endpoints, named_spanner, render_installed, shared_database

    shared = shared_database(shared_state)
    every = time_of(rotate_every)
    check_provider(google_trust_store)
    real = named_spanner(spanner, spanner_ca)
    google = google_endpoints(sts, sts_mtls, iam_credentials)
    status = err.status("starting")
    status.start()

    def started(installed: Installed) -> None:
        status.stop()
        render_installed(out, installed)

    try:
        start(
            UpOptions(
                intent,
                port,
                workers,
                shared,
                keys,
                passphrase_file,
                oidc_port,
                issuer,
                workload_socket,
                kubernetes,
                real,
                google,
                svid_directory,
                rotate_every=every,
                google_trust_store=google_trust_store,
            ),
            progress=lambda text: _progress(text, status.update),
            started=started,
            notice=lambda text: err.print(text),
        )
    finally:
        status.stop()
    err.print("stopped")


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


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Examples: spangate run --as checkout -- python checkout.py; spangate run --as shop/intruder -- env",
)
@_command
def run(
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, after `--`.")],
    identity: Annotated[
        str, typer.Option("--as", help="A name of the intent, namespace/service-account, or a SPIFFE ID.")
    ] = "",
    intent: IntentOption = Path(INTENT_FILE),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The local port; 0 chooses a free one.")] = 0,
    directly: Annotated[
        bool, typer.Option("--direct", help="Without the gateway: the command gets short-lived tokens of Google's.")
    ] = False,
    authority: Annotated[
        str, typer.Option(metavar="URL", help="In a pod, instead of --as: where `up --kubernetes` lets pods in.")
    ] = "",
    bundle: Annotated[
        Path | None, typer.Option(metavar="FILE", help="In a pod: the roots that the authority is known by.")
    ] = None,
    gateway: Annotated[str, typer.Option(metavar="HOST:PORT", help="In a pod: where the gateway is.")] = "",
    kubernetes_token: Annotated[
        Path, typer.Option(metavar="FILE", help="In a pod: the projected token of its service account.")
    ] = Path("/var/run/secrets/spangate/token"),
    svid_directory: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY",
            help="A mesh's identity instead: key.pem, cert-chain.pem and root-cert.pem in this directory.",
        ),
    ] = None,
) -> int:
    """Run a command with an identity: it reaches Spanner through the gateway, and holds no credential."""
    from spangate.app.run import RunOptions
    from spangate.app.run_in_pod import PodOptions, run_in_pod
    from spangate.errors import YourFault

    def notice(text: str) -> None:
        err.print(f"spangate: {text}")

    if not authority:
        if not identity and svid_directory is None:
            raise YourFault(
                "`run` needs to know as whom",
                help="`--as IDENTITY`, `--svid-directory DIRECTORY`, or in a pod `--authority URL`",
            )
        if directly and svid_directory is not None:
            raise YourFault(
                "`run --direct` takes the authority's identities only, so no `--svid-directory`", help="leave one out"
            )
        if directly:
            from spangate.app.direct import run_direct as start
        else:
            from spangate.app.run import run as start
        return start(RunOptions(intent, identity, command, port, svid_directory), notice=notice)
    if identity or directly or svid_directory is not None or bundle is None or not gateway:
        raise YourFault(
            "in a pod, `run` needs `--bundle` and `--gateway`, and none of `--as`, `--direct` and `--svid-directory`",
            help="the identity is what the pod's token proves",
        )
    return run_in_pod(PodOptions(authority, bundle, kubernetes_token, gateway, command, port), notice=notice)


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


def _progress(text: str, update: Callable[[str], None]) -> None:
    """A moving line on a terminal, a line each elsewhere."""
    if err.is_terminal:
        update(text)
    else:
        err.print(f"- {text}")


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
