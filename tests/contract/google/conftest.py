"""Google, for the contract: the stand-in by default, the real services where environment variables name them.

docs/google.md lists the variables. Nothing here ever prints a token.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.google.parts import Google, Mtls
from fakes.google import (
    ACCOUNT,
    AUDIENCE,
    ISSUER,
    UNBOUND,
    X509_AUDIENCE,
    FakeIssuer,
    configuration,
    provider,
    x509_provider,
)
from fakes.pki import Held, authority, leaf
from fakes.standin import StandInProcess

_PREFIX = "SPANGATE_TEST_GOOGLE_"


@pytest.fixture(scope="session")
def issuer() -> FakeIssuer:
    return FakeIssuer()


@pytest.fixture(scope="session")
def root() -> Held:
    return authority("root")


@pytest.fixture(scope="session")
def _google(issuer: FakeIssuer, root: Held, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    audience = os.environ.get(f"{_PREFIX}AUDIENCE")
    if audience:
        yield _real(audience)
        return
    folder = tmp_path_factory.mktemp("standin")
    own = folder / "tls-root.pem"
    with StandInProcess(_config(issuer, root), folder, "--ruled", "--tls-port", "0", "--tls-root", str(own)) as process:
        subject, url = "spiffe://shop.example/ns/shop/sa/checkout", process.url
        chain, key = leaf(root).write(folder)
        mtls = Mtls(process.next_url(), X509_AUDIENCE, chain, key, own)
        yield Google(url, url, AUDIENCE, ISSUER, issuer.ec, "ES256", "es", subject, ACCOUNT, UNBOUND, mtls, process)


def _config(issuer: FakeIssuer, root: Held) -> dict[str, Any]:
    """A provider for tokens and one for certificates."""
    return configuration(provider(issuer), x509_provider(root.pem))


def _real(audience: str) -> Google:
    """The real services. A variable that is missing is an error: a contract half tested is none."""

    def named(name: str, default: str | None = None) -> str:
        value = os.environ.get(_PREFIX + name, default)
        if value is None:
            pytest.fail(f"{_PREFIX}AUDIENCE is set, so {_PREFIX}{name} has to be set too; see docs/google.md")
        return value

    return Google(
        named("STS", "https://sts.googleapis.com"),
        named("IAM", "https://iamcredentials.googleapis.com"),
        audience,
        named("ISSUER"),
        Path(named("ISSUER_KEY")).read_text(),
        named("ISSUER_ALGORITHM", "ES256"),
        named("ISSUER_KEY_ID"),
        named("SUBJECT"),
        named("SERVICE_ACCOUNT"),
        named("UNBOUND_SERVICE_ACCOUNT"),
        Mtls(
            named("STS_MTLS", "https://sts.mtls.googleapis.com"),
            named("MTLS_AUDIENCE"),
            Path(named("CERTIFICATE")),
            Path(named("CERTIFICATE_KEY")),
        )
        if os.environ.get(f"{_PREFIX}MTLS_AUDIENCE")
        else None,
    )


@pytest.fixture
def google(_google: Google) -> Google:
    return _google


@pytest.fixture
def mtls(_google: Google) -> Mtls:
    if _google.mtls is None:
        pytest.skip(f"{_PREFIX}MTLS_AUDIENCE names no provider for certificates")
    return _google.mtls


@pytest.fixture
def standin(_google: Google, issuer: FakeIssuer, root: Held) -> Iterator[StandInProcess]:
    """For what cannot be asked of the real services: another set-up, faults. Put back afterwards."""
    if _google.standin is None:
        pytest.skip("only the stand-in can be set up otherwise, or made to fail")
    yield _google.standin
    _google.standin.put("faults", {})
    _google.standin.put("config", _config(issuer, root))
