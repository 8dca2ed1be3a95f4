"""A Google that believes every subject token, remembers what it was asked, and answers as it is told.

The faithful one is the stand-in; this one is for what it cannot do: hang, lie, and count.
"""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from cryptography import x509

ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"
# status, headers, body
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: bytes
    # DER of the client's certificate, on the TLS port.
    certificate: bytes | None

    @property
    def form(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(self.body.decode()).items()}


@dataclass
class FakeGoogle:
    """`url` once it serves. `answers` replaces the answers; `seconds` is how long each takes."""

    expires_in: int = 3600
    seconds: float = 0.0
    answers: Callable[[Asked], Answer | None] = lambda _: None
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    in_flight: int = 0
    most_in_flight: int = 0
    number: int = 0
    # Token -> the SPIFFE ID it is for.
    issued: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, asked: Asked) -> Answer:
        with self.lock:
            self.asked.append(asked)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            time.sleep(self.seconds)
            return self.answers(asked) or self.usual(asked)
        finally:
            with self.lock:
                self.in_flight -= 1

    def usual(self, asked: Asked) -> Answer:
        if asked.path == "/v1/token":
            token = self.issue(subject_of(asked.form))
            body: dict[str, Any] = {"access_token": token, "issued_token_type": ACCESS_TOKEN_TYPE}
            return 200, {}, json.dumps(body | {"token_type": "Bearer", "expires_in": self.expires_in}).encode()
        who = self.issued[asked.headers["authorization"].removeprefix("Bearer ")]
        account = asked.path.removeprefix("/v1/projects/-/serviceAccounts/").removesuffix(":generateAccessToken")
        seconds = int(json.loads(asked.body)["lifetime"].removesuffix("s"))
        ends = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return 200, {}, json.dumps({"accessToken": self.issue(f"{account} for {who}"), "expireTime": ends}).encode()

    def issue(self, who: str) -> str:
        with self.lock:
            self.number += 1
            token = f"spangate-standin.fake.{self.number}"
            self.issued[token] = who
        return token


def subject_of(form: dict[str, str]) -> str:
    """Whom the subject token names; nothing is verified."""
    if form["subject_token_type"].endswith(":mtls"):
        leaf = x509.load_der_x509_certificate(base64.b64decode(json.loads(form["subject_token"])[0]))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.UniformResourceIdentifier)[0]
    part = form["subject_token"].split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["sub"])


@contextmanager
def serving(google: FakeGoogle, tls: ssl.SSLContext | None = None) -> Iterator[FakeGoogle]:
    """On loopback, with `tls` over TLS that asks for a certificate."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {key.lower(): value for key, value in self.headers.items()}
            certificate = self.connection.getpeercert(True) if isinstance(self.connection, ssl.SSLSocket) else None
            status, more, content = google.answer(Asked(self.path, headers, body, certificate))
            self.send_response(status)
            for key, value in {"content-length": str(len(content)), **more}.items():
                self.send_header(key, value)
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    google.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield google
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
