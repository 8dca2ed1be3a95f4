"""`spangate credentials` without anything that runs: what it needs, what it says, what it does not overwrite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fakes.shop import INTENT
from spangate.app.credentials import Credentials, CredentialsOptions, credentials_for, write
from spangate.compiler.credentials import SourceKind
from spangate.errors import YourFault

GOOGLE = """
google: {project_number: "123456789012", pool: mesh, provider: spangate}
"""
ACCOUNT = "reports@my-project.iam.gserviceaccount.com"


@pytest.fixture
def intent(tmp_path: Path) -> Path:
    path = tmp_path / "shop" / "spangate.yaml"
    path.parent.mkdir()
    impersonate = f"impersonate: {{service_account: {ACCOUNT}, lifetime: 10m}}"
    path.write_text(
        INTENT.replace("workload: analytics/reports", f"workload: analytics/reports, {impersonate}") + GOOGLE
    )
    return path


def found(intent: Path, identity: str = "checkout", **more: Any) -> Credentials:
    return credentials_for(CredentialsOptions(intent, identity, "/opt/spangate", **more))


def test_the_command_names_everything_that_it_needs(intent: Path) -> None:
    command = found(intent).configuration["credential_source"]["executable"]["command"].split(" ")
    assert command == [
        *("/opt/spangate", "token", "--as", "spiffe://shop.example/ns/shop/sa/checkout", "--audience"),
        "https://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/mesh/providers/spangate",
        *("--executable-json", "--intent", str(intent)),
    ]


def test_an_identity_of_its_own_account_has_it_in_the_configuration(intent: Path) -> None:
    assert ACCOUNT in found(intent, "reports").configuration["service_account_impersonation_url"]
    assert "service_account_impersonation_url" not in found(intent).configuration


def test_paths_are_absolute_wherever_the_library_reads_them(
    intent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = found(intent, token_file=Path("token"))
    assert given.configuration["credential_source"]["file"] == str(tmp_path / "token")
    assert given.kind is SourceKind.FILE


@pytest.mark.parametrize(
    ("identity", "more", "message"),
    [
        ("checkout", {"source": SourceKind.FILE}, "`--source file` needs `--token-file`"),
        ("checkout", {"source": SourceKind.URL}, "`--source url` needs `--port`"),
        ("checkout", {"source": SourceKind.CERTIFICATE}, "`--source certificate` needs `--certificate`"),
        ("checkout", {"certificate": Path("a")}, "`--source certificate` needs `--key`"),
        ("checkout", {"certificate": Path("a"), "key": Path("b")}, "`--source certificate` needs `--out`"),
        (
            "checkout",
            {"certificate": Path("a"), "key": Path("b"), "out": Path("c")},
            "the provider takes `subject_token",
        ),
        ("nobody", {}, "the intent has no identity `nobody`"),
        ("shop/intruder", {}, "the intent does not name `spiffe://shop.example/ns/shop/sa/intruder`"),
    ],
)
def test_what_is_missing_is_said(intent: Path, identity: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(YourFault, match=message):
        found(intent, identity, **more)


def test_without_google_there_is_nothing_to_write(intent: Path) -> None:
    intent.write_text(INTENT)
    with pytest.raises(YourFault, match="the intent has no `google`"):
        found(intent)


def test_a_folder_with_a_space_in_it_is_refused_for_a_command(tmp_path: Path, intent: Path) -> None:
    spaced = tmp_path / "my shop"
    intent.parent.rename(spaced)
    with pytest.raises(YourFault, match="cannot stand in the configuration"):
        found(spaced / intent.name)
    assert found(spaced / intent.name, port=9099).kind is SourceKind.URL


def test_a_certificate_needs_two_files_and_both_are_written(intent: Path, tmp_path: Path) -> None:
    intent.write_text(intent.read_text().replace("provider: spangate", "provider: spangate, subject_token: mtls"))
    out = tmp_path / "credentials.json"
    given = found(intent, certificate=tmp_path / "chain.pem", key=tmp_path / "key.pem", out=out)
    first, second = write(given, out)
    assert (first, second) == (out, tmp_path / "credentials.certificates.json")
    location = json.loads(first.read_text())["credential_source"]["certificate"]["certificate_config_location"]
    assert location == str(second)
    assert json.loads(second.read_text())["cert_configs"]["workload"]["key_path"] == str(tmp_path / "key.pem")
    assert write(given, out) == (first, second)


@pytest.mark.parametrize("content", ['{"type": "service_account"}', "not JSON", "[]", "{}", "[" * 100_000])
def test_a_key_that_lies_there_is_not_overwritten(intent: Path, tmp_path: Path, content: str) -> None:
    out = tmp_path / "credentials.json"
    out.write_text(content)
    with pytest.raises(YourFault, match="no configuration of this kind"):
        write(found(intent), out)
    assert out.read_text() == content


def test_a_folder_that_is_not_there_is_said(intent: Path, tmp_path: Path) -> None:
    with pytest.raises(YourFault, match="cannot write"):
        write(found(intent), tmp_path / "nowhere" / "credentials.json")
