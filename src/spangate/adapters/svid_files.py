"""A mesh's SVID from files, as Istio's pilot-agent writes them with OUTPUT_CERTS: key, chain and roots.

    key.pem         the private key, which nobody else may read
    cert-chain.pem  the leaf and its intermediates, leaf first
    root-cert.pem   the roots of its trust domain

Rules: the three are taken together or not at all: the key is the leaf's, the leaf names one SPIFFE ID and is no
authority's, the chain leads to a root. A change counts once two looks in a row see the same, so that the moment between
one rename and the next is nobody's meaning. What is not good leaves the one before in use and is said once. The key
stays in memory.
Not here: handing it to Envoy (sds_door.py), roots of other trust domains (trust_files.py).
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from spangate.adapters.sds_door import Secrets
from spangate.adapters.settling import Settling
from spangate.adapters.svid_client import CHAIN_CERTIFICATES_MAX, Svid, leads_to
from spangate.adapters.trust_files import read_limited
from spangate.authority.bundles import BadBundle, read_bundle
from spangate.authority.ca import Clock
from spangate.errors import YourFault
from spangate.model.identity import BadSpiffeId, SpiffeId

KEY_FILE, CHAIN_FILE, ROOTS_FILE = "key.pem", "cert-chain.pem", "root-cert.pem"
# Others may not read it, nor the group write it. The group may read it: so Kubernetes gives secrets to a pod's user.
_MODE_REFUSED = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP


class SvidFiles:
    """The SVID in `directory`. `look` is called again and again, by one thread; anyone may ask for `current`.

    Raises YourFault when made, if there is no good one.
    """

    def __init__(self, directory: Path, clock: Clock, *, problem: Callable[[str], None]) -> None:
        self._directory = directory
        self._clock = clock
        self._problem = problem
        # Known before it is read: were a file to change in between, the next look sees a difference.
        self._settling = Settling(self._digest())
        self._svid = self._read()

    @property
    def svid(self) -> Svid:
        """The one in use."""
        return self._svid

    def current(self) -> Secrets:
        """What Envoy is given."""
        return self._svid.secrets

    def look(self) -> None:
        """Takes a change in, if it has settled and is good."""
        if not self._settling.changed(self._digest()):
            return
        try:
            self._svid = self._same(self._read())
        except YourFault as error:
            self._problem(
                f"{error.message}; the certificate before stays in use, until {self._svid.not_after:%H:%M} UTC"
            )

    def _same(self, found: Svid) -> Svid:
        """`found`, if it is for the same identity: others rely on who this is."""
        if found.identity != self._svid.identity:
            raise YourFault(f"`{self._directory}` holds another identity now: `{found.identity}`")
        return found

    def _read(self) -> Svid:
        key_pem, chain_pem, roots_pem = (self._content(name) for name in (KEY_FILE, CHAIN_FILE, ROOTS_FILE))
        self._check_mode()
        try:
            key = serialization.load_pem_private_key(key_pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # Without the cause, which might quote what it was given.
            raise YourFault(
                f"`{self._directory / KEY_FILE}` holds no private key in PEM that is not encrypted"
            ) from None
        try:
            chain = x509.load_pem_x509_certificates(chain_pem)
        except ValueError as error:
            raise YourFault(f"`{self._directory / CHAIN_FILE}` holds no certificates in PEM") from error
        try:
            roots = read_bundle(roots_pem)
        except BadBundle as error:
            raise YourFault(f"`{self._directory / ROOTS_FILE}` cannot be used: {error}") from error
        identity = self._identity(chain[0])
        if chain[0].public_key() != key.public_key():
            raise YourFault(f"`{self._directory}` holds a key and a certificate that do not belong together")
        if len(chain) > CHAIN_CERTIFICATES_MAX or not leads_to(chain, list(roots)):
            raise YourFault(f"the chain in `{self._directory / CHAIN_FILE}` does not lead to a root in `{ROOTS_FILE}`")
        if chain[0].not_valid_after_utc <= self._clock.now():
            ended = f"{chain[0].not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
            raise YourFault(f"the certificate in `{self._directory / CHAIN_FILE}` has ended, at {ended}")
        secrets = Secrets(chain_pem.decode("ascii"), key_pem.decode("ascii"), roots_pem.decode("ascii"))
        return Svid(identity, secrets, chain[0].not_valid_after_utc, chain[0].serial_number)

    def _identity(self, leaf: x509.Certificate) -> SpiffeId:
        try:
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = names.get_values_for_type(x509.UniformResourceIdentifier)
            constraints = [one.value for one in leaf.extensions if isinstance(one.value, x509.BasicConstraints)]
        except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
            uris, constraints = [], []
        where = self._directory / CHAIN_FILE
        if len(uris) != 1:
            raise YourFault(f"the first certificate in `{where}` does not have exactly one URI name")
        if any(constraint.ca for constraint in constraints):
            raise YourFault(f"the first certificate in `{where}` is an authority's: it speaks for no workload")
        try:
            return SpiffeId.parse(uris[0])
        except BadSpiffeId as error:
            raise YourFault(f"the first certificate in `{where}` has no SPIFFE ID: {error}") from error

    def _content(self, name: str) -> bytes:
        path = self._directory / name
        try:
            content = read_limited(path)
            content.decode("ascii")
        except OSError as error:
            raise YourFault(f"cannot read `{path}`: {error.strerror}", help=_HELP) from error
        except UnicodeDecodeError:
            raise YourFault(f"`{path}` is no PEM") from None
        return content

    def _check_mode(self) -> None:
        path = self._directory / KEY_FILE
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _MODE_REFUSED:
            raise YourFault(f"`{path}` may be read by others (mode {mode:04o})", help=f"chmod 600 {path}")

    def _digest(self) -> bytes:
        found = hashlib.sha256()
        for name in (KEY_FILE, CHAIN_FILE, ROOTS_FILE):
            path = self._directory / name
            try:
                content = read_limited(path)
                mode = path.stat().st_mode
            except OSError:
                content, mode = b"", 0
            found.update(len(content).to_bytes(8, "big") + mode.to_bytes(8, "big") + content)
        return found.digest()


_HELP = f"the directory holds {KEY_FILE}, {CHAIN_FILE} and {ROOTS_FILE}; pilot-agent writes them with OUTPUT_CERTS"
