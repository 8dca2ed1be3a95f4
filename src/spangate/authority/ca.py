"""The certificate authority of a standalone installation: build -> sign -> check what was signed -> record.

Rules: keys live in the keeper, and leave it only as objects that sign. The root signs intermediates, the intermediate
signs leaves. A certificate that fails its check, or cannot be recorded, is never handed out. A leaf
never outlives its issuer. The identity is the caller's word and is checked against the trust domain only: the caller
has authorised it (adapters/svid_door.py). Time, keys and serial numbers are injected.
Not here: reading a signing request (request.py), what a certificate looks like (template.py), what is put down and
taken up again (generations.py), rotation of the root.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from spangate.authority.check import check_ca, check_svid
from spangate.authority.generations import (
    INTERMEDIATE_PREFIX,
    ROOT_PREFIX,
    AuthorityState,
    Generation,
    StateStore,
    destroy_orphans,
)
from spangate.authority.keeper import KeyKeeper
from spangate.authority.request import read_request
from spangate.authority.template import (
    CA_BACKDATE,
    INTERMEDIATE_LIFETIME,
    INTERMEDIATE_PATH_LENGTH,
    INTERMEDIATE_SUBJECT,
    ROOT_LIFETIME,
    ROOT_PATH_LENGTH,
    ROOT_SUBJECT,
    SVID_BACKDATE,
    SVID_LIFETIME_MAX,
    SVID_SUBJECT,
    CaTemplate,
    SvidTemplate,
    check_dns_names,
)
from spangate.errors import TryAgain, YourFault
from spangate.model.identity import SpiffeId, check_trust_domain

# Shorter and a workload would renew all the time; tests of rotation want seconds.
SVID_LIFETIME_MIN = timedelta(seconds=2)
# An intermediate is replaced when it has less than this left: at the next start, or by a rotation.
INTERMEDIATE_RENEWAL = timedelta(days=60)


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""


class Keys(Protocol):
    """Makes what must not be guessed."""

    def new_key(self) -> ec.EllipticCurvePrivateKey:
        """A fresh P-256 key."""

    def new_serial(self) -> int:
        """A fresh serial number: positive, at least 64 random bits, at most 159 bits (RFC 5280, section 4.1.2.2)."""


@dataclass(frozen=True, slots=True)
class IssuedSvid:
    """A leaf and its intermediate (`chain_pem`, leaf first, no root), and when the leaf ends (aware, UTC)."""

    chain_pem: str
    not_after: datetime
    serial: int


@dataclass(frozen=True, slots=True)
class Issued:
    """What is recorded of a certificate or token: facts, never keys. `kind` is `root`, `intermediate`, `svid`, or
    `jwt`, whose `dns_names` are its audiences.
    """

    kind: str
    identity: str
    serial: int
    not_before: datetime
    not_after: datetime
    dns_names: tuple[str, ...] = ()


Record = Callable[[Issued], None]


def _nothing(_: Issued) -> None:
    """Records nowhere."""


class Authority:
    """Roots and an intermediate of one trust domain. Make one with `create`, or `open` what was kept; it does not
    change afterwards, so any thread may use it.
    """

    def __init__(
        self,
        *,
        trust_domain: str,
        roots: tuple[x509.Certificate, ...],
        root: x509.Certificate,
        intermediate: x509.Certificate,
        intermediate_key: ec.EllipticCurvePrivateKey,
        clock: Clock,
        keys: Keys,
        record: Record,
        svid_lifetime: timedelta,
    ) -> None:
        self.trust_domain = trust_domain
        self._roots = roots
        self._root = root
        self._intermediate = intermediate
        self._intermediate_key = intermediate_key
        self._clock = clock
        self._keys = keys
        self._record = record
        self._svid_lifetime = svid_lifetime

    @classmethod
    def create(
        cls,
        trust_domain: str,
        clock: Clock,
        keys: Keys,
        *,
        record: Record = _nothing,
        svid_lifetime: timedelta = SVID_LIFETIME_MAX,
    ) -> Authority:
        """A new root and intermediate for `trust_domain`, whose keys are in memory only.

        Raises BadSpiffeId for a trust domain that is none, YourFault for a lifetime out of bounds, and whatever
        `record` raises: what cannot be recorded is not issued.
        """
        _check_lifetime(svid_lifetime)
        now = _whole_second(clock.now())
        root_key, intermediate_key = keys.new_key(), keys.new_key()
        root = _new_root(check_trust_domain(trust_domain), root_key, keys, now, record)
        intermediate = _new_intermediate(trust_domain, root, root_key, intermediate_key, keys, now, record)
        return cls(
            trust_domain=trust_domain,
            roots=(root,),
            root=root,
            intermediate=intermediate,
            intermediate_key=intermediate_key,
            clock=clock,
            keys=keys,
            record=record,
            svid_lifetime=svid_lifetime,
        )

    @classmethod
    def open(
        cls,
        trust_domain: str,
        clock: Clock,
        keys: Keys,
        keeper: KeyKeeper,
        store: StateStore,
        *,
        record: Record = _nothing,
        svid_lifetime: timedelta = SVID_LIFETIME_MAX,
    ) -> Authority:
        """The authority whose state is in `store` and whose keys are in `keeper`; a new one if there is none.

        An intermediate that ends soon is replaced by one of the same root. Raises YourFault for a state of another
        trust domain, or one whose keys are not in the keeper; TryAgain when a root has ended; and what `create`,
        `keeper` and `store` raise.
        """
        _check_lifetime(svid_lifetime)
        check_trust_domain(trust_domain)
        now = _whole_second(clock.now())
        state = store.load()
        if state is not None and state.trust_domain != trust_domain:
            raise YourFault(
                f"the authority that is kept here is of the trust domain `{state.trust_domain}`, not `{trust_domain}`",
                help="keep each trust domain's keys and state in a directory of its own",
            )
        destroy_orphans(keeper, state)
        if state is None:
            state = AuthorityState(trust_domain, (_new_generation(trust_domain, 1, keys, keeper, now, record),), 1)
            store.save(state)
        elif state.signer.intermediate.not_valid_after_utc < now + INTERMEDIATE_RENEWAL:
            state = _with_new_intermediate(state, keys, keeper, now, record)
            store.save(state)
            destroy_orphans(keeper, state)
        signer = state.signer
        intermediate_key = keeper.open(signer.intermediate_key)
        if intermediate_key.public_key() != signer.intermediate.public_key():
            raise YourFault(f"the key `{signer.intermediate_key}` is not that of the authority's intermediate")
        return cls(
            trust_domain=trust_domain,
            roots=tuple(one.root for one in state.generations),
            root=signer.root,
            intermediate=signer.intermediate,
            intermediate_key=intermediate_key,
            clock=clock,
            keys=keys,
            record=record,
            svid_lifetime=svid_lifetime,
        )

    def sign(self, csr_pem: str, spiffe_id: SpiffeId, dns_names: tuple[str, ...] = ()) -> IssuedSvid:
        """A leaf for `spiffe_id` with the key of the request.

        Raises BadRequest for an unusable request, YourFault for an identity of another trust domain or a bad DNS
        name, TryAgain when the authority is about to end or has not begun by the clock, BadCertificate if what was
        signed is not what was asked (a defect of ours), and whatever `record` raises.
        """
        if spiffe_id.trust_domain != self.trust_domain:
            raise YourFault(f"`{spiffe_id}` is not in the trust domain `{self.trust_domain}`")
        names = check_dns_names(dns_names)
        public_key = read_request(csr_pem)
        now = _whole_second(self._clock.now())
        not_after = now + self._svid_lifetime
        beginning = self._intermediate.not_valid_before_utc
        if now < beginning:
            raise TryAgain(
                "the clock stands before the beginning of the authority",
                help="set the clock, then start `spangate up` again",
            )
        if not_after > self._intermediate.not_valid_after_utc:
            raise TryAgain(
                f"the authority ends at {self._intermediate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}, "
                "before the certificate would",
                help="start `spangate up` again: it makes a new authority",
            )
        template = SvidTemplate(
            identity=spiffe_id,
            dns_names=names,
            issuer=self._intermediate.subject,
            public_key=public_key,
            serial=self._keys.new_serial(),
            # A clock set back a little must not make a leaf that begins before its issuer.
            not_before=max(now - SVID_BACKDATE, beginning),
            not_after=not_after,
        )
        builder = _build_svid(template, self._intermediate_key.public_key())
        certificate = check_svid(_sign(builder, self._intermediate_key), template, self._intermediate, self._root)
        self._record(_facts("svid", str(spiffe_id), certificate, names))
        return IssuedSvid(_pem(certificate) + _pem(self._intermediate), not_after, certificate.serial_number)

    def roots(self) -> tuple[x509.Certificate, ...]:
        """Every root that is trusted, oldest first."""
        return self._roots

    def signer(self) -> str:
        """Which intermediate signs: the SHA-256 of its certificate, in hex."""
        return self._intermediate.fingerprint(hashes.SHA256()).hex()

    def bundle_pem(self) -> str:
        """The trust bundle: the roots in PEM, one after another."""
        return "".join(_pem(root) for root in self._roots)


def _check_lifetime(svid_lifetime: timedelta) -> None:
    if not SVID_LIFETIME_MIN <= svid_lifetime <= SVID_LIFETIME_MAX:
        raise YourFault(
            f"a certificate lifetime of {svid_lifetime.total_seconds():g} s is not between "
            f"{SVID_LIFETIME_MIN.total_seconds():g} and {SVID_LIFETIME_MAX.total_seconds():g} s"
        )


def _new_root(
    trust_domain: str, key: ec.EllipticCurvePrivateKey, keys: Keys, now: datetime, record: Record
) -> x509.Certificate:
    """Signed by itself, checked and recorded."""
    template = _ca_template(trust_domain, ROOT_SUBJECT, key, ROOT_PATH_LENGTH, keys, now, now + ROOT_LIFETIME)
    root = _sign(_build_ca(template, key.public_key()), key)
    check_ca(root, template, root)
    record(_facts("root", template.uri, root))
    return root


def _new_intermediate(
    trust_domain: str,
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    keys: Keys,
    now: datetime,
    record: Record,
) -> x509.Certificate:
    """Signed by the root, checked and recorded. It ends with its root at the latest."""
    ends = min(now + INTERMEDIATE_LIFETIME, root.not_valid_after_utc)
    template = _ca_template(trust_domain, INTERMEDIATE_SUBJECT, key, INTERMEDIATE_PATH_LENGTH, keys, now, ends)
    intermediate = _sign(_build_ca(template, root_key.public_key()), root_key)
    check_ca(intermediate, template, root)
    record(_facts("intermediate", template.uri, intermediate))
    return intermediate


def _ca_template(
    trust_domain: str,
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    path_length: int,
    keys: Keys,
    now: datetime,
    not_after: datetime,
) -> CaTemplate:
    return CaTemplate(
        trust_domain=trust_domain,
        subject=subject,
        issuer=ROOT_SUBJECT,
        public_key=key.public_key(),
        serial=keys.new_serial(),
        not_before=now - CA_BACKDATE,
        not_after=not_after,
        path_length=path_length,
    )


def _new_generation(
    trust_domain: str, number: int, keys: Keys, keeper: KeyKeeper, now: datetime, record: Record
) -> Generation:
    """A root and its intermediate, with keys of their own in the keeper."""
    root_name, root_key = _kept(keeper, f"{ROOT_PREFIX}{number}", keys)
    name, key = _kept(keeper, f"{INTERMEDIATE_PREFIX}{number}", keys)
    root = _new_root(trust_domain, root_key, keys, now, record)
    intermediate = _new_intermediate(trust_domain, root, root_key, key, keys, now, record)
    return Generation(number, _pem(root), root_name, _pem(intermediate), name)


def _with_new_intermediate(
    state: AuthorityState, keys: Keys, keeper: KeyKeeper, now: datetime, record: Record
) -> AuthorityState:
    signer = state.signer
    if signer.root.not_valid_after_utc <= now + INTERMEDIATE_RENEWAL:
        if signer.root.not_valid_after_utc <= now:
            raise TryAgain(
                f"the authority's root has ended at {signer.root.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
                help="move the keys and the state away to begin with a new root",
            )
        return state  # no longer than its root; rotating the root is what helps
    root_key = keeper.open(signer.root_key)
    name, key = _kept(keeper, f"{INTERMEDIATE_PREFIX}{signer.number}", keys)
    made = _new_intermediate(state.trust_domain, signer.root, root_key, key, keys, now, record)
    renewed = replace(signer, intermediate_pem=_pem(made), intermediate_key=name)
    return replace(state, generations=tuple(renewed if one is signer else one for one in state.generations))


def _kept(keeper: KeyKeeper, prefix: str, keys: Keys) -> tuple[str, ec.EllipticCurvePrivateKey]:
    """A new key under a name that was never used."""
    name = f"{prefix}-{keys.new_serial() % 2**64:016x}"
    return name, keeper.make(name)


def _build_ca(template: CaTemplate, issuer_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    builder = _build(template, template.subject, issuer_key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=template.path_length), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return builder.add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(template.uri)]), critical=False
    )


def _build_svid(template: SvidTemplate, issuer_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(template.identity))]
    names += [x509.DNSName(name) for name in template.dns_names]
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = _build(template, SVID_SUBJECT, issuer_key)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=True)


def _build(
    template: SvidTemplate | CaTemplate, subject: x509.Name, issuer_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """What every certificate has."""
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(template.issuer)
        .public_key(template.public_key)
        .serial_number(template.serial)
        .not_valid_before(template.not_before)
        .not_valid_after(template.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(template.public_key), critical=False)
        .add_extension(issuer_id, critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Signed, and read back from its bytes: the check must see what a peer will see."""
    certificate = builder.sign(key, hashes.SHA256())
    return x509.load_der_x509_certificate(certificate.public_bytes(serialization.Encoding.DER))


def _facts(kind: str, identity: str, certificate: x509.Certificate, dns_names: tuple[str, ...] = ()) -> Issued:
    return Issued(
        kind,
        identity,
        certificate.serial_number,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        dns_names,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _whole_second(moment: datetime) -> datetime:
    """X.509 knows no fractions of a second."""
    return moment.astimezone(UTC).replace(microsecond=0)
