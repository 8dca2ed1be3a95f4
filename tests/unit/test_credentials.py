"""The configuration for Google's libraries: reviewed like code, read by Google's own library, without a secret."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import google.auth
import pytest
from google.auth import identity_pool, pluggable

from spangate.compiler import executable_response
from spangate.compiler.credentials import (
    CertificateSource,
    ExecutableSource,
    FileSource,
    Source,
    SourceKind,
    UrlSource,
    certificate_configuration,
    choose_source,
    external_account,
)
from spangate.errors import YourFault
from spangate.model.google import GoogleFederation, Impersonation, SubjectTokenType
from spangate.model.identity import SpiffeId

GOLDEN = Path(__file__).parent / "golden" / "credentials.json"
CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")
JWT = GoogleFederation("123456789012", "mesh", "spangate")
MTLS = GoogleFederation("123456789012", "mesh", "spangate", SubjectTokenType.MTLS)
ACCOUNT = Impersonation("spanner@my-project.iam.gserviceaccount.com", lifetime_seconds=600)
COMMAND = ["/opt/spangate", "token", "--as", str(CHECKOUT), "--audience", JWT.token_audience, "--executable-json"]
CERTIFICATE = CertificateSource("/certs/cert-chain.pem", "/certs/key.pem", "/etc/shop/certificates.json")
SOURCES: dict[str, tuple[GoogleFederation, Impersonation | None, Source]] = {
    "file": (JWT, None, FileSource("/var/run/secrets/google/token")),
    "url": (JWT, None, UrlSource(9099, CHECKOUT)),
    "executable": (JWT, ACCOUNT, ExecutableSource(COMMAND)),
    "certificate": (MTLS, ACCOUNT, CERTIFICATE),
}
KINDS = {"executable": pluggable.Credentials}


def test_the_configurations_are_the_reviewed_ones() -> None:
    found: dict[str, Any] = {name: external_account(*parts) for name, parts in SOURCES.items()}
    found["certificate configuration"] = certificate_configuration(CERTIFICATE)
    text = json.dumps(found, indent=1) + "\n"
    if os.environ.get("SPANGATE_REFRESH"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SOURCES)
def test_googles_library_takes_the_configuration(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(external_account(*SOURCES[name])))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    credentials, _ = google.auth.default(scopes=["a"])
    assert isinstance(credentials, KINDS.get(name, identity_pool.Credentials))


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, SourceKind.EXECUTABLE),
        ({"token_file": True}, SourceKind.FILE),
        ({"port": True}, SourceKind.URL),
        ({"certificate": True}, SourceKind.CERTIFICATE),
    ],
)
def test_the_source_that_fits_is_chosen_and_says_why(given: dict[str, bool], kind: SourceKind) -> None:
    at_hand = {"token_file": False, "port": False, "certificate": False} | given
    found, why = choose_source(JWT, **at_hand)
    assert found is kind
    assert why
    assert choose_source(MTLS, **at_hand)[0] is SourceKind.CERTIFICATE


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_the_provider_does_not_take_is_refused(name: str) -> None:
    federation, impersonation, source = SOURCES[name]
    with pytest.raises(YourFault, match="the provider takes `subject_token:"):
        external_account(MTLS if federation is JWT else JWT, impersonation, source)


def test_delegates_cannot_be_said() -> None:
    chain = Impersonation(ACCOUNT.service_account, ("between@my-project.iam.gserviceaccount.com",))
    with pytest.raises(YourFault, match="no place for delegates"):
        external_account(JWT, chain, FileSource("/token"))


@pytest.mark.parametrize("word", ["/my folder/spangate", "it's", 'a"b', "a\\b", "$HOME", "`id`", "a;b", "", "é", "a\n"])
def test_a_command_that_libraries_would_split_differently_is_refused(word: str) -> None:
    with pytest.raises(YourFault, match="cannot stand in the configuration"):
        external_account(JWT, None, ExecutableSource([word, "token"]))


def test_the_command_is_read_back_as_it_was_by_every_way_of_splitting() -> None:
    found = external_account(*SOURCES["executable"])["credential_source"]["executable"]["command"]
    assert shlex.split(found) == found.split(" ") == COMMAND


LIBRARYS = {
    "GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": JWT.audience,
    "GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE": "urn:ietf:params:oauth:token-type:jwt",
}


def test_a_library_that_goes_where_the_token_is_for_gets_it() -> None:
    assert executable_response.problem_with(LIBRARYS, JWT.token_audience) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": JWT.audience + "x"}, "the library goes to"),
        ({"GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": ""}, "the library goes to"),
        ({"GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE": "urn:ietf:params:oauth:token-type:saml2"}, "wants a `urn"),
        ({"GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE": ""}, "wants a ``"),
        ({"GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE": "/tmp/token"}, "never written into a file"),
        ({"GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": None}, "no Google client library"),
        ({"GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE": None}, "no Google client library"),
    ],
)
def test_any_other_use_of_the_executable_is_refused(change: dict[str, str | None], message: str) -> None:
    environment = {name: value for name, value in (LIBRARYS | change).items() if value is not None}
    assert message in str(executable_response.problem_with(environment, JWT.token_audience))


def test_a_service_account_is_in_the_configuration_with_its_tokens_lifetime() -> None:
    found = external_account(JWT, ACCOUNT, FileSource("/token"))
    assert found["service_account_impersonation_url"].endswith(f"/{ACCOUNT.service_account}:generateAccessToken")
    assert found["service_account_impersonation"] == {"token_lifetime_seconds": 600}
    assert "service_account_impersonation" not in external_account(JWT, None, FileSource("/token"))
