"""The contract suite runs against whatever Google the variables name: here another stand-in, which it cannot rule."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fakes.google import (
    ACCOUNT,
    AUDIENCE,
    ISSUER,
    SUBJECT,
    UNBOUND,
    X509_AUDIENCE,
    FakeIssuer,
    configuration,
    provider,
    x509_provider,
)
from fakes.pki import authority, leaf
from fakes.standin import StandInProcess

ROOT = Path(__file__).parents[2]
PREFIX = "SPANGATE_TEST_GOOGLE_"
# Each starts a test run of its own.
thorough = pytest.mark.thorough


@pytest.fixture
def variables(tmp_path: Path) -> Iterator[dict[str, str]]:
    issuer, root = FakeIssuer(), authority("root")
    key = tmp_path / "issuer.pem"
    key.write_bytes(issuer.ec.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    chain, chain_key = leaf(root).write(tmp_path)
    own = tmp_path / "tls-root.pem"
    config = configuration(provider(issuer), x509_provider(root.pem))
    with StandInProcess(config, tmp_path, "--tls-port", "0", "--tls-root", str(own)) as standin:
        named = {
            "AUDIENCE": AUDIENCE,
            "ISSUER": ISSUER,
            "ISSUER_KEY": str(key),
            "ISSUER_KEY_ID": "es",
            "SUBJECT": SUBJECT,
            "SERVICE_ACCOUNT": ACCOUNT,
            "UNBOUND_SERVICE_ACCOUNT": UNBOUND,
            "STS": standin.url,
            "IAM": standin.url,
            "STS_MTLS": standin.next_url(),
            "MTLS_AUDIENCE": X509_AUDIENCE,
            "CERTIFICATE": str(chain),
            "CERTIFICATE_KEY": str(chain_key),
        }
        yield {PREFIX + name: value for name, value in named.items()} | {"REQUESTS_CA_BUNDLE": str(own)}


def run(variables: dict[str, str], *selected: str) -> Any:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/contract/google", *selected],
        cwd=ROOT,
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@thorough
def test_every_promise_is_asked_of_the_google_that_is_named(variables: dict[str, str]) -> None:
    done = run(variables)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b[4-9][0-9] passed", done.stdout), done.stdout
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert skipped
    assert all("only the stand-in can be set up otherwise" in line for line in skipped)


@thorough
def test_a_variable_that_is_missing_is_an_error_and_no_skip(variables: dict[str, str]) -> None:
    del variables[f"{PREFIX}ISSUER_KEY"]
    done = run(variables, "-k", "test_a_good_token_is_exchanged")
    assert done.returncode == 1
    assert f"{PREFIX}ISSUER_KEY has to be set too" in done.stdout


@thorough
def test_without_a_provider_for_certificates_its_tests_say_so(variables: dict[str, str]) -> None:
    del variables[f"{PREFIX}MTLS_AUDIENCE"]
    done = run(variables, "-k", "test_a_certificate_is_exchanged")
    assert done.returncode == 0, done.stdout
    assert f"{PREFIX}MTLS_AUDIENCE names no provider for certificates" in done.stdout


def test_every_variable_is_documented() -> None:
    page = (ROOT / "docs" / "google.md").read_text()
    read = set(re.findall(r'named\("([A-Z_]+)"', (ROOT / "tests/contract/google/conftest.py").read_text()))
    assert read | {"AUDIENCE"} == set(re.findall(rf"{PREFIX}([A-Z_]+)", page))
