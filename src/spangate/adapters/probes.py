"""Questions that `spangate doctor` asks of what runs: by the same ways as a workload would.

Rules: every question has a deadline; nothing is changed. A workload's private key stays in memory.
Not here: what the answers mean (app/doctor/).
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from cryptography import x509
from google.cloud import spanner_admin_database_v1 as database_v1
from google.cloud.spanner_v1 import types

from spangate.adapters.spanner import CHANNEL_OPTIONS
from spangate.adapters.svid_client import Svid, UnixConnection
from spangate.broker.token import AccessToken
from spangate.errors import PeersFault, TryAgain

# On one machine everything answers within milliseconds; over the internet within two seconds.
SECONDS_MAX = 5.0
_SERVICE = "/google.spanner.v1.Spanner/"
_LIST_ROLES = "/google.spanner.admin.database.v1.DatabaseAdmin/ListDatabaseRoles"
# Each identity of an intent has one: ten thousand at most, in ten pages.
ROLES_PAGE = 1000
PAGES_MAX = 10
# The gateway's certificate has this name beside its SPIFFE ID, since gRPC wants one.
_HOST_NAME = "localhost"


class CallRefused(Exception):
    """A gRPC call was answered with an error: its code's name, and what was said."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        self.details = details


def why_port_is_silent(address: str) -> str | None:
    """Why nobody listens at `host:port`; None if somebody does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), SECONDS_MAX).close()
    except OSError as error:
        return f"{address}: {error.strerror or error}"
    return None


def why_socket_is_silent(path: Path, target: str, expected: int = http.client.OK) -> str | None:
    """Why the door at `path` does not answer `GET target` with that status; None if it does."""
    try:
        status, _ = ask_socket(path, target)
    except (TryAgain, PeersFault) as error:
        return error.message
    return None if status == expected else f"it answered with status {status}"


def ask_socket(path: Path, target: str) -> tuple[int, http.client.HTTPMessage]:
    """Status and headers of `GET target` at a Unix socket. Raises TryAgain, PeersFault."""
    connection = UnixConnection(path, SECONDS_MAX)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise TryAgain(f"nobody answers at `{path}`: {error}") from error
    finally:
        connection.close()
    return answer.status, answer.headers


def certificate_shown(address: str, bundle_pem: str) -> x509.Certificate:
    """What the server at `address` shows in a TLS handshake, if it is signed under the bundle and in its time.

    Raises TryAgain if nothing answers, PeersFault if it is not what the bundle vouches for.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A SPIFFE ID is no host name: the caller compares it.
    context.check_hostname = False
    context.load_verify_locations(cadata=bundle_pem)
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    try:
        with (
            socket.create_connection((host, int(port)), SECONDS_MAX) as connection,
            context.wrap_socket(connection, server_hostname=_HOST_NAME) as tls,
        ):
            shown = tls.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        raise PeersFault(
            f"the certificate of {address} is not vouched for by the bundle: {error.verify_message}",
            help="gateway and authority belong to different installations, or a clock is wrong; start `spangate up` "
            "anew",
        ) from error
    except OSError as error:
        raise TryAgain(f"no TLS with {address}: {error}", help="is `spangate up` running?") from error
    if shown is None:
        raise PeersFault(f"{address} shows no certificate")
    return x509.load_der_x509_certificate(shown)


def server_date(url: str) -> datetime:
    """The `Date` of an answer from `url`, whatever the answer. Raises TryAgain, PeersFault."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=SECONDS_MAX)
    try:
        connection.request("HEAD", parts.path or "/")
        date = connection.getresponse().getheader("Date", "")
    except (OSError, http.client.HTTPException) as error:
        raise TryAgain(f"{parts.netloc} does not answer: {error}") from error
    finally:
        connection.close()
    try:
        found = parsedate_to_datetime(date)
    except ValueError as error:
        raise PeersFault(f"{parts.netloc} does not say what time it is") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def create_session(address: str, svid: Svid, database: str) -> str:
    """A new session, asked for with the certificate. Raises CallRefused."""
    with _channel(address, svid) as channel:
        request = types.CreateSessionRequest(database=database)
        answer = _call(channel, "CreateSession", types.CreateSessionRequest.serialize(request))
    return str(types.Session.deserialize(answer).name)


def select_one(address: str, svid: Svid, session: str) -> None:
    """`SELECT 1` in the session, which is deleted then. Raises CallRefused."""
    with _channel(address, svid) as channel:
        try:
            request = types.ExecuteSqlRequest(session=session, sql="SELECT 1")
            _call(channel, "ExecuteSql", types.ExecuteSqlRequest.serialize(request))
        finally:
            end = types.DeleteSessionRequest(name=session)
            # Spanner ends a session by itself after an hour.
            with suppress(CallRefused):
                _call(channel, "DeleteSession", types.DeleteSessionRequest.serialize(end))


def database_roles(address: str, ca_pem: bytes, token: AccessToken, database: str) -> list[str]:
    """The names of the database's roles, asked of Spanner itself with the identity's own token. Raises CallRefused."""
    call = grpc.access_token_call_credentials(token.text)
    credentials = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(ca_pem), call)
    channel = grpc.secure_channel(address, credentials, CHANNEL_OPTIONS)
    request = database_v1.ListDatabaseRolesRequest(parent=database, page_size=ROLES_PAGE)
    names: list[str] = []
    try:
        for _ in range(PAGES_MAX):
            content = _call(channel, _LIST_ROLES, database_v1.ListDatabaseRolesRequest.serialize(request))
            answer = database_v1.ListDatabaseRolesResponse.deserialize(content)
            names += [role.name.rpartition("/")[2] for role in answer.database_roles]
            if not answer.next_page_token:
                return names
            request.page_token = answer.next_page_token
    finally:
        channel.close()
    raise PeersFault(f"`{database}` lists more than {PAGES_MAX * ROLES_PAGE} roles")


def _call(channel: grpc.Channel, rpc: str, body: bytes) -> bytes:
    try:
        path = rpc if rpc.startswith("/") else _SERVICE + rpc
        answer: bytes = channel.unary_unary(path)(body, timeout=SECONDS_MAX)
    except grpc.RpcError as error:
        raise CallRefused(error.code().name, error.details() or "") from error
    return answer


@contextmanager
def _channel(address: str, svid: Svid) -> Iterator[grpc.Channel]:
    """Mutual TLS with the certificate. gRPC takes the key from memory."""
    secrets = svid.secrets
    credentials = grpc.ssl_channel_credentials(
        secrets.bundle_pem.encode(), secrets.key_pem.encode(), secrets.chain_pem.encode()
    )
    options = [*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", _HOST_NAME)]
    channel = grpc.secure_channel(address, credentials, options)
    try:
        yield channel
    finally:
        channel.close()
