"""The command `run`.

Rules: whoever it runs as is said in one way only: by name, by a mesh's files, or by a pod's token.
Not here: what it does (app/run.py, app/run_in_pod.py, app/direct.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spangate.cli.shared import INTENT_FILE, IntentOption, err
from spangate.cli.shared import command as _command


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
        epilog="Examples: spangate run --as checkout -- python checkout.py; spangate run --as shop/intruder -- env",
    )(_command(run))


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
