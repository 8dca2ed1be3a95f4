"""What Google's token service promises to client certificates, and the stand-in with it."""

from __future__ import annotations

import json
import socket
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from google.auth.identity_pool import Credentials
from google.auth.transport.requests import Request

from contract.google.parts import Google, Mtls, chain_token, error_of
from fakes.google import exchange_fields
from fakes.pki import SUBJECT_URI, Held, authority, leaf
from fakes.standin import StandInProcess
from spangate.model.google import CLOUD_SCOPE


def test_a_certificate_is_exchanged(mtls: Mtls) -> None:
    answer = mtls.exchange()
    assert answer.status_code == 200, error_of(answer)
    assert 0 < answer.json()["expires_in"] <= 3600


def test_the_subject_token_has_to_be_the_connections_certificate(mtls: Mtls, tmp_path: Path) -> None:
    chain, key = leaf(authority("stranger")).write(tmp_path)
    assert error_of(mtls.exchange(chain, key, token=chain_token(mtls.chain)))[0] in {400, 401}


def test_a_certificate_of_nobody_known_is_refused(mtls: Mtls, tmp_path: Path) -> None:
    chain, key = leaf(authority("stranger")).write(tmp_path)
    answer = mtls.exchange(chain, key)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"] in {"invalid_grant", "invalid_request", "unauthorized_client"}


def test_a_list_that_is_none_is_refused(mtls: Mtls) -> None:
    for token in ("x", "[]", '["x"]'):
        assert 400 <= mtls.exchange(token=token).status_code < 500


def test_without_a_certificate_there_is_no_token(mtls: Mtls) -> None:
    fields = {**exchange_fields(chain_token(mtls.chain)), "audience": mtls.audience}
    fields["subject_token_type"] = "urn:ietf:params:oauth:token-type:mtls"
    verify = str(mtls.root) if mtls.root else True
    answer = requests.post(f"{mtls.sts}/v1/token", json=fields, timeout=30, verify=verify)
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda root: [leaf(root, ca=True, signs=True)], "is a CA's"),
        (lambda root: [leaf(root, [SUBJECT_URI, SUBJECT_URI + "2"])], "more than one URI"),
        (lambda root: [leaf(root, [SUBJECT_URI + "\x00.evil"])], "a name in the SAN"),
        (lambda root: [leaf(root, life=timedelta(days=391))], "lives longer"),
        (lambda root: _long(root, 4), "more than 5 certificates"),
        (lambda root: _long(root, 2)[:1], "no chain leads to"),
    ],
    ids=["CA", "two URIs", "NUL", "391 days", "six certificates", "a link missing"],
)
def test_a_bad_certificate_is_refused_with_its_reason_on_the_stand_in_only(
    mtls: Mtls, standin: StandInProcess, root: Held, tmp_path: Path, made: Any, why: str
) -> None:
    first, *others = made(root)
    chain, key = first.write(tmp_path, *others)
    status, error, description = error_of(mtls.exchange(chain, key))
    assert (status, error) == (400, "invalid_grant")
    assert why in description


def test_the_unmodified_library_exchanges_its_certificate(
    google: Google, mtls: Mtls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mtls.root is not None:
        # What a variable of the environment says goes before what a session says.
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(mtls.root))
    config = tmp_path / "certificate_config.json"
    config.write_text(
        json.dumps({"cert_configs": {"workload": {"cert_path": str(mtls.chain), "key_path": str(mtls.key)}}})
    )
    credentials = Credentials.from_info(
        {
            "type": "external_account",
            "audience": mtls.audience,
            "subject_token_type": "urn:ietf:params:oauth:token-type:mtls",
            "token_url": f"{mtls.sts}/v1/token",
            "credential_source": {
                "certificate": {"certificate_config_location": str(config), "trust_chain_path": str(mtls.chain)}
            },
        },
        scopes=[CLOUD_SCOPE],
    )
    with requests.Session() as session:
        credentials.refresh(Request(session))
    assert credentials.token
    if google.standin is not None:
        with requests.post(f"{google.sts}/v1/introspect", data={"token": credentials.token}, timeout=30) as answer:
            assert answer.json()["sub"] == "ns/shop/sa/checkout"


def test_each_connection_shows_its_certificate_anew_on_the_stand_in_only(
    mtls: Mtls, standin: StandInProcess, root: Held, tmp_path: Path
) -> None:
    """A resumed session would carry the certificate of the first one."""
    context = ssl.create_default_context(cafile=str(mtls.root))
    context.load_cert_chain(mtls.chain, mtls.key)
    at = urlsplit(mtls.sts)
    assert at.hostname
    with (
        socket.create_connection((at.hostname, at.port or 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=at.hostname) as first,
    ):
        first.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert first.recv(1000).startswith(b"HTTP/1.1 404")
        assert first.version() == "TLSv1.3"
        session = first.session
    with (
        socket.create_connection((at.hostname, at.port or 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=at.hostname, session=session) as second,
    ):
        assert not second.session_reused


def test_what_is_no_handshake_ends_the_connection_on_the_stand_in_only(mtls: Mtls, standin: StandInProcess) -> None:
    at = urlsplit(mtls.sts)
    assert at.hostname
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70_000):
        with socket.create_connection((at.hostname, at.port or 443), timeout=10) as plain:
            plain.sendall(sent)
            while plain.recv(1000):
                pass
    assert mtls.exchange().status_code == 200


def _long(root: Held, between: int) -> list[Held]:
    found = [root]
    for number in range(between):
        found.append(authority(f"between {number}", found[-1]))
    return [leaf(found[-1]), *reversed(found[1:])]
