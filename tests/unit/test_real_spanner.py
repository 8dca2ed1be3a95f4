"""A Spanner over TLS: what is refused before anything starts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fakes import shop
from fakes.clock import FakeClock
from fakes.keys import FakeKeys
from spangate.adapters.google_http import GoogleEndpoints
from spangate.app.real_spanner import check_with_real, real_spanner
from spangate.authority.ca import Authority
from spangate.cli.installation import google_endpoints, named_spanner
from spangate.errors import YourFault
from spangate.intent import parse_intent

GOOGLE = shop.INTENT + 'google: {project_number: "123456789012", pool: mesh, provider: spangate}\n'
LIVE = GOOGLE.replace("schema: schema.sql", "schema: live")


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_text(Authority.create("google.example", FakeClock(datetime.now(UTC)), FakeKeys()).bundle_pem())
    return path


def test_a_host_and_its_certificate_authorities(ca: Path) -> None:
    found = real_spanner("spanner.googleapis.com:443", ca)
    assert (found.host, found.port, found.ca_file) == ("spanner.googleapis.com", 443, ca)
    assert found.address == "spanner.googleapis.com:443"


@pytest.mark.parametrize(
    "address", ["127.0.0.1:443", "localhost", ":443", "host:0", "host:65536", "Host:1", "https://host:443", "host:1/x"]
)
def test_only_a_name_and_a_port_is_an_address(ca: Path, address: str) -> None:
    with pytest.raises(YourFault, match="host's name"):
        real_spanner(address, ca)


def test_certificate_authorities_must_be_some(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    for path in (tmp_path / "none", tmp_path / "empty"):
        with pytest.raises(YourFault, match="holds no certificate authorities"):
            real_spanner("localhost:1", path)


@pytest.mark.parametrize(
    ("text", "shares", "said"),
    [(shop.INTENT, False, "wants tokens"), (LIVE, False, "is `live`"), (GOOGLE, True, "do not go together")],
)
def test_what_would_need_a_token_of_spangates_own_is_refused(text: str, shares: bool, said: str) -> None:
    check_with_real(parse_intent(GOOGLE, shop.FILE), shares_state=False)
    with pytest.raises(YourFault, match=said):
        check_with_real(parse_intent(text, shop.FILE), shares_state=shares)


def test_options_that_are_not_given_name_nothing(ca: Path) -> None:
    assert named_spanner("", None) is None
    assert google_endpoints("", "", "") is None
    with pytest.raises(YourFault, match="is for `--spanner`"):
        named_spanner("", ca)


def test_what_is_not_named_of_google_is_googles() -> None:
    usual = GoogleEndpoints()
    assert google_endpoints("http://127.0.0.1:1", "", "") == GoogleEndpoints("http://127.0.0.1:1")
    assert google_endpoints("", "https://m", "https://i") == GoogleEndpoints(usual.sts, "https://m", "https://i")
