"""How `spangate up` shows what runs."""

from __future__ import annotations

from rich.console import Console

from spangate.app.up import Installed
from spangate.errors import YourFault
from spangate.model.database import BadResourceName, DatabasePath


def shared_database(text: str) -> DatabasePath | None:
    """What `--shared-state` names; None if it is not given."""
    try:
        return DatabasePath.parse(text) if text else None
    except BadResourceName as error:
        raise YourFault(f"`--shared-state {text}` names no database: {error}") from error


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
