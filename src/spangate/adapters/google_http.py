"""Google's token service and IAM Credentials, by HTTP.

Rules: certificates are verified; no redirect is followed, nothing is tried twice here (broker/cache.py decides that);
no variable of the environment adds a proxy; every answer has a bound in bytes and in time. Plain HTTP goes to loopback
alone, where the stand-in listens. What was sent and what came back is never logged, nor part of an error.
A client certificate lives in memory: OpenSSL reads it from a file that has no name.
Not here: what is asked and believed (broker/), when (token_broker.py).
"""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as SlowError

from spangate.adapters.nameless_file import nameless_file
from spangate.broker.answers import ANSWER_BYTES_MAX, BadAnswer, Grant
from spangate.broker.cache import IN_FLIGHT_MAX
from spangate.broker.diagnosis import Call, refusal, unreachable, unreadable
from spangate.broker.exchange import TOKEN_PATH, SubjectToken, exchange_form, read_exchange
from spangate.broker.impersonation import generate_body, generate_path, read_generated
from spangate.errors import Broken, YourFault
from spangate.model.google import GoogleFederation, SubjectTokenType

# Both take some 200 ms; what takes this long has failed, and whoever waits is told.
CONNECT_SECONDS_MAX = 3.0
READ_SECONDS_MAX = 5.0
ANSWER_SECONDS_MAX = 10.0
_CHUNK_BYTES = 16 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GoogleEndpoints:
    """Where Google's services are: https, or http on loopback. Raises YourFault for anything else."""

    sts: str = "https://sts.googleapis.com"
    sts_mtls: str = "https://sts.mtls.googleapis.com"
    iam_credentials: str = "https://iamcredentials.googleapis.com"

    def __post_init__(self) -> None:
        for url in (self.sts, self.sts_mtls, self.iam_credentials):
            _check_endpoint(url)
        if not self.sts_mtls.startswith("https://"):
            raise YourFault(f"`{self.sts_mtls}` cannot be shown a certificate: it is not https")


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A chain and its key, in PEM, in memory."""

    chain_pem: str
    key_pem: str = field(repr=False)


class Google:
    """Asks Google. Any thread may use it. `ca_file` replaces the system's certificate authorities."""

    def __init__(self, endpoints: GoogleEndpoints, *, now: Callable[[], datetime], ca_file: Path | None = None) -> None:
        self._endpoints = endpoints
        self._now = now
        self._ca_file = ca_file
        self._pool = self._new_pool(None)

    def exchange(
        self, federation: GoogleFederation, subject: SubjectToken, certificate: ClientCertificate | None = None
    ) -> Grant:
        """A federated token. Raises ChainBroken, GoogleAway or StrangeAnswer."""
        body = urlencode(exchange_form(federation, subject)).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if subject.type is not SubjectTokenType.MTLS:
            answer = self._post(self._pool, self._endpoints.sts + TOKEN_PATH, headers, body, Call.EXCHANGE)
        elif certificate is None:
            raise Broken("an exchange by certificate without a certificate")
        else:
            pool = self._new_pool(certificate)
            try:
                answer = self._post(pool, self._endpoints.sts_mtls + TOKEN_PATH, headers, body, Call.EXCHANGE)
            finally:
                pool.clear()
        return _read(answer, federation, [subject.text], Call.EXCHANGE, read_exchange)

    def impersonate(self, federation: GoogleFederation, federated: Grant) -> Grant:
        """The token of the service account that `federation` impersonates. Raises as `exchange`."""
        impersonation = federation.impersonation
        if impersonation is None:
            raise Broken("an impersonation of nobody")
        url = self._endpoints.iam_credentials + generate_path(impersonation)
        headers = {"content-type": "application/json", "authorization": f"Bearer {federated.text}"}
        body = generate_body(impersonation, federation.scopes).encode()
        answer = self._post(self._pool, url, headers, body, Call.IMPERSONATION)
        now = self._now()
        return _read(
            answer,
            federation,
            [federated.text],
            Call.IMPERSONATION,
            lambda content: read_generated(content, impersonation, now),
        )

    def close(self) -> None:
        """Closes its connections."""
        self._pool.clear()

    def _new_pool(self, certificate: ClientCertificate | None) -> urllib3.PoolManager:
        context = ssl.create_default_context(cafile=None if self._ca_file is None else str(self._ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            with nameless_file(certificate.chain_pem) as chain, nameless_file(certificate.key_pem) as key:
                context.load_cert_chain(chain, key)
        return urllib3.PoolManager(
            num_pools=4,
            maxsize=IN_FLIGHT_MAX,
            block=False,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS_MAX, read=READ_SECONDS_MAX),
            ssl_context=context,
        )

    def _post(self, pool: urllib3.PoolManager, url: str, headers: dict[str, str], body: bytes, call: Call) -> _Answer:
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        try:
            response = pool.request(
                "POST", url, body=body, headers=headers, redirect=False, preload_content=False, decode_content=False
            )
            try:
                content = _bounded(response, deadline)
            finally:
                # A connection whose answer was read to its end is back in the pool; another one is of no use.
                response.close()
        except NewConnectionError as error:
            raise unreachable(call, "no connection to it") from error
        except SlowError as error:
            raise unreachable(call, "it takes too long") from error
        except SSLError as error:
            raise unreachable(call, "its certificate is not accepted, or it does not accept ours") from error
        except (HTTPError, OSError) as error:
            raise unreachable(call, "the connection broke") from error
        if content is None:
            raise unreachable(call, "its answer is too long or takes too long")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise unreadable(call, "it is compressed, which nobody asked for")
        return _Answer(response.status, content, _retry_after(response.headers.get("retry-after")))


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content: bytes = field(repr=False)
    retry_after_seconds: float | None


def _read(
    answer: _Answer, federation: GoogleFederation, sent: Sequence[str], call: Call, read: Callable[[bytes], T]
) -> T:
    if answer.status != 200:
        raise refusal(call, answer.status, answer.content, federation, sent, answer.retry_after_seconds)
    try:
        return read(answer.content)
    except BadAnswer as error:
        raise unreadable(call, str(error)) from None


def _bounded(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes | None:
    """The whole body; None if it is too long, or not there by the deadline."""
    content = bytearray()
    while chunk := response.read(_CHUNK_BYTES, decode_content=False):
        content += chunk
        if len(content) > ANSWER_BYTES_MAX or time.monotonic() > deadline:
            return None
    return bytes(content)


def _retry_after(value: str | None) -> float | None:
    """Seconds (RFC 9110, section 10.2.3). Google gives no dates there."""
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 6:
        return None
    return float(value)


def _check_endpoint(url: str) -> None:
    parts = urlsplit(url)
    plain = url == f"{parts.scheme}://{parts.netloc}" and "@" not in parts.netloc and parts.hostname
    secure = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))
    if not plain or not secure:
        raise YourFault(
            f"`{url}` cannot be a service of Google's",
            help="write https://host, or http://127.0.0.1:PORT for a stand-in",
        )


def beside_emulator(endpoints: GoogleEndpoints) -> GoogleEndpoints:
    """`endpoints`, if none is Google's own: an emulator is spoken to in the clear, whatever token is sent along.

    Raises YourFault.
    """
    for url in (endpoints.sts, endpoints.sts_mtls, endpoints.iam_credentials):
        if not _is_loopback(urlsplit(url).hostname or ""):
            raise YourFault(
                f"tokens of `{url}` do not go to an emulator, which is spoken to in the clear",
                help="name a Spanner with --spanner; or give --sts, --sts-mtls and --iam-credentials of this machine",
            )
    return endpoints


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
