"""Promise: with `google` in the intent, `up` runs a broker and a stand-in for Google, and keeps them running."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.cloud.spanner_v1 import types

from e2e.broker.parts import PREFIX
from e2e.harness import (
    ACCOUNT,
    CHECKOUT,
    DATABASE,
    GOOGLE,
    REPORTS,
    Refused,
    Up,
    alive,
    descendants,
    edit,
    eventually,
    shop_folder,
)

pytestmark = pytest.mark.e2e


def folder_with(folder: Path, google: str) -> Path:
    shop = shop_folder(folder / "shop")
    intent = shop / "spangate.yaml"
    kept = [line for line in intent.read_text().splitlines(keepends=True) if not line.startswith("google:")]
    intent.write_text("".join(kept) + google)
    return shop


def session(up: Up, identity=CHECKOUT) -> bytes | Refused:
    with up.client(identity) as client:
        return client.call("CreateSession", types.CreateSessionRequest(database=DATABASE))


@pytest.mark.parametrize("subject", ["", ", subject_token: mtls"], ids=["by token", "by certificate"])
def test_programs_work_parts_come_back_and_no_token_shows(
    start_up: Callable[..., Up], tmp_path: Path, subject: str
) -> None:
    google = GOOGLE.replace("}", f"{subject}}}")
    up = start_up(folder_with(tmp_path, google), "--workers", "1").wait_until_up()
    up.program("loader", "load.py")
    assert "which is not Google" in up.printed
    for part in ("broker_process", "standin_process"):
        os.kill(up.child(part), signal.SIGKILL)
    # Nobody else can be asked in its place.
    port = int(up.running["sts"].rpartition(":")[2])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="Address already in use"):
            other.bind(("127.0.0.1", port))
    # Whoever has none waits for the broker, which comes back on the same socket, and asks the stand-in, where it was.
    eventually(lambda: not isinstance(session(up, REPORTS), Refused), "the broker and the stand-in are back")
    # An account of one's own: the stand-in learns who may impersonate it.
    account = f", impersonate: {{service_account: {ACCOUNT}}}"
    intent = up.folder / "spangate.yaml"
    edit(intent, ("{workload: analytics/reports}", f"{{workload: analytics/reports{account}}}"))
    eventually(lambda: "is in force" in up.printed, "the policy changed")
    eventually(lambda: not isinstance(session(up, REPORTS), Refused), "the account is impersonated")
    shows_no_token(up)
    # Without `google` nobody gets a token, and nothing goes on without.
    edit(intent, ("\ngoogle:", "\n#google:"), (account, ""))
    eventually(lambda: "`google` came or went" in up.printed, "it is said")

    def refused() -> bool:
        answer = session(up)
        return isinstance(answer, Refused) and answer.code is grpc.StatusCode.PERMISSION_DENIED

    eventually(refused, "nobody gets a token")
    shows_no_token(up)
    assert up.end() == 0
    assert not any(alive(pid) for pid in up.children)


def shows_no_token(up: Up) -> None:
    """Not on disk, not in arguments, not in environments."""
    for folder in (up.folder, up.runtime):
        for file in (file for file in folder.rglob("*") if file.is_file()):
            assert PREFIX not in file.read_bytes(), file
    for pid in [up.process.pid, *descendants(up.process.pid)]:
        for name in ("cmdline", "environ"):
            assert PREFIX not in Path(f"/proc/{pid}/{name}").read_bytes()
    assert PREFIX not in up.printed.encode()
