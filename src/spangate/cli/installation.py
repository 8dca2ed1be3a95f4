"""What `spangate up` was told, and how it shows what runs."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from spangate.adapters.google_http import GoogleEndpoints
from spangate.app.real_spanner import RealSpanner, real_spanner
from spangate.app.up_options import Installed
from spangate.errors import YourFault
from spangate.model.database import BadResourceName, DatabasePath


def shared_database(text: str) -> DatabasePath | None:
    """What `--shared-state` names; None if it is not given."""
    try:
        return DatabasePath.parse(text) if text else None
    except BadResourceName as error:
        raise YourFault(f"`--shared-state {text}` names no database: {error}") from error


def named_spanner(address: str, ca_file: Path | None) -> RealSpanner | None:
    """What `--spanner` names; None if it is not given."""
    if not address and ca_file is not None:
        raise YourFault("`--spanner-ca` is for `--spanner`", help="name the host and port")
    return real_spanner(address, ca_file) if address else None


def google_endpoints(sts: str, sts_mtls: str, iam_credentials: str) -> GoogleEndpoints | None:
    """What the options name, the rest being Google's own; None if none is given."""
    if not (sts or sts_mtls or iam_credentials):
        return None
    usual = GoogleEndpoints()
    return GoogleEndpoints(sts or usual.sts, sts_mtls or usual.sts_mtls, iam_credentials or usual.iam_credentials)


def render_installed(console: Console, installed: Installed) -> None:
    """A small table: what runs where, and how to connect."""
    policy, running = installed.policy, installed.running
    pids = installed.parts
    spanner_pid = pids.get("Spanner emulator")
    rows = [
        ("gateway", f"{running.gateway}, mutual TLS for {policy.trust_domain} (pid {pids['gateway']})"),
        ("Spanner", f"{running.spanner}, {installed.emulator}" + (f" (pid {spanner_pid})" if spanner_pid else "")),
        ("checkpoint", f"policy {policy.version} (pid {pids['checkpoint']})"),
        (
            "authority",
            f"certificates of one hour, renewed by themselves; {installed.authority} (pid {pids['authority']})",
        ),
        ("tokens", f"issuer {running.issuer}: public keys and discovery document"),
        ("workloads", f"Workload API at unix://{running.workload_socket}"),
        *([("pods", f"by their service account tokens at https://{running.pods}")] if running.pods else []),
        *_google_row(installed),
        ("state", f"{installed.state}: audit, decisions and logs"),
    ]
    console.print(f"Spangate is up ({installed.seconds:.1f} s).", style="bold")
    for name, text in rows:
        console.print(f"  {name:<12}{text}")
    names = sorted(policy.identities)
    example = names[0] if names else "namespace/service-account"
    console.print(f"connect: spangate run --as {example} -- COMMAND    (identities: {', '.join(names) or 'none yet'})")
    console.print("watch:   spangate log -f")
    console.print("stop:    Ctrl-C")


def _google_row(installed: Installed) -> list[tuple[str, str]]:
    """Where access tokens come from, if from anywhere."""
    google, pids = installed.policy.google, installed.parts
    if google is None:
        return []
    pid = pids.get("stand-in for Google")
    where = f"the stand-in for Google (pid {pid}), which is not Google" if pid else "Google"
    return [("broker", f"access tokens by {google.pool}/{google.provider} from {where} (pid {pids['broker']})")]
