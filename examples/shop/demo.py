"""The whole story in one minute: start Spangate, run three programs, show who did what. `make demo` calls this.

It uses only what every user has: the command `spangate`, and the audit file it writes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
STATE = HERE / ".spangate"
SPANGATE = str(Path(sys.executable).with_name("spangate"))
START_SECONDS_MAX = 120.0
PROGRAM_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 20.0
# The collector is at most a few tenths of a second behind the gateway.
AUDIT_SECONDS_MAX = 10.0
CALLS = 300
# Requests that only keep sessions and transactions; the table shows what touched data.
HOUSEKEEPING = {"CreateSession", "BatchCreateSessions", "GetSession", "DeleteSession", "BeginTransaction", "Rollback"}

COLUMNS_SHOWN_MAX = 3
# The table needs this much; where the output is no terminal, there is no width to respect.
WIDTH = 120

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)


class DemoFailed(Exception):
    """The demo did not show what it should."""


@contextmanager
def gate() -> Iterator[dict[str, Any]]:
    """`spangate up`, running; gives what it announced."""
    process = subprocess.Popen([SPANGATE, "up"], cwd=HERE)
    try:
        end = time.monotonic() + START_SECONDS_MAX
        while not (found := announced(process.pid)):
            if process.poll() is not None or time.monotonic() > end:
                raise DemoFailed("`spangate up` did not start; see above")
            time.sleep(0.05)
        yield found
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS_MAX)


def announced(pid: int) -> dict[str, Any] | None:
    try:
        found = json.loads((STATE / "up.json").read_text())
    except (OSError, ValueError):
        return None
    return found if found["pid"] == pid else None


def program(identity: str, *command: str, quiet: bool = False) -> str:
    """One program under an identity; its output. It says by its exit code whether it saw what it should."""
    argv = [SPANGATE, "run", "--as", identity, "--", sys.executable, *command]
    if not quiet:
        console.print(f"\n[bold]$ spangate run --as {identity} -- python {' '.join(command)}[/bold]")
    done = subprocess.run(
        argv, cwd=HERE, stdout=subprocess.PIPE, text=True, timeout=PROGRAM_SECONDS_MAX, env=dict(os.environ)
    )
    if not quiet:
        console.print(done.stdout.rstrip(), markup=False)
    if done.returncode != 0:
        raise DemoFailed(f"{command[0]} ended with exit code {done.returncode}")
    return done.stdout


def records(offset: int) -> list[dict[str, Any]]:
    """The audit records written since `offset`, once they have stopped coming."""
    end = time.monotonic() + AUDIT_SECONDS_MAX
    size = -1
    while time.monotonic() < end and size != (size := (STATE / "audit.jsonl").stat().st_size):
        time.sleep(0.5)
    with (STATE / "audit.jsonl").open("rb") as file:
        file.seek(offset)
        return [json.loads(line) for line in file]


def short(access: str) -> str:
    """`insert Orders(A, B, C, D)` with its columns counted where there are many."""
    table, _, columns = access.rstrip(")").partition("(")
    count = columns.count(",") + 1
    return access if count <= COLUMNS_SHOWN_MAX else f"{table} ({count} columns)"


def table_of(found: list[dict[str, Any]]) -> Table:
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for record in found:
        if record["rpc"] in HOUSEKEEPING and record["decision"] == "allow":
            continue
        who = record["name"] or (record["identity"] or "nobody").partition("/ns/")[2].replace("/sa/", "/")
        what = "\n".join(map(short, record["missing"] or record["accesses"]))
        if not what:
            what = "commit of its DML" if record["rpc"] == "Commit" else record["rpc"]
        rows.setdefault((who, what, record["decision"], record["reason"], record["policy"]), []).append(record)
    policies = {policy for *_, policy in rows}
    title = "Who did what" + (f", under policy {policies.pop()}" if len(policies) == 1 else "")
    table = Table(title=title, title_justify="left", title_style="bold")
    columns = ["who", "did what", "result, and why", "times", "receipt: committed at (UTC)"]
    if policies:
        columns.append("policy")
    for column in columns:
        table.add_column(column, justify="right" if column == "times" else "left", no_wrap="receipt" in column)
    last = ""
    for (who, what, decision, reason, policy), same in rows.items():
        if last and who != last:
            table.add_section()
        last = who
        result = "[green]allowed[/green]" if decision == "allow" else f"[red]denied[/red]: {reason.replace('-', ' ')}"
        receipts = [record["commit_timestamp"][:26].replace("T", " ") for record in same if record["commit_timestamp"]]
        cells = [who, what, result, str(len(same)), "\n".join(receipts), policy]
        table.add_row(*cells[: len(columns)])
    return table


def overhead(line: str) -> Table:
    found = json.loads(line)
    table = Table(title=f"One point query, {found['calls']} times each way in turn (ms)", title_justify="left")
    for column in ("", "p50", "p99"):
        table.add_column(column, justify="right" if column else "left")
    for name, label in (("direct", "Spanner directly"), ("through", "through Spangate"), ("added", "added")):
        table.add_row(label, f"{found[name]['p50_ms']:.3f}", f"{found[name]['p99_ms']:.3f}")
    return table


def demo() -> None:
    began = time.monotonic()
    audit = STATE / "audit.jsonl"
    offset = audit.stat().st_size if audit.exists() else 0
    with gate() as running:
        program("loader", "load.py")
        program("checkout", "checkout.py")
        program("reports", "reports.py")
        program("shop/intruder", "intruder.py")
        found = records(offset)
        console.print("\nmeasuring the overhead ...")
        # The program sees both addresses; the one through the gate is the one `run` gives it.
        script = f"import os, runpy, sys; sys.argv = ['latency.py', '--direct', '{running['spanner']}', '--through', "
        script += f"os.environ['SPANNER_EMULATOR_HOST'], '--calls', '{CALLS}']; runpy.run_path('latency.py', "
        script += "run_name='__main__')"
        measured = program("checkout", "-c", script, quiet=True)
        denied = next(record for record in found if record["missing"])
        console.print(f"\n[bold]$ spangate explain {denied['decision_id']}[/bold]")
        # A denial's exit code is 1.
        explained = subprocess.run(
            [SPANGATE, "explain", denied["decision_id"]], cwd=HERE, stdout=subprocess.PIPE, text=True, check=False
        )
        console.print(explained.stdout.rstrip(), markup=False)
    console.print()
    console.print(table_of(found))
    console.print("Session housekeeping is left out; `spangate log` in examples/shop shows every request.")
    console.print()
    console.print(overhead(measured))
    console.print(
        "Both Envoys, both hops of mutual TLS and the check are in the difference; `make bench` takes it apart."
    )
    if not any(record["commit_timestamp"] for record in found) or explained.returncode != 1:
        raise DemoFailed("the audit does not show what happened")
    console.print(
        f"\nThe demo took {time.monotonic() - began:.0f} s. Next: README.md, or `spangate init` in a folder of yours."
    )


if __name__ == "__main__":
    try:
        demo()
    except DemoFailed as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
