"""`up` for an intent with `google`, and a stand-in for Google that these tests rule."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import SPANGATE, Up, shop_folder
from fakes.google import ACCOUNT, POOL, TRUST_DOMAIN
from fakes.standin import StandInProcess
from spangate.adapters.emulator import free_port
from spangate.standin.iam_credentials import WORKLOAD_IDENTITY_USER

GOOGLE = """
google:
  project_number: "123456789012"
  pool: mesh
  provider: spangate
"""
# Three identities: one with its own token, one that impersonates for the shortest time there is, one whom the
# provider's condition rejects.
REJECTED = "spiffe://shop.example/ns/shop/sa/loader"


def configuration(issuer: str) -> dict[str, Any]:
    mapping = {"google.subject": f"assertion.sub.extract('spiffe://{TRUST_DOMAIN}/{{id}}')"}
    member = f"principal://iam.googleapis.com/{POOL}/subject/ns/analytics/sa/reports"
    return {
        "pools": [
            {
                "name": POOL,
                "providers": [
                    {
                        "name": "spangate",
                        "attributeMapping": mapping,
                        "attributeCondition": f"assertion.sub != '{REJECTED}'",
                        "oidc": {"issuerUri": issuer},
                    }
                ],
            }
        ],
        "serviceAccounts": [{"email": ACCOUNT, "bindings": [{"role": WORKLOAD_IDENTITY_USER, "members": [member]}]}],
    }


def with_google(folder: Path) -> Path:
    """The shop, whose identities get tokens."""
    file = shop_folder(folder) / "spangate.yaml"
    text = file.read_text()
    whole = "  reports:  {workload: analytics/reports}\n"
    assert whole in text
    impersonate = f"impersonate: {{service_account: {ACCOUNT}, lifetime: 5m}}"
    changed = f"  reports:  {{workload: analytics/reports, {impersonate}}}\n"
    file.write_text(text.replace(whole, changed) + GOOGLE)
    return folder


@dataclass
class Direct:
    """What runs."""

    up: Up
    standin: StandInProcess

    def whose(self, token: str) -> str:
        """What Google knows of a token: the principal's or account's name."""
        body = urllib.parse.urlencode({"token": token}).encode()
        with urllib.request.urlopen(f"{self.standin.url}/v1/introspect", body, timeout=10) as answer:
            return str(json.load(answer)["username"])

    def pointed_here(self, credentials: Path) -> Path:
        """The configuration, with Google's addresses replaced by the stand-in's and nothing else."""
        text = credentials.read_text()
        for google in ("https://sts.googleapis.com", "https://iamcredentials.googleapis.com"):
            text = text.replace(google, self.standin.url)
        changed = credentials.with_name("here.json")
        changed.write_text(text)
        return changed


@contextmanager
def directly(folder: Path) -> Iterator[Direct]:
    """Everything, for as long as it is needed."""
    port = str(free_port())
    with StandInProcess(configuration(f"http://127.0.0.1:{port}"), folder, "--ruled") as standin:
        here = "https://127.0.0.1:1"  # nobody shows a certificate
        google = ("--sts", standin.url, "--sts-mtls", here, "--iam-credentials", standin.url)
        up = Up(with_google(folder / "shop"), "--oidc-port", port, *google).wait_until_up()
        try:
            yield Direct(up, standin)
        finally:
            code = up.end()
        assert code == 0, up.printed


@pytest.fixture(scope="session")
def direct(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Direct]:
    """Once for all tests of this folder that do no harm to it."""
    with directly(tmp_path_factory.mktemp("direct")) as found:
        yield found


@pytest.fixture
def endpoint(direct: Direct) -> Iterator[Callable[..., tuple[subprocess.Popen[str], dict[str, str]]]]:
    """Starts `spangate metadata`; the process, and the variables that it prints."""
    started: list[subprocess.Popen[str]] = []

    def start(identity: str, *arguments: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
        process = subprocess.Popen(
            [str(SPANGATE), "metadata", "--as", identity, *arguments],
            cwd=direct.up.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(2)]
        return process, dict(words[1].split("=", 1) for words in lines)

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
