"""Promise: by what `spangate credentials` writes, Google's library, unchanged, gets an identity's tokens on its own."""

from __future__ import annotations

import http.server
import json
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.direct.conftest import Direct
from e2e.harness import CHECKOUT as CHECKOUT_ID
from e2e.harness import spangate
from fakes.google import ACCOUNT, POOL
from fakes.keys import FakeKeys
from spangate.adapters.clock import SystemClock
from spangate.adapters.svid_client import Svid, sign_here
from spangate.authority.ca import Authority
from spangate.model.identity import SpiffeId
from spangate.standin.access_token import TokenMint
from spangate.standin.asked import Asked
from spangate.standin.config import parse_config
from spangate.standin.service import StandIn

pytestmark = pytest.mark.e2e

LIBRARY = str(Path(__file__).with_name("library.py"))
CHECKOUT = f"principal://iam.googleapis.com/{POOL}/subject/ns/shop/sa/checkout"
AUDIENCE = f"https://iam.googleapis.com/{POOL}/providers/spangate"
# A key in PEM, a token of three parts, a bearer token, a password: whatever a secret looks like.
SECRETS = re.compile(r"BEGIN|PRIVATE|eyJ|ya29|spangate-standin\.|Bearer|secret|password|client_id|refresh_token")


def written(folder: Path, out: Path, identity: str, *arguments: str) -> str:
    """What is said about the configuration, which holds no secret."""
    done = spangate("credentials", "--as", identity, "--out", str(out), *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert not SECRETS.search(out.read_text())
    return done.stderr


def library(credentials: Path, **env: str) -> dict[str, Any]:
    """What Google's library finds by the configuration; its error if it fails."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "GCE_"))}
    own |= {"GOOGLE_APPLICATION_CREDENTIALS": str(credentials), "GOOGLE_CLOUD_PROJECT": "my-project", **env}
    done = subprocess.run([sys.executable, LIBRARY], env=own, capture_output=True, text=True, timeout=90)
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr}
    return found


def check(direct: Direct, found: dict[str, Any], kind: str) -> None:
    """Own tokens, another one after a refresh, long enough not to be stale."""
    assert "error" not in found, found
    assert found["kind"] == kind
    assert direct.whose(found["first"]) == direct.whose(found["again"]) == CHECKOUT
    assert found["first"] != found["again"]
    assert found["kept"]
    assert found["valid"]
    assert 225 < found["seconds"] <= 3600


def test_a_token_in_a_file(direct: Direct, tmp_path: Path) -> None:
    """Somebody else keeps it fresh: here, ourselves."""
    file, out = tmp_path / "token", tmp_path / "credentials.json"
    told = written(direct.up.folder, out, "checkout", "--token-file", str(file))
    assert "source:  file, because a token file is named" in told
    here = direct.pointed_here(out)
    assert "was not found" in library(here)["error"]
    token = spangate("token", "--as", "checkout", "--audience", AUDIENCE, cwd=direct.up.folder).stdout
    file.write_text(token.strip())
    check(direct, library(here), "google.auth.identity_pool.Credentials")


def test_the_local_endpoint(direct: Direct, endpoint: Callable[..., Any], tmp_path: Path) -> None:
    _, variables = endpoint("checkout")
    port = variables["GCE_METADATA_HOST"].partition(":")[2]
    out = tmp_path / "credentials.json"
    told = written(direct.up.folder, out, "checkout", "--port", port)
    assert f"`spangate metadata --as checkout --port {port}`" in told
    check(direct, library(direct.pointed_here(out)), "google.auth.identity_pool.Credentials")
    # The endpoint serves one identity, and another's configuration gets nothing there.
    written(direct.up.folder, out, "reports", "--port", port)
    assert "Unable to retrieve Identity Pool subject token" in library(direct.pointed_here(out))["error"]


def test_a_command(direct: Direct, tmp_path: Path) -> None:
    out = tmp_path / "credentials.json"
    told = written(direct.up.folder, out, "checkout")
    assert "source:  executable, because" in told
    here = direct.pointed_here(out)
    found = library(here, GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES="1")
    check(direct, found, "google.auth.pluggable.Credentials")
    assert "need to be explicitly allowed" in library(here)["error"]


def test_a_command_is_not_lent_to_another_provider(direct: Direct, tmp_path: Path) -> None:
    out = tmp_path / "credentials.json"
    written(direct.up.folder, out, "checkout")
    info = json.loads(out.read_text())
    info["audience"] = info["audience"].replace("providers/spangate", "providers/other")
    out.write_text(json.dumps(info))
    found = library(direct.pointed_here(out), GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES="1")
    assert "Executable returned unsuccessful response: code: REFUSED, message: the library goes to" in found["error"]


def test_an_identity_that_impersonates(direct: Direct, tmp_path: Path) -> None:
    out = tmp_path / "credentials.json"
    written(direct.up.folder, out, "reports")
    found = library(direct.pointed_here(out), GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES="1")
    assert "error" not in found, found
    assert direct.whose(found["first"]) == ACCOUNT
    assert found["seconds"] <= 300


# Certificates: Google's own address for them asks for a TLS client certificate.


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("shop.example", SystemClock(), FakeKeys())


def certificates_provider(authority: Authority) -> str:
    anchors = [{"pemCertificate": authority.bundle_pem()}]
    provider = {
        "name": "spangate",
        "attributeMapping": {"google.subject": "assertion.san.uri.extract('spiffe://shop.example/{id}')"},
        "x509": {"trustStore": {"trustAnchors": anchors}},
    }
    return json.dumps({"pools": [{"name": POOL, "providers": [provider]}]})


@contextmanager
def token_service(authority: Authority, server: tuple[Path, Path]) -> Iterator[tuple[str, StandIn]]:
    """The stand-in behind TLS that asks for a client certificate, as sts.mtls.googleapis.com does."""
    clock, numbers = SystemClock(), iter(range(1000))
    standin = StandIn(
        parse_config(certificates_provider(authority)),
        TokenMint(b"k" * 32),
        clock.now,
        lambda: str(next(numbers)),
        lambda oidc, _: oidc.keys,
    )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            shown = self.connection.getpeercert(binary_form=True)  # type: ignore[attr-defined]
            asked = Asked("POST", self.path, self.headers["content-type"], None, body, shown)
            answer = standin.answer(asked)
            content = json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.bundle_pem())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.socket = context.wrap_socket(found.socket, server_side=True)
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"https://localhost:{found.server_address[1]}", standin
        found.shutdown()
        thread.join()


def in_files(svid: Svid, folder: Path) -> tuple[Path, Path]:
    """As an agent writes them: the chain, the leaf first, and the key."""
    folder.mkdir(exist_ok=True)
    certificate, key = folder / "cert-chain.pem", folder / "key.pem"
    certificate.write_text(svid.secrets.chain_pem)
    key.write_text(svid.secrets.key_pem)
    return certificate, key


def test_a_certificate_in_files(direct: Direct, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    for name in ("spangate.yaml", "schema.sql"):
        text = (direct.up.folder / name).read_text()
        (tmp_path / "shop" / name).write_text(
            text.replace("provider: spangate", "provider: spangate\n  subject_token: mtls")
        )
    certificate, key = in_files(sign_here(authority, FakeKeys(), CHECKOUT_ID), tmp_path / "certs")
    roots = tmp_path / "roots.pem"
    roots.write_text(authority.bundle_pem())
    out = tmp_path / "credentials.json"
    told = written(tmp_path / "shop", out, "checkout", "--certificate", str(certificate), "--key", str(key))
    assert "source:  certificate, because the intent has `subject_token: mtls`" in told
    paths = tmp_path / "credentials.certificates.json"
    assert not SECRETS.search(paths.read_text())

    gateway = sign_here(authority, FakeKeys(), SpiffeId("shop.example", ("google",)), ("localhost",))
    with token_service(authority, in_files(gateway, tmp_path / "server")) as (url, standin):
        out.write_text(out.read_text().replace("https://sts.mtls.googleapis.com", url))
        found = library(out, REQUESTS_CA_BUNDLE=str(roots))
        assert "error" not in found, found
        assert found["kind"] == "google.auth.identity_pool.Credentials"
        assert found["first"] != found["again"]
        assert 225 < found["seconds"] <= 3600
        body = f"token={found['first']}".encode()
        told_of = standin.answer(Asked("POST", "/v1/introspect", "application/x-www-form-urlencoded", body=body))
        assert told_of.body["username"] == CHECKOUT


def test_what_cannot_be_written_is_said(direct: Direct) -> None:
    done = spangate("credentials", "--as", "checkout", "--source", "file", cwd=direct.up.folder)
    assert done.returncode == 2
    assert "`--source file` needs `--token-file`" in done.stderr
    assert done.stdout == ""


def test_without_out_it_is_printed_and_explained_beside_it(direct: Direct) -> None:
    done = spangate("credentials", "--as", "checkout", cwd=direct.up.folder)
    assert done.returncode == 0
    assert json.loads(done.stdout)["type"] == "external_account"
    assert "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1" in done.stderr
