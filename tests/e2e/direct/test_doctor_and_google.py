"""Promise: `spangate doctor` says which call to Google fails, in a sentence, with the command that shows it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.direct.conftest import Direct, configuration, directly
from e2e.harness import eventually, spangate
from fakes.google import ACCOUNT

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def harmed(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Direct]:
    """One of one's own. Each test uses an identity of its own: what was refused is remembered for a while."""
    with directly(tmp_path_factory.mktemp("harmed")) as found:
        yield found


def told(direct: Direct, identity: str) -> dict[str, dict[str, Any]]:
    done = spangate("doctor", "--as", identity, "--json", cwd=direct.up.folder)
    assert done.stdout, done.stderr
    return {entry["link"]: entry for entry in json.loads(done.stdout)["links"]}


def broken(found: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, entry in found.items() if entry["state"] == "problem"}


def test_a_provider_for_another_audience(harmed: Direct) -> None:
    config = configuration(harmed.up.running["issuer"])
    good = json.dumps(config)
    config["pools"][0]["providers"][0]["oidc"]["allowedAudiences"] = ["https://elsewhere.example"]
    harmed.standin.put("config", config)
    found = told(harmed, "checkout")
    assert "provider `spangate` does not allow the audience of our tokens" in found["exchange"]["sentence"]
    assert "gcloud iam workload-identity-pools providers describe spangate" in found["exchange"]["fix"]
    assert found["impersonation"]["sentence"] == "not checked: mend `exchange` first"
    # The gateway wants a token too, and would only say the same.
    assert broken(found) == {"exchange"}
    harmed.standin.put("config", json.loads(good))
    eventually(lambda: not broken(told(harmed, "checkout")), "it is mended")


def test_an_account_that_may_not_be_impersonated(harmed: Direct) -> None:
    config = configuration(harmed.up.running["issuer"])
    config["serviceAccounts"][0]["bindings"] = []
    harmed.standin.put("config", config)
    try:
        found = told(harmed, "reports")
    finally:
        harmed.standin.put("config", configuration(harmed.up.running["issuer"]))
    assert found["exchange"]["state"] == "ok"
    assert broken(found) == {"impersonation"}
    assert f"no roles/iam.workloadIdentityUser on service account `{ACCOUNT}`" in found["impersonation"]["sentence"]
    assert found["impersonation"]["fix"] == f"gcloud iam service-accounts get-iam-policy {ACCOUNT}"


def test_a_condition_that_rejects_the_identity(harmed: Direct) -> None:
    found = told(harmed, "loader")
    assert "the attribute condition of provider `spangate` rejects this identity" in found["exchange"]["sentence"]


def test_a_broker_that_hangs(harmed: Direct) -> None:
    pid = harmed.up.child("broker_process")
    os.kill(pid, signal.SIGSTOP)
    try:
        found = told(harmed, "checkout")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert broken(found) == {"up"}
    assert "the broker does not answer" in found["up"]["sentence"]


def test_google_away(harmed: Direct) -> None:
    harmed.standin.process.send_signal(signal.SIGSTOP)
    try:
        found = told(harmed, "loader")
    finally:
        harmed.standin.process.send_signal(signal.SIGCONT)
    # Whoever has a token goes on; who has none is told. The clock there is not known.
    assert "Google's token service not asked" in found["clock"]["sentence"]
    assert broken(found) == {"exchange"}
    assert "it takes too long" in found["exchange"]["sentence"]


def test_when_all_is_well(direct: Direct) -> None:
    found = told(direct, "reports")
    assert not broken(found)
    assert "stand-in for Google" in found["up"]["sentence"]
    assert "agrees with Google's token service" in found["clock"]["sentence"]
    assert found["exchange"]["sentence"] == "Google takes its token at provider `spangate` of pool `mesh`"
    assert found["impersonation"]["sentence"].startswith(f"it gets tokens of `{ACCOUNT}`")
