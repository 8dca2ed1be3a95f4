"""The command `up`.

Not here: what it does (app/up.py), what its options mean and how its answer is shown (installation.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spangate.cli.shared import INTENT_FILE, IntentOption, command, err, moving_line, out


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog="Examples: spangate up; spangate up --port 9443; spangate up --keys keys --passphrase-file passphrase; "
        "SPANNER_EMULATOR_HOST=127.0.0.1:9010 spangate up"
    )(command(up))


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
    from spangate.app.up import up as start
    from spangate.app.up_options import Installed, UpOptions
    from spangate.cli.installation import google_endpoints, named_spanner, render_installed, shared_database
    from spangate.cli.rotate import rotate_every as time_of

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
            progress=lambda text: moving_line(text, status.update),
            started=started,
            notice=lambda text: err.print(text),
        )
    finally:
        status.stop()
    err.print("stopped")
