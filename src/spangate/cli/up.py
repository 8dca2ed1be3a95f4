"""How `spangate up` shows what runs."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from spangate.app.up import Installed


def render_installed(console: Console, installed: object) -> None:
    """A small table: what runs where, and how to connect."""
    if not isinstance(installed, Installed):
        raise TypeError("not an installation")
    policy, running = installed.policy, installed.running
    pids = {child.name: child.pid for child in installed.children}
    table = Table.grid(padding=(0, 3))
    for _ in range(3):
        table.add_column(no_wrap=True, overflow="ignore")
    table.add_row("gateway", running.gateway, f"mutual TLS for {policy.trust_domain}, pid {pids['gateway']}")
    spanner_pid = pids.get("Spanner emulator")
    table.add_row("Spanner", running.spanner, installed.emulator + (f", pid {spanner_pid}" if spanner_pid else ""))
    table.add_row("checkpoint", "", f"policy {policy.version}, pid {pids['checkpoint']}")
    table.add_row("authority", "", f"certificates of one hour, renewed by themselves, pid {running.pid}")
    table.add_row("state", str(installed.state), "audit, decisions and logs")
    console.print(f"Spangate is up ({installed.seconds:.1f} s).", style="bold")
    console.print(table, no_wrap=True, crop=False, overflow="ignore")
    names = sorted(policy.identities)
    example = names[0] if names else "namespace/service-account"
    console.print(f"connect: spangate run --as {example} -- COMMAND    (identities: {', '.join(names) or 'none yet'})")
    console.print("watch:   spangate log -f")
    console.print("stop:    Ctrl-C")
