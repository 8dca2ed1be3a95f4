"""Google, for the contract: the stand-in by default, the real services where environment variables name them.

docs/google.md lists the variables. Nothing here ever prints a token.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.google.parts import Google
from fakes.google import ACCOUNT, AUDIENCE, ISSUER, UNBOUND, FakeIssuer, configuration, provider
from fakes.standin import StandInProcess

_PREFIX = "SPANGATE_TEST_GOOGLE_"


@pytest.fixture(scope="session")
def issuer() -> FakeIssuer:
    return FakeIssuer()


@pytest.fixture(scope="session")
def _google(issuer: FakeIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    audience = os.environ.get(f"{_PREFIX}AUDIENCE")
    if audience:
        yield _real(audience)
        return
    config = configuration(provider(issuer))
    with StandInProcess(config, tmp_path_factory.mktemp("standin"), "--ruled") as process:
        subject = "spiffe://shop.example/ns/shop/sa/checkout"
        url = process.url
        yield Google(url, url, AUDIENCE, ISSUER, issuer.ec, "ES256", "es", subject, ACCOUNT, UNBOUND, standin=process)


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
    )


@pytest.fixture
def google(_google: Google) -> Google:
    return _google


@pytest.fixture
def standin(_google: Google, issuer: FakeIssuer) -> Iterator[StandInProcess]:
    """For what cannot be asked of the real services: another set-up, faults. Put back afterwards."""
    if _google.standin is None:
        pytest.skip("only the stand-in can be set up otherwise, or made to fail")
    yield _google.standin
    _google.standin.put("faults", {})
    _google.standin.put("config", configuration(provider(issuer)))
