"""A Kubernetes cluster, as far as tokens of service accounts go: its issuer, its keys, its API server's JWK set."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt as pyjwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

ISSUER = "https://kubernetes.default.svc.cluster.local"
AUDIENCE = "spangate"
# As the kubelet asks for one.
LIFE_SECONDS = 3600


@cache
def rsa_key(number: int) -> rsa.RSAPrivateKey:
    """Making one takes a good part of a second."""
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Cluster:
    """Signs tokens with the newest of its keys, and publishes all of them. `first`: clusters that differ in it share
    no keys."""

    issuer: str = ISSUER
    first: int = 0
    keys: list[tuple[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rotate()

    def rotate(self) -> None:
        """Another key signs; the old ones stay published."""
        self.keys.append((f"key-{len(self.keys)}", rsa_key(self.first + len(self.keys))))

    def forget(self) -> None:
        """Only the newest key is published."""
        del self.keys[:-1]

    def jwks(self) -> dict[str, Any]:
        return {
            "keys": [
                {
                    **pyjwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True),
                    "kid": kid,
                    "use": "sig",
                    "alg": "RS256",
                }
                for kid, key in self.keys
            ]
        }

    def claims(self, namespace: str = "shop", account: str = "checkout", **change: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "aud": [AUDIENCE],
            "exp": now + LIFE_SECONDS,
            "iat": now,
            "nbf": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "kubernetes.io": {
                "namespace": namespace,
                "node": {"name": "node-1", "uid": str(uuid.uuid4())},
                "pod": {"name": f"{account}-7d", "uid": str(uuid.uuid4())},
                "serviceaccount": {"name": account, "uid": str(uuid.uuid4())},
            },
        }
        return {name: value for name, value in (claims | change).items() if value is not None}

    def token(self, namespace: str = "shop", account: str = "checkout", **change: Any) -> str:
        kid, key = self.keys[-1]
        return pyjwt.encode(self.claims(namespace, account, **change), key, "RS256", headers={"kid": kid, "typ": None})


class ApiServer:
    """`/openid/v1/jwks` and the discovery document over TLS, for whoever shows the bearer token if one is needed."""

    def __init__(self, cluster: Cluster, folder: Path, bearer: str | None = None) -> None:
        self.asked = 0
        self.down = False
        # Answers wait for it.
        self.hold = threading.Event()
        self.hold.set()
        self.ca = folder / "ca.crt"
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                outer.hold.wait(10)
                if bearer is not None and self.headers.get("authorization") != f"Bearer {bearer}":
                    self.send_error(401)
                    return
                documents = {
                    "/openid/v1/jwks": cluster.jwks(),
                    "/.well-known/openid-configuration": {
                        "issuer": cluster.issuer,
                        "jwks_uri": f"{outer.url}/openid/v1/jwks",
                        "response_types_supported": ["id_token"],
                        "subject_types_supported": ["public"],
                        "id_token_signing_alg_values_supported": ["RS256"],
                    },
                }
                if outer.down or self.path not in documents:
                    self.send_error(503 if outer.down else 404)
                    return
                body = json.dumps(documents[self.path]).encode()
                self.send_response(200)
                self.send_header("content-type", "application/jwk-set+json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        pair = folder / "api-server.pem"
        certificate, key = _self_signed()
        self.ca.write_text(certificate)
        pair.write_text(certificate + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def api_server(cluster: Cluster, folder: Path, bearer: str | None = None) -> Iterator[ApiServer]:
    server = ApiServer(cluster, folder, bearer)
    try:
        yield server
    finally:
        server.stop()


def _self_signed() -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )
