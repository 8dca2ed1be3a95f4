"""Promise: Google's library, unchanged, gets an identity's short-lived tokens from the local endpoint; nobody else."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.direct.conftest import Direct
from e2e.harness import SPANGATE, alive, eventually, spangate
from fakes.google import ACCOUNT, POOL

pytestmark = pytest.mark.e2e

LIBRARY = str(Path(__file__).with_name("library.py"))
TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"
CHECKOUT = f"principal://iam.googleapis.com/{POOL}/subject/ns/shop/sa/checkout"


def run_direct(direct: Direct, identity: str, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return spangate("run", "--as", identity, "--direct", "--", *command, cwd=direct.up.folder, **env)


def get(url: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google", **headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_library_gets_the_identitys_token_and_refreshes_it(direct: Direct) -> None:
    done = run_direct(direct, "checkout", sys.executable, LIBRARY)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert direct.whose(found["first"]) == direct.whose(found["again"]) == CHECKOUT
    assert found["kind"] == "google.auth.compute_engine.credentials.Credentials"
    assert found["project"] == "spangate-local"
    assert found["kept"]
    assert found["valid"]
    # More than what the library takes for stale.
    assert 225 < found["seconds"] <= 3600
    assert done.stderr == ""


def test_an_identity_that_impersonates_gets_the_accounts_token(direct: Direct) -> None:
    done = run_direct(direct, "reports", sys.executable, LIBRARY)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert direct.whose(found["first"]) == ACCOUNT
    assert found["seconds"] <= 300


def test_credentials_of_whoever_starts_it_are_none_of_the_commands(direct: Direct, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text('{"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}')
    (tmp_path / "application_default_credentials.json").write_text(key.read_text())
    env = {
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
        "CLOUDSDK_CONFIG": str(tmp_path),
        "NO_GCE_CHECK": "true",
        "SPANNER_EMULATOR_HOST": "127.0.0.1:1",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }
    done = run_direct(direct, "checkout", sys.executable, LIBRARY, **env)
    assert done.returncode == 0, done.stderr
    assert direct.whose(json.loads(done.stdout)["first"]) == CHECKOUT
    seen = run_direct(direct, "checkout", "env", **env).stdout
    assert "SPANNER_EMULATOR_HOST" not in seen
    assert str(key) not in seen


def test_the_commands_exit_code_is_the_commands(direct: Direct) -> None:
    assert run_direct(direct, "checkout", "sh", "-c", "exit 7").returncode == 7


def test_another_process_of_the_same_user_gets_nothing(direct: Direct) -> None:
    """What the command starts is served, whoever else finds the port is not."""
    with subprocess.Popen(
        [str(SPANGATE), "run", "--as", "checkout", "--direct", "--", "sh", "-c", "echo $GCE_METADATA_HOST; cat"],
        cwd=direct.up.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        status, text = get(f"http://{address}{TOKEN}")
        assert status == 403
        assert "your process is none of its own" in text
        process.communicate("")
        assert process.returncode == 0
    # It ends with the command.
    host, _, port = address.partition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 5)


def test_a_grandchild_is_served(direct: Direct) -> None:
    script = f"{sys.executable} {LIBRARY} | cat"
    done = run_direct(direct, "checkout", "sh", "-c", script)
    assert direct.whose(json.loads(done.stdout)["first"]) == CHECKOUT


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        ("loader", "the attribute condition of provider `spangate` rejects this identity"),
        ("shop/intruder", "the intent does not name `spiffe://shop.example/ns/shop/sa/intruder`"),
    ],
)
def test_who_gets_no_token_is_told_why_before_anything_is_started(direct: Direct, identity: str, message: str) -> None:
    done = run_direct(direct, identity, "echo", "started")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_an_intent_without_google_says_so(shop: Any) -> None:
    done = spangate("run", "--as", "checkout", "--direct", "--", "true", cwd=shop.folder)
    assert done.returncode == 2
    assert "the intent has no `google`" in done.stderr


def test_the_endpoint_serves_own_processes_and_ends_on_ctrl_c(
    direct: Direct, endpoint: Callable[..., tuple[subprocess.Popen[str], dict[str, str]]]
) -> None:
    process, variables = endpoint("checkout")
    assert set(variables) == {"GCE_METADATA_HOST", "GCE_METADATA_IP"}
    status, text = get(f"http://{variables['GCE_METADATA_HOST']}{TOKEN}")
    assert status == 200
    assert direct.whose(json.loads(text)["access_token"]) == CHECKOUT
    status, _ = get(f"http://{variables['GCE_METADATA_HOST']}{TOKEN}", **{"X-Forwarded-For": "10.0.0.1"})
    assert status == 403
    process.send_signal(signal.SIGINT)
    eventually(lambda: not alive(process.pid), "the endpoint has ended")
    _, printed = process.communicate()
    assert process.returncode == 0, printed
    assert "Traceback" not in printed


def test_a_program_with_the_printed_variables_gets_its_token(
    direct: Direct, endpoint: Callable[..., tuple[subprocess.Popen[str], dict[str, str]]]
) -> None:
    _, variables = endpoint("reports")
    env = {name: value for name, value in os.environ.items() if not name.startswith("GOOGLE_")} | variables
    done = subprocess.run([sys.executable, LIBRARY], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert direct.whose(json.loads(done.stdout)["first"]) == ACCOUNT


def test_no_token_is_left_on_disk_or_printed(direct: Direct) -> None:
    done = run_direct(direct, "checkout", sys.executable, LIBRARY)
    token = json.loads(done.stdout)["first"].encode()
    for folder in (direct.up.folder, direct.up.runtime):
        for path in folder.rglob("*"):
            assert not path.is_file() or token not in path.read_bytes(), path
