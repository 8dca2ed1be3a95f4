"""The asker's side: gets a certificate for a fresh key, over the authority's Unix socket or within the process.

Rules: the private key is made here, stays in memory and is never sent. What comes back is held against what was asked
(our key, our SPIFFE ID, signed under the bundle that came with it) before anybody uses it.
Not here: the authority's side (svid_door.py), renewing in time (renewer.py), handing it to Envoy (sds_door.py).
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from spangate.adapters.bundle_answer import BUNDLES_BYTES_MAX, read_bundles
from spangate.adapters.keys import key_pem, request_pem
from spangate.adapters.sds_door import Secrets
from spangate.adapters.unix_server import check_socket_path, peer_uid
from spangate.authority.ca import Authority
from spangate.authority.founding import Keys
from spangate.authority.generations import signed_by
from spangate.authority.workload_api import Bundles
from spangate.errors import PeersFault, SpangateError, TryAgain, YourFault
from spangate.model.identity import SpiffeId

# Signing takes 2 ms; a machine under load gets patience, a hanging authority does not block a renewal for long.
TIMEOUT_SECONDS = 5.0
# Two chain certificates and a bundle are 3 KiB.
ANSWER_BYTES_MAX = 64 * 1024
CHAIN_CERTIFICATES_MAX = 4


@dataclass(frozen=True, slots=True)
class Svid:
    """A certificate in use: what Envoy is given, and when it ends (aware, UTC)."""

    identity: SpiffeId
    secrets: Secrets
    not_after: datetime
    serial: int

    @property
    def chain_der(self) -> tuple[bytes, ...]:
        """Leaf and intermediates, in DER."""
        chain = x509.load_pem_x509_certificates(self.secrets.chain_pem.encode("ascii"))
        return tuple(one.public_bytes(Encoding.DER) for one in chain)


@dataclass(frozen=True, slots=True)
class Door:
    """A door of ours at a Unix socket; `who` listens there, for people."""

    path: Path
    who: str
    timeout_seconds: float


class SvidClient:
    """Asks the authority that listens at `path`."""

    def __init__(self, path: Path, keys: Keys, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._door = Door(check_socket_path(path), "authority", timeout_seconds)
        self._keys = keys

    def fetch(self, identity: SpiffeId, holder: str = "") -> Svid:
        """A fresh key and its certificate for `identity`; `holder` is the name under which the asker reports.

        Raises TryAgain when the authority is away or says not now, YourFault when it refuses, PeersFault when its
        answer is not what was asked.
        """
        key = self._keys.new_key()
        asked = {"identity": str(identity), "csr": request_pem(key)}
        answer = self.ask("POST", "/sign", {**asked, "holder": holder} if holder else asked)
        return verified(identity, key, text_of(answer, "chain"), text_of(answer, "bundle"))

    def token(
        self, identity: SpiffeId, audiences: Sequence[str], lifetime_seconds: int | None = None
    ) -> tuple[str, str]:
        """A JWT-SVID for `identity`, to be shown to `audiences`, and when it ends (RFC 3339). Raises as `fetch`.

        Without `lifetime_seconds` it lives as long as the authority thinks best.
        """
        asked: dict[str, object] = {"identity": str(identity), "audiences": list(audiences)}
        if lifetime_seconds is not None:
            asked["lifetime_seconds"] = lifetime_seconds
        answer = self.ask("POST", "/token", asked)
        return text_of(answer, "token"), text_of(answer, "expires_at")

    def bundles(self, trust_domain: str) -> Bundles:
        """What a workload of `trust_domain`, the authority's, verifies others by. Raises as `fetch`."""
        return read_bundles(self.ask("GET", "/bundles", None, bytes_max=BUNDLES_BYTES_MAX), trust_domain)

    def keys(self) -> Mapping[str, Any]:
        """The public keys of tokens, a JWK set. Raises as `fetch`."""
        return self.ask("GET", "/keys", None)

    def bundle(self) -> str:
        """The trust bundle in PEM. Raises as `fetch`."""
        status, content = _exchange(self._door, "GET", "/bundle", None, ANSWER_BYTES_MAX)
        if status != http.client.OK or len(content) > ANSWER_BYTES_MAX:
            raise refusal(status, json_object(content))
        try:
            return content.decode("ascii")
        except UnicodeDecodeError as e:
            raise PeersFault("the authority answered with a bundle that cannot be read") from e

    def ask(
        self, method: str, path: str, body: Mapping[str, object] | None, *, bytes_max: int = ANSWER_BYTES_MAX
    ) -> Mapping[str, Any]:
        """One question at the door; raises as `fetch`."""
        return ask(self._door, method, path, body, bytes_max=bytes_max)


def ask(
    door: Door, method: str, target: str, body: Mapping[str, object] | None, *, bytes_max: int = ANSWER_BYTES_MAX
) -> Mapping[str, Any]:
    """The JSON object that is answered at `door`. Raises TryAgain when it is away or says not now, YourFault
    when it refuses, PeersFault when its answer makes no sense.
    """
    status, content = _exchange(door, method, target, body, bytes_max)
    answer = json_object(content, bytes_max)
    if status == http.client.OK and answer is not None:
        return answer
    raise refusal(status, answer, door.who)


def _exchange(
    door: Door, method: str, target: str, body: Mapping[str, object] | None, bytes_max: int
) -> tuple[int, bytes]:
    """Status and content, which may be cut off after `bytes_max` + 1 bytes. Raises TryAgain."""
    connection = UnixConnection(door.path, door.timeout_seconds)
    try:
        content_type = {"content-type": "application/json"}
        connection.request(method, target, None if body is None else json.dumps(body), content_type)
        response = connection.getresponse()
        return response.status, response.read(bytes_max + 1)
    except (FileNotFoundError, ConnectionRefusedError) as e:
        raise TryAgain(f"no {door.who} listens at `{door.path}`", help="is `spangate up` running?") from e
    except (OSError, http.client.HTTPException) as e:
        raise TryAgain(f"the {door.who} at `{door.path}` does not answer: {e}") from e
    finally:
        connection.close()


def sign_here(
    authority: Authority, keys: Keys, identity: SpiffeId, dns_names: tuple[str, ...] = (), *, holder: str = ""
) -> Svid:
    """A fresh key and its certificate from an authority in this process: for a door of the authority's own."""
    key = keys.new_key()
    issued = authority.sign(request_pem(key), identity, dns_names, holder=holder)
    return verified(identity, key, issued.chain_pem, issued.bundle_pem)


def verified(identity: SpiffeId, key: ec.EllipticCurvePrivateKey, chain_pem: str, bundle_pem: str) -> Svid:
    """The certificate, if it is for `key` and `identity` and its chain ends in the bundle; else PeersFault."""
    try:
        chain = x509.load_pem_x509_certificates(chain_pem.encode("ascii"))
        roots = x509.load_pem_x509_certificates(bundle_pem.encode("ascii"))
        leaf = chain[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        same_key = leaf.public_key() == key.public_key()
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as e:
        raise PeersFault("the authority answered with a certificate that cannot be read") from e
    if not same_key:
        raise PeersFault("the authority answered with a certificate for another key")
    if uris != [str(identity)]:
        raise PeersFault(f"the authority answered with a certificate that is not for `{identity}`")
    if len(chain) > CHAIN_CERTIFICATES_MAX or not leads_to(chain, roots):
        raise PeersFault("the authority answered with a chain that does not lead to its own bundle")
    secrets = Secrets(chain_pem=chain_pem, key_pem=key_pem(key), bundle_pem=bundle_pem)
    return Svid(identity, secrets, leaf.not_valid_after_utc, leaf.serial_number)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket whose listener runs as our own user."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path
        self._timeout_seconds = timeout_seconds

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._timeout_seconds)
            connection.connect(str(self._path))
            _check_own(connection, self._path)
        except BaseException:
            connection.close()
            raise
        self.sock = connection


def _check_own(connection: socket.socket, path: Path) -> None:
    if peer_uid(connection) != os.getuid():
        raise PeersFault(f"the authority at `{path}` belongs to another user")


def leads_to(chain: list[x509.Certificate], roots: list[x509.Certificate]) -> bool:
    """Each certificate is signed by the next one, the last by a root."""
    linked = all(signed_by(certificate, issuer) for certificate, issuer in itertools.pairwise(chain))
    return linked and any(signed_by(chain[-1], root) for root in roots)


def json_object(content: bytes, bytes_max: int = ANSWER_BYTES_MAX) -> Mapping[str, Any] | None:
    """The JSON object in a bounded answer; None if it is none."""
    if len(content) > bytes_max:
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def text_of(answer: Mapping[str, Any], key: str) -> str:
    """The text under `key`. Raises PeersFault."""
    value = answer.get(key)
    if not isinstance(value, str):
        raise PeersFault(f"the authority's answer has no `{key}`")
    return value


def refusal(status: int, answer: Mapping[str, Any] | None, who: str = "authority") -> SpangateError:
    """The own sentence of `who`, as an error of the right kind."""
    message = answer.get("error") if answer else None
    if not isinstance(message, str):
        return PeersFault(f"the {who} answered with status {status} and no explanation")
    hint = answer.get("help") if answer else None
    kind = TryAgain if status == 503 else YourFault if 400 <= status < 500 else PeersFault
    error = kind(message, help=hint if isinstance(hint, str) else None)
    step = answer.get("step") if answer else None
    error.step = step if isinstance(step, str) else ""
    return error
