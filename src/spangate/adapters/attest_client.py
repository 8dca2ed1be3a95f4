"""The asker's side in a pod: certificates and tokens from the authority's door, for a projected service account token.

Rules: the door is the authority only if its certificate is signed under the bundle and says so; a workload's, which is
signed under it as well, does not. The token file is read for each request: the kubelet replaces it. The private key is
made here and never sent. What comes back is held against what was asked; an identity that is another one than before is
refused. The bundle that came last, with a certificate or as the answer to a report, is trusted besides the one in the
file: a rotation may be on the way in one of them.
Not here: the authority's side (attest_door.py), renewing in time (renewer.py).
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from spangate.adapters.bearer_file import read_bearer
from spangate.adapters.bounded_file import read_file
from spangate.adapters.bundle_answer import BUNDLES_BYTES_MAX, read_bundles
from spangate.adapters.holdings import Holding
from spangate.adapters.keys import request_pem
from spangate.adapters.peer_client import read_answer
from spangate.adapters.peer_reports import Answer
from spangate.adapters.svid_client import ANSWER_BYTES_MAX, Svid, json_object, refusal, text_of, verified
from spangate.authority.founding import Keys
from spangate.authority.workload_api import Bundles
from spangate.errors import PeersFault, TryAgain, YourFault
from spangate.model.identity import BadSpiffeId, SpiffeId, check_trust_domain

TIMEOUT_SECONDS = 10.0
# A bundle of three roots has 3 KiB.
FILE_BYTES_MAX = 64 * 1024
_PREFIX = "spiffe://"


class AttestClient:
    """Asks the authority at `url`. Any thread may use it."""

    def __init__(self, url: str, bundle: Path, token: Path, keys: Keys) -> None:
        """`url`: https, host and port. Raises YourFault for what cannot be used."""
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.path not in {"", "/"} or parts.query:
            raise YourFault(f"`{url[:200]}` is not an https URL of host and port alone")
        self._host, self._port = parts.hostname, parts.port or 443
        self._url = url
        self._bundle = bundle
        self._token = token
        self._keys = keys
        self._latest = ""
        self._identity: SpiffeId | None = None
        self.trust_domain = _trust_domain(self._trusted())

    @property
    def authority(self) -> SpiffeId:
        """What the door's certificate says."""
        return SpiffeId.authority(self.trust_domain)

    def fetch(self, instance: str = "") -> Svid:
        """A fresh key and its certificate, for whoever the token speaks for; `instance` is the name under which the
        asker reports. Raises SpangateError.
        """
        key = self._keys.new_key()
        asked = {"csr": request_pem(key)}
        answer = self._ask("POST", "/v1/svid", {**asked, "instance": instance} if instance else asked)
        identity = self._same(text_of(answer, "identity"))
        svid = verified(identity, key, text_of(answer, "chain"), text_of(answer, "bundle"))
        self._latest = svid.secrets.bundle_pem
        return svid

    def report(self, instance: str, held: Holding) -> Answer:
        """Tells what the program `instance` of this pod holds. Raises SpangateError."""
        asked = {"instance": instance, "trusts": sorted(held.trusts), "uses": held.uses}
        answer = self._ask("POST", "/v1/peers", asked)
        self._same(text_of(answer, "identity"))
        found = read_answer(answer)
        if found.bundle_pem is not None:
            self._latest = found.bundle_pem
        return found

    def gone(self, instance: str) -> None:
        """The program `instance` has ended, and its private key with it. Raises SpangateError."""
        self._ask("POST", "/v1/gone", {"instance": instance})

    def token(self, audiences: Sequence[str]) -> str:
        """A JWT-SVID. Raises SpangateError."""
        answer = self._ask("POST", "/v1/jwt", {"audiences": list(audiences)})
        self._same(text_of(answer, "identity"))
        return text_of(answer, "token")

    def bundles(self) -> Bundles:
        """What others are verified by now. Raises SpangateError."""
        answer = self._ask("GET", "/v1/bundle", None, BUNDLES_BYTES_MAX)
        bundle = text_of(answer, "bundle")
        if _trust_domain(bundle) != self.trust_domain:
            raise PeersFault("the authority answered with the bundle of another trust domain")
        found = read_bundles(answer, self.trust_domain)
        self._latest = bundle
        return found

    def _same(self, text: str) -> SpiffeId:
        try:
            identity = SpiffeId.parse(text)
        except BadSpiffeId as error:
            raise PeersFault("the authority answered for what is no SPIFFE ID") from error
        if identity.trust_domain != self.trust_domain:
            raise PeersFault(f"the authority answered for another trust domain: `{identity}`")
        if self._identity not in {None, identity}:
            raise PeersFault(f"the token speaks for `{identity}` by now, not for `{self._identity}`")
        self._identity = identity
        return identity

    def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None, bytes_max: int = ANSWER_BYTES_MAX
    ) -> Mapping[str, Any]:
        headers = {"content-type": "application/json"}
        if body is not None:
            headers["authorization"] = f"Bearer {read_bearer(self._token)}"
        connection = _Authority(self._host, self._port, self._trusted(), self.authority)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            status, content = response.status, response.read(bytes_max + 1)
        except ssl.SSLCertVerificationError as error:
            raise PeersFault(
                f"the certificate at `{self._url}` is not signed under `{self._bundle}`: {error.verify_message}",
                help="is it the bundle of this authority?",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise TryAgain(f"the authority at `{self._url}` does not answer: {error}") from error
        # http.client quotes the header that it complains of, and one of them is the token.
        except ValueError:
            raise TryAgain(f"the authority at `{self._url}` cannot be asked, or its answer not be read") from None
        finally:
            connection.close()
        answer = json_object(content, bytes_max)
        if status == http.client.OK and answer is not None:
            return answer
        raise refusal(status, answer)

    def _trusted(self) -> str:
        return _text(self._bundle) + "\n" + self._latest


class _Authority(http.client.HTTPSConnection):
    """TLS to the one who is the authority, which is asked before a byte is sent."""

    def __init__(self, host: str, port: int, bundle_pem: str, authority: SpiffeId) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # A SPIFFE ID is no host name; it is compared below.
        context.check_hostname = False
        try:
            context.load_verify_locations(cadata=bundle_pem)
        except ssl.SSLError as error:
            raise YourFault("the bundle holds no certificate that can be read") from error
        super().__init__(host, port, timeout=TIMEOUT_SECONDS, context=context)
        self._authority = authority

    def connect(self) -> None:
        super().connect()
        shown = self.sock.getpeercert(binary_form=True)
        if shown is None or _uris(x509.load_der_x509_certificate(shown)) != [str(self._authority)]:
            self.close()
            raise PeersFault(f"the certificate at {self.host}:{self.port} does not say that it is `{self._authority}`")


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _trust_domain(bundle_pem: str) -> str:
    """The one that all roots say. Raises YourFault."""
    try:
        roots = x509.load_pem_x509_certificates(bundle_pem.encode("ascii"))
    except ValueError as error:
        raise YourFault("the bundle holds no certificate that can be read") from error
    found = {uri for root in roots for uri in _uris(root)}
    (uri,) = found if len(found) == 1 else ("",)
    try:
        return check_trust_domain(uri.removeprefix(_PREFIX))
    except BadSpiffeId as error:
        raise YourFault("the roots of the bundle do not all say one trust domain") from error


def _text(path: Path) -> str:
    try:
        return read_file(path, FILE_BYTES_MAX).decode("ascii")
    except UnicodeDecodeError as error:
        raise YourFault(f"`{path}` is not PEM: {error}") from error
