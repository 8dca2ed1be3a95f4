"""The roots of an intent's trust domains, as the files of its bundles have them now; and what a gateway is told.

Rules: at the start every bundle must be good, unless whoever starts has to start anyway. Later a file that is not
leaves its trust domain with the roots it had, and says so once for each content. A change counts once two looks in a
row see the same; a file is opened by its name at each look, so a rename or a changed link (as a ConfigMap's) is a
change like any other.
Not here: what a bundle is (authority/bundles.py), how roots are kept apart (authority/anchors.py).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509

from spangate.adapters.intent_files import read_intent
from spangate.adapters.sds_door import Secrets, Source
from spangate.adapters.settling import Settling
from spangate.authority.anchors import DomainBundle, anchors_pem
from spangate.authority.bundles import BUNDLE_BYTES_MAX, BadBundle, read_bundle
from spangate.authority.federation import every_bundle
from spangate.authority.founding import Keys
from spangate.errors import SpangateError, YourFault
from spangate.intent.errors import Problems
from spangate.intent.trust_domains import check_trust_domains
from spangate.model.policy import TrustDomain

_Roots = tuple[x509.Certificate, ...]
# Under each name of a trust domain, all together. Every workload is told all of them, in one message, and clients of
# gRPC take 4 MiB: this many with RSA keys are a third of that.
ROOTS_OF_ALL_MAX = 1024
# Of one, from all its files: half of what a peer may say it trusts (authority/peers.py).
ROOTS_OF_DOMAIN_MAX = 128


class TrustFiles:
    """The trust domains of the intent file at `intent`. `look` is called again and again, by one thread.

    `problem` gets one sentence for each content that is no bundle. Raises YourFault when made, if one is none; with
    `missing`, that gets the sentence instead, and the trust domain has no roots until its file is good.
    """

    def __init__(
        self, intent: Path, *, problem: Callable[[str], None], missing: Callable[[str], None] | None = None
    ) -> None:
        self._intent = intent
        self._problem = problem
        self._domains: tuple[TrustDomain, ...] = ()
        try:
            self._domains = _domains(intent)
        except SpangateError:
            # What is wrong with the intent is for whoever decides by it to say.
            if missing is None:
                raise
        # Known before they are read: were a file to change in between, the next look sees a difference.
        self._settling = Settling(self._digests())
        self._bundles = self._at_start(missing)

    @property
    def bundles(self) -> tuple[DomainBundle, ...]:
        """One for each trust domain of the intent; the file's own may have no roots here. Any thread may ask."""
        return self._bundles

    def _at_start(self, missing: Callable[[str], None] | None) -> tuple[DomainBundle, ...]:
        found: list[DomainBundle] = []
        for domain in self._domains:
            try:
                found.append(DomainBundle(domain.names, self._roots(domain)))
            except YourFault as error:
                if missing is None:
                    raise
                missing(error.message)
        if message := _too_many(found):
            if missing is None:
                raise YourFault(message)
            missing(message)
            return ()
        return tuple(found)

    def look(self) -> None:
        """Takes a change in, if it has settled."""
        if not self._settling.changed(self._digests()):
            return
        # Whoever decides by the intent says what is wrong with it, and keeps to the one before, as this does.
        with contextlib.suppress(SpangateError):
            self._domains = _domains(self._intent)
        # The files that are named may be others now.
        self._settling = Settling(self._digests())
        before = {bundle.names[0]: bundle.roots for bundle in self._bundles}
        found: list[DomainBundle] = []
        for domain in self._domains:
            try:
                roots = self._roots(domain)
            except YourFault as error:
                roots = before.get(domain.name, ())
                self._problem(f"{error.message}; {_remains(domain, roots)}")
            if roots or not domain.bundles:
                found.append(DomainBundle(domain.names, roots))
        if message := _too_many(found):
            self._problem(f"{message}; the ones from before stay trusted")
        else:
            self._bundles = tuple(found)

    def _roots(self, domain: TrustDomain) -> _Roots:
        found: list[x509.Certificate] = []
        for name in domain.bundles:
            path = self._intent.parent / name
            try:
                found += read_bundle(read_limited(path))
            except OSError as error:
                raise YourFault(f"cannot read `{name}`, the bundle of `{domain.name}`: {error.strerror}") from error
            except BadBundle as error:
                raise YourFault(f"`{name}`, the bundle of `{domain.name}`, cannot be used: {error}") from error
        roots = tuple(dict.fromkeys(found))
        if len(roots) > ROOTS_OF_DOMAIN_MAX:
            raise YourFault(f"the bundles of `{domain.name}` hold more than {ROOTS_OF_DOMAIN_MAX} roots")
        return roots

    def _digests(self) -> tuple[bytes, ...]:
        files = [self._intent, *(self._intent.parent / name for domain in self._domains for name in domain.bundles)]
        return tuple(_digest(file) for file in files)


def read_limited(path: Path) -> bytes:
    """A file of at most BUNDLE_BYTES_MAX and a byte more, by which its reader sees that it is too long."""
    with path.open("rb") as file:
        return file.read(BUNDLE_BYTES_MAX + 1)


def _too_many(bundles: Sequence[DomainBundle]) -> str:
    """What is wrong with the number of all roots; nothing, if it is right."""
    count = sum(len(bundle.names) * len(bundle.roots) for bundle in bundles)
    return (
        ""
        if count <= ROOTS_OF_ALL_MAX
        else f"there are {count} roots of all trust domains, more than {ROOTS_OF_ALL_MAX}"
    )


def _domains(intent: Path) -> tuple[TrustDomain, ...]:
    """Raises YourFault for an intent that cannot be read."""
    problems = Problems()
    found = check_trust_domains(read_intent(intent), problems)
    problems.raise_if_any()
    return found


def _digest(path: Path) -> bytes:
    try:
        # The intent may be longer than a bundle.
        return hashlib.sha256(b"+" + path.read_bytes()).digest()
    except OSError:
        return b""


def _remains(domain: TrustDomain, roots: _Roots) -> str:
    count = f"{len(roots)} root{'s' if len(roots) > 1 else ''}"
    return f"the {count} from before stay trusted" if roots else f"nobody of `{domain.name}` is let in"


@dataclass(frozen=True, slots=True)
class _Told:
    """What was made of which roots."""

    own_pem: str
    bundles: tuple[DomainBundle, ...]
    anchors_pem: str
    trust_domains: tuple[str, ...]


class GatewaySecrets:
    """What the gateway's Envoy is given: a certificate, and the anchors of all trust domains.

    `own` has the roots of the installation's authority, and its certificate is the gateway's unless `certificate` gives
    another. `apart` is asked before the roots of several trust domains are put together: it raises if the Envoy here
    would not keep them apart. Any thread may ask. Raises SpangateError when made, if the roots of `own` and the files
    cannot be kept apart.
    """

    def __init__(
        self,
        own: Source,
        trust_domain: str,
        files: TrustFiles,
        keys: Keys,
        *,
        problem: Callable[[str], None],
        apart: Callable[[], None],
        certificate: Source | None = None,
    ) -> None:
        self._own = own
        self._apart = apart
        self._trust_domain = trust_domain
        self._files = files
        self._keys = keys
        self._problem = problem
        self._certificate = certificate or own
        self._told: _Told | None = None
        self._refused: tuple[str, tuple[DomainBundle, ...]] | None = None
        found = own.current()
        if found is not None:
            self._told = self._made(found.bundle_pem, files.bundles)

    def current(self) -> Secrets | None:
        """The generation of this moment; None while there is no certificate."""
        own, shown = self._own.current(), self._certificate.current()
        if own is None or shown is None:
            return None
        told, bundles = self._told, self._files.bundles
        if told is None or (told.own_pem, told.bundles) != (own.bundle_pem, bundles):
            told = self._renewed(own.bundle_pem, bundles)
        if told is None:
            return None
        return replace(shown, bundle_pem=told.anchors_pem, trust_domains=told.trust_domains, roots_pem=told.own_pem)

    def _renewed(self, own_pem: str, bundles: tuple[DomainBundle, ...]) -> _Told | None:
        """With the roots of now, or the ones before if these cannot be kept apart."""
        if self._refused != (own_pem, bundles):
            try:
                self._told = self._made(own_pem, bundles)
            except SpangateError as error:
                self._refused = (own_pem, bundles)
                self._problem(f"{error.message}; the gateway keeps the roots it had")
        return self._told

    def _made(self, own_pem: str, bundles: tuple[DomainBundle, ...]) -> _Told:
        every = every_bundle(self._trust_domain, own_pem, bundles)
        if len(every) > 1:
            self._apart()
        names = tuple(name for bundle in every for name in bundle.names)
        return _Told(own_pem, bundles, anchors_pem(every, self._keys), names)
