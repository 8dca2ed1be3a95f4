"""Google over HTTP: what is sent, what of every bad answer becomes of it, and that nothing secret shows."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fakes.clock import FakeClock
from fakes.keys import FakeKeys
from fakes.loose_google import Answer, Asked, FakeGoogle, serving
from spangate.adapters import google_http
from spangate.adapters.clock import SystemClock
from spangate.adapters.google_http import ClientCertificate, Google, GoogleEndpoints, beside_emulator
from spangate.adapters.svid_client import sign_here
from spangate.authority.ca import Authority
from spangate.broker.answers import ANSWER_BYTES_MAX, Grant
from spangate.broker.diagnosis import ChainBroken, GoogleAway, Link, StrangeAnswer
from spangate.broker.exchange import SubjectToken, certificate_chain_token
from spangate.errors import Broken, SpangateError, YourFault
from spangate.model.google import GoogleFederation, Impersonation, SubjectTokenType
from spangate.model.identity import SpiffeId

CHECKOUT = SpiffeId.workload("shop.example", "shop", "checkout")
ACCOUNT = "shop-db@shop-project.iam.gserviceaccount.com"
FEDERATION = GoogleFederation("123456789012", "mesh", "spangate")
IMPERSONATING = GoogleFederation("123456789012", "mesh", "spangate", impersonation=Impersonation(ACCOUNT, (), 600))
# Its subject is CHECKOUT.
SECRET = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzcGlmZmU6Ly9zaG9wLmV4YW1wbGUvbnMvc2hvcC9zYS9jaGVja291dCJ9.c2lnbmF0dXJlLi4u"
SUBJECT = SubjectToken(SubjectTokenType.JWT, SECRET)


@pytest.fixture
def fake() -> Iterator[FakeGoogle]:
    with serving(FakeGoogle()) as found:
        yield found


@pytest.fixture
def google(fake: FakeGoogle) -> Iterator[Google]:
    endpoints = GoogleEndpoints(sts=fake.url, iam_credentials=fake.url)
    found = Google(endpoints, now=lambda: datetime.now(UTC))
    yield found
    found.close()


def test_an_exchange_gives_a_token_for_whom_the_subject_token_names(fake: FakeGoogle, google: Google) -> None:
    grant = google.exchange(FEDERATION, SUBJECT)
    assert fake.issued[grant.text] == str(CHECKOUT)
    assert grant.seconds == 3600
    (asked,) = fake.asked
    assert asked.path == "/v1/token"
    assert asked.form["subject_token"] == SECRET
    assert asked.form["audience"] == FEDERATION.audience
    assert "authorization" not in asked.headers


def test_an_impersonation_shows_the_federated_token(fake: FakeGoogle, google: Google) -> None:
    grant = google.impersonate(IMPERSONATING, google.exchange(IMPERSONATING, SUBJECT))
    assert fake.issued[grant.text] == f"{ACCOUNT} for {CHECKOUT}"
    assert 595 < grant.seconds <= 600


def test_connections_are_used_again(fake: FakeGoogle, google: Google) -> None:
    for _ in range(5):
        google.exchange(FEDERATION, SUBJECT)
    assert sum(pool.num_connections for pool in google._pool.pools._container.values()) == 1


def answering(status: int, body: bytes, **headers: str):
    def answer(_: Asked) -> Answer:
        return status, {key.replace("_", "-"): value for key, value in headers.items()}, body

    return answer


GARBAGE = f"invalid: {SECRET}".encode()


@pytest.mark.parametrize(
    ("status", "body", "headers", "error", "link"),
    [
        (400, b'{"error":"invalid_grant","error_description":"stale to sign-in"}', {}, ChainBroken, Link.CLOCK),
        (429, GARBAGE, {"retry_after": "7"}, GoogleAway, Link.QUOTA),
        (503, GARBAGE, {"retry_after": "soon"}, GoogleAway, Link.GOOGLE_AWAY),
        (302, b"", {"location": "http://127.0.0.1:1/"}, StrangeAnswer, Link.UNKNOWN),
        (403, GARBAGE, {}, StrangeAnswer, Link.UNKNOWN),
        (200, GARBAGE, {}, StrangeAnswer, Link.UNKNOWN),
        (200, b"\x1f\x8b", {"content_encoding": "gzip"}, StrangeAnswer, Link.UNKNOWN),
        (200, b" " * (ANSWER_BYTES_MAX + 1), {}, GoogleAway, Link.GOOGLE_AWAY),
        (200, b"{}", {"content_length": "100000"}, GoogleAway, Link.GOOGLE_AWAY),
    ],
)
def test_every_bad_answer_is_an_error_that_tells_no_secret(
    fake: FakeGoogle, google: Google, monkeypatch, status, body, headers, error, link
) -> None:
    monkeypatch.setattr(google_http, "READ_SECONDS_MAX", 1.0)
    fake.answers = answering(status, body, **headers)
    with pytest.raises(error) as caught:
        Google(google._endpoints, now=SystemClock().now).exchange(FEDERATION, SUBJECT)
    assert caught.value.link is link
    assert len(fake.asked) == 1
    if status == 429:
        assert caught.value.retry_after_seconds == 7
    elif isinstance(caught.value, GoogleAway):
        assert caught.value.retry_after_seconds is None
    shown = repr(caught.value) + str(caught.value) + str(caught.value.help)
    for part in SECRET.split("."):
        assert part not in shown


def test_a_google_that_hangs_or_is_not_there_is_away(monkeypatch, fake: FakeGoogle) -> None:
    monkeypatch.setattr(google_http, "READ_SECONDS_MAX", 0.2)
    fake.seconds = 2.0
    began = time.monotonic()
    with pytest.raises(GoogleAway, match="takes too long"):
        Google(GoogleEndpoints(sts=fake.url), now=SystemClock().now).exchange(FEDERATION, SUBJECT)
    assert time.monotonic() - began < 1.5
    with pytest.raises(GoogleAway, match="no connection"):
        Google(GoogleEndpoints(sts="http://127.0.0.1:1"), now=SystemClock().now).exchange(FEDERATION, SUBJECT)


def test_the_environment_adds_no_proxy(fake: FakeGoogle, monkeypatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert Google(GoogleEndpoints(sts=fake.url), now=SystemClock().now).exchange(FEDERATION, SUBJECT).text


@pytest.mark.parametrize(
    "url",
    [
        "http://sts.googleapis.com",
        "http://localhost.example:1",
        "http://10.0.0.1",
        "https://sts.googleapis.com/path",
        "https://sts.googleapis.com/",
        "https://user@sts.googleapis.com",
        "https://",
        "ftp://127.0.0.1",
        "sts.googleapis.com",
        "",
        "http://127.0.0.1:1?x",
    ],
)
def test_an_endpoint_is_https_or_on_loopback(url: str) -> None:
    for name in ("sts", "iam_credentials"):
        with pytest.raises(YourFault):
            GoogleEndpoints(**{name: url})


def test_a_certificate_is_shown_over_tls_only() -> None:
    with pytest.raises(YourFault, match="not https"):
        GoogleEndpoints(sts_mtls="http://127.0.0.1:1")


# By certificate


@pytest.fixture
def authority() -> Authority:
    return Authority.create("shop.example", FakeClock(datetime.now(UTC)), FakeKeys())


def tls_server(folder: Path, authority: Authority) -> ssl.SSLContext:
    server = sign_here(authority, FakeKeys(), SpiffeId("shop.example", ("google",)), ("localhost",))
    (folder / "server.pem").write_text(server.secrets.chain_pem + server.secrets.key_pem)
    (folder / "roots.pem").write_text(authority.bundle_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(folder / "roots.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def by_certificate(
    folder: Path, authority: Authority, fake: FakeGoogle
) -> tuple[Google, SubjectToken, ClientCertificate]:
    svid = sign_here(authority, FakeKeys(), CHECKOUT)
    endpoints = GoogleEndpoints(sts_mtls=fake.url.replace("127.0.0.1", "localhost"))
    google = Google(endpoints, now=SystemClock().now, ca_file=folder / "roots.pem")
    certificate = ClientCertificate(svid.secrets.chain_pem, svid.secrets.key_pem)
    return google, certificate_chain_token(svid.chain_der), certificate


MTLS = GoogleFederation("1", "mesh", "spangate", SubjectTokenType.MTLS)


def test_a_certificate_is_shown_on_the_connection_and_named_leaf_first(tmp_path, authority) -> None:
    with serving(FakeGoogle(), tls_server(tmp_path, authority)) as fake:
        google, subject, certificate = by_certificate(tmp_path, authority, fake)
        grant = google.exchange(MTLS, subject, certificate)
        assert fake.issued[grant.text] == str(CHECKOUT)
        (asked,) = fake.asked
        assert asked.certificate is not None
        assert subject == certificate_chain_token([asked.certificate, *authority_chain(certificate)[1:]])
    assert "PRIVATE KEY" not in repr(certificate)


def authority_chain(certificate: ClientCertificate) -> list[bytes]:
    return [ssl.PEM_cert_to_DER_cert(f"-----BEGIN{part}") for part in certificate.chain_pem.split("-----BEGIN")[1:]]


def test_a_server_of_another_authority_is_away(tmp_path, authority) -> None:
    other = Authority.create("other.example", FakeClock(datetime.now(UTC)), FakeKeys())
    with serving(FakeGoogle(), tls_server(tmp_path, authority)) as fake:
        google, subject, certificate = by_certificate(tmp_path, authority, fake)
        (tmp_path / "roots.pem").write_text(other.bundle_pem())
        with pytest.raises(GoogleAway, match="certificate"):
            google.exchange(MTLS, subject, certificate)
        assert fake.asked == []


def test_without_a_certificate_none_is_claimed() -> None:
    with pytest.raises(Broken):
        Google(GoogleEndpoints(), now=SystemClock().now).exchange(MTLS, certificate_chain_token([b"x"]))


def test_nobody_is_impersonated_who_is_not_named() -> None:
    with pytest.raises(Broken):
        Google(GoogleEndpoints(), now=SystemClock().now).impersonate(FEDERATION, Grant("x", 1.0))


def test_errors_are_ours(fake: FakeGoogle, google: Google) -> None:
    fake.answers = answering(500, b"")
    with pytest.raises(SpangateError):
        google.impersonate(IMPERSONATING, Grant("spangate-standin.x", 1.0))


@pytest.mark.parametrize("name", ["sts", "sts_mtls", "iam_credentials"])
def test_no_token_of_googles_goes_to_an_emulator(name: str) -> None:
    here = {"sts": "http://127.0.0.1:1", "sts_mtls": "https://127.0.0.1:2", "iam_credentials": "http://127.0.0.1:3"}
    assert beside_emulator(GoogleEndpoints(**here)) == GoogleEndpoints(**here)
    usual = getattr(GoogleEndpoints(), name)
    with pytest.raises(YourFault, match=f"tokens of `{usual}` do not go to an emulator"):
        beside_emulator(GoogleEndpoints(**{**here, name: usual}))
