"""What `spangate rotate` says, and what it asks a person to do by hand."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from spangate.adapters.state import Running
from spangate.app.google_store import check_provider, trust_store, update_command
from spangate.authority.rotation import Phase
from spangate.cli import rotate
from spangate.errors import YourFault

PROVIDER = "projects/123456789012/locations/global/workloadIdentityPools/mesh/providers/spangate"


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("90d", timedelta(days=90)),
        ("12h", timedelta(hours=12)),
        ("30m", timedelta(minutes=30)),
        ("45s", timedelta(seconds=45)),
        ("never", None),
    ],
)
def test_a_time_is_a_number_and_a_unit_or_never(text: str, every: timedelta | None) -> None:
    assert rotate.rotate_every(text) == every


@pytest.mark.parametrize("text", ["", "0d", "-1d", "1", "1w", "1 d", "999999d", "d", "1d\n", "\u0661d"])
def test_what_is_no_time_is_an_error(text: str) -> None:
    with pytest.raises(YourFault, match="is no time"):
        rotate.rotate_every(text)


@pytest.mark.parametrize("text", ["x", PROVIDER + "/", PROVIDER.replace("123456789012", "my-project"), PROVIDER + "\n"])
def test_what_names_no_provider_is_an_error(text: str) -> None:
    with pytest.raises(YourFault, match="is not the name of a provider"):
        check_provider(text)


def test_the_command_for_google_names_the_provider_and_the_store_holds_each_root() -> None:
    assert check_provider("") == ""
    assert update_command(PROVIDER) == (
        "gcloud iam workload-identity-pools providers update-x509 spangate --project=123456789012 --location=global "
        "--workload-identity-pool=mesh --trust-store-config-path=trust-store.json"
    )
    with pytest.raises(YourFault, match="no X"):
        update_command("")
    assert json.loads(trust_store(["a", "b"])) == {
        "trustStore": {"trustAnchors": [{"pemCertificate": "a"}, {"pemCertificate": "b"}]}
    }


def found(**change: object) -> dict[str, object]:
    root = {"number": 2, "fingerprint": "f" * 64, "not_after": "2031-01-01T00:00:00Z", "signs": True, "pem": "PEM"}
    return {
        "phase": "NEW_ROOT_TRUSTED",
        "since": "2026-01-01T00:00:00Z",
        "peers": 2,
        "roots": [root],
        "let_go": [{"number": 1, "fingerprint": "e" * 64, "until": "2026-01-01T01:00:00Z"}],
        "next": None,
        "waits": [{"who": f"run {n}", "why": "is silent", "until": None} for n in range(14)],
        "waiting": 14,
        "stores": [{"name": "google", "confirmed": False}],
        **change,
    }


def test_it_says_for_whom_it_waits_and_what_a_person_has_to_do() -> None:
    out = Console(file=StringIO(), width=300, soft_wrap=True)
    texts = dict.fromkeys((one.name for one in fields(Running)), "x")
    running = Running(**{**texts, "pid": 1, "emulator": True, "google_trust_store": PROVIDER})
    rotate._print(out, running, found(), as_json=False)
    text = out.file.getvalue()
    assert "waits for run 0: is silent" in text
    assert "and for 2 more" in text
    assert "update-x509 spangate" in text
    assert "spangate rotate --confirm google" in text
    assert "root 1  eeeeeeeeeeeeeeee  not trusted any more" in text


def test_every_phase_has_its_meaning() -> None:
    assert set(rotate._MEANING) == {phase.value for phase in Phase}


def test_two_things_at_once_are_refused() -> None:
    console = Console(quiet=True)
    with pytest.raises(YourFault, match="give one of"):
        rotate.rotate_command(
            console, console, intent=None, show=True, turn_back=True, store=None, wait=False, as_json=False
        )
