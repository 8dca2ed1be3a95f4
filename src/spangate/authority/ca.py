"""The certificate authority of a standalone installation: build -> sign -> check what was signed -> record.

Rules: keys live in the keeper, and leave it only as objects that sign. The root signs intermediates, the intermediate
signs leaves. A certificate that fails its check, or cannot be recorded, is never handed out. A leaf
never outlives its issuer. The identity is the caller's word and is checked against the trust domain only: the caller
has authorised it (adapters/svid_door.py). Who signs and who is trusted change together, and never between the signing
of a leaf and its record: the state is saved, then it is in force. Time, keys and serial numbers are injected.
Not here: reading a signing request (request.py), what a certificate looks like (template.py, build.py), roots and
intermediates (founding.py), what is put down and taken up again (generations.py), when a rotation goes on (gate.py,
rotator.py).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from spangate.authority.build import signed_svid
from spangate.authority.check import Issuer, check_svid
from spangate.authority.founding import INTERMEDIATE_RENEWAL, Keys, facts, new_generation, pem, with_new_intermediate
from spangate.authority.generations import (
    AuthorityState,
    StateStore,
    check_pairing,
    confirmed,
    destroy_orphans,
    stepped,
)
from spangate.authority.keeper import KeyKeeper
from spangate.authority.ledger import Issued, Record
from spangate.authority.request import read_request
from spangate.authority.rotation import Abandoned, Event, RootStaged, after
from spangate.authority.template import SVID_BACKDATE, SVID_LIFETIME_MAX, SvidTemplate, check_dns_names
from spangate.errors import Broken, TryAgain, YourFault
from spangate.model.identity import SpiffeId, check_trust_domain

# Shorter and a workload would renew all the time; tests of rotation want seconds.
SVID_LIFETIME_MIN = timedelta(seconds=2)


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""


@dataclass(frozen=True, slots=True)
class IssuedSvid:
    """A leaf and its intermediate (`chain_pem`, leaf first, no root), when the leaf ends (aware, UTC), and the roots
    that were trusted when it was signed.
    """

    chain_pem: str
    not_after: datetime
    serial: int
    bundle_pem: str


def _nothing(_: Issued) -> None:
    """Records nowhere."""


@dataclass(frozen=True, slots=True)
class _InForce:
    """A state with what signs by it, read once. Replaced as a whole."""

    state: AuthorityState
    roots: tuple[x509.Certificate, ...]
    intermediate: x509.Certificate
    intermediate_pem: str
    intermediate_key: ec.EllipticCurvePrivateKey
    issuer: Issuer
    bundle_pem: str

    @classmethod
    def of(cls, state: AuthorityState, keeper: KeyKeeper) -> _InForce:
        """Raises YourFault if the signer's key is not in the keeper, or is not its key; BadCertificate if its
        certificate is not of its root.
        """
        signer = state.signer
        intermediate = signer.intermediate
        key = keeper.open(signer.intermediate_key)
        if key.public_key() != intermediate.public_key():
            raise YourFault(f"the key `{signer.intermediate_key}` is not that of the authority's intermediate")
        roots = tuple(one.root for one in state.generations)
        return cls(
            state=state,
            roots=roots,
            intermediate=intermediate,
            intermediate_pem=pem(intermediate),
            intermediate_key=key,
            issuer=Issuer.of(intermediate, signer.root),
            bundle_pem="".join(pem(root) for root in roots),
        )


class Authority:
    """Roots and an intermediate of one trust domain. Make one with `create`, or `open` what was kept.

    Any thread may use it, if `lock` is one that threads share (threading.RLock); the default is for a single thread.
    """

    def __init__(
        self,
        in_force: _InForce,
        *,
        clock: Clock,
        keys: Keys,
        keeper: KeyKeeper,
        store: StateStore,
        record: Record,
        svid_lifetime: timedelta,
        lock: AbstractContextManager[object],
    ) -> None:
        self.trust_domain = in_force.state.trust_domain
        self._in_force = in_force
        self._clock = clock
        self._keys = keys
        self._keeper = keeper
        self._store = store
        self._record = record
        self._svid_lifetime = svid_lifetime
        # Held from reading who signs to the record of what was signed, and while that changes: whoever concludes from
        # the records that nothing of a root is left must not be overtaken by a leaf that is still being signed.
        self._lock = lock

    @classmethod
    def create(
        cls,
        trust_domain: str,
        clock: Clock,
        keys: Keys,
        *,
        record: Record = _nothing,
        svid_lifetime: timedelta = SVID_LIFETIME_MAX,
        lock: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - it has no state
    ) -> Authority:
        """A new root and intermediate for `trust_domain`, whose keys are in memory only.

        Raises BadSpiffeId for a trust domain that is none, YourFault for a lifetime out of bounds, and whatever
        `record` raises: what cannot be recorded is not issued.
        """
        keeper, store = _KeysHere(keys), _StateHere()
        return cls.open(trust_domain, clock, keys, keeper, store, record=record, svid_lifetime=svid_lifetime, lock=lock)

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
        lock: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - it has no state
    ) -> Authority:
        """The authority whose state is in `store` and whose keys are in `keeper`; a new one if there is none.

        An intermediate that ends soon is replaced by one of the same root. Raises YourFault for a state of another
        trust domain, one whose keys are not in the keeper, or keys whose state is not in the store; TryAgain when a
        root has ended; and what `create`, `keeper` and `store` raise.
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
        check_pairing(keeper, state, begun=store.begun())
        destroy_orphans(keeper, state)
        if state is None:
            store.begin()
            first = new_generation(trust_domain, 1, keys, keeper, now, record)
            state = AuthorityState(trust_domain, (first,), 1, since=now)
            store.save(state)
        elif state.signer.intermediate.not_valid_after_utc < now + INTERMEDIATE_RENEWAL:
            state = with_new_intermediate(state, keys, keeper, now, record)
            store.save(state)
            destroy_orphans(keeper, state)
        return cls(
            _InForce.of(state, keeper),
            clock=clock,
            keys=keys,
            keeper=keeper,
            store=store,
            record=record,
            svid_lifetime=svid_lifetime,
            lock=lock,
        )

    def sign(
        self, csr_pem: str, spiffe_id: SpiffeId, dns_names: tuple[str, ...] = (), *, holder: str = ""
    ) -> IssuedSvid:
        """A leaf for `spiffe_id` with the key of the request. `holder` is who is recorded to hold it (peers.py).

        Raises BadRequest for an unusable request, YourFault for an identity of another trust domain or a bad DNS
        name, TryAgain when the authority is about to end or has not begun by the clock, BadCertificate if what was
        signed is not what was asked (a defect of ours), and whatever `record` raises.
        """
        if spiffe_id.trust_domain != self.trust_domain:
            raise YourFault(f"`{spiffe_id}` is not in the trust domain `{self.trust_domain}`")
        names = check_dns_names(dns_names)
        public_key = read_request(csr_pem)
        with self._lock:
            by = self._in_force
            # Once: a leaf whose beginning and end are of two different seconds would live too long.
            now = _whole_second(self._clock.now())
            template = SvidTemplate(
                identity=spiffe_id,
                dns_names=names,
                issuer=by.intermediate.subject,
                public_key=public_key,
                serial=self._keys.new_serial(),
                not_before=_beginning(by.intermediate, now),
                not_after=_end(by.intermediate, now + self._svid_lifetime),
            )
            leaf = check_svid(signed_svid(template, by.intermediate_key), template, by.issuer)
            written = facts("svid", str(spiffe_id), leaf, names)
            state = by.state
            self._record(replace(written, generation=state.signing, revision=state.revision, holder=holder))
        return IssuedSvid(pem(leaf) + by.intermediate_pem, template.not_after, leaf.serial_number, by.bundle_pem)

    @property
    def state(self) -> AuthorityState:
        """What is in force."""
        return self._in_force.state

    @property
    def turn(self) -> AbstractContextManager[object]:
        """While it is held, nothing is signed and nobody changes who signs."""
        return self._lock

    def roots(self) -> tuple[x509.Certificate, ...]:
        """Every root that is trusted, oldest first."""
        return self._in_force.roots

    def bundle_pem(self) -> str:
        """The trust bundle: the roots in PEM, one after another."""
        return self._in_force.bundle_pem

    def step(self, event: Event) -> AuthorityState:
        """A step of a rotation: kept, then in force. Whether the time for it has come is the caller's to know.

        Raises IllegalStep, TryAgain when turning back is too late for the old intermediate, and what keeper, store and
        `record` raise; then nothing has changed.
        """
        with self._lock:
            now = _whole_second(self._clock.now())
            before = self._in_force.state
            after(before.phase, event)
            made = None
            if isinstance(event, RootStaged):
                number = before.numbers + 1
                made = new_generation(self.trust_domain, number, self._keys, self._keeper, now, self._record)
            state = stepped(before, event, now, made=made, last_end=now + SVID_LIFETIME_MAX)
            if isinstance(event, Abandoned):
                _end(state.signer.intermediate, now + self._svid_lifetime)
            self._adopt(state)
            return state

    def confirm(self, name: str) -> AuthorityState:
        """Notes that the trust store `name` is as this phase wants it. Raises what the store raises."""
        with self._lock:
            state = confirmed(self._in_force.state, name)
            self._adopt(state)
            return state

    def _adopt(self, state: AuthorityState) -> None:
        """Kept, then in force, then rid of keys that are needed no more."""
        following = _InForce.of(state, self._keeper)
        self._store.save(state)
        self._in_force = following
        destroy_orphans(self._keeper, state)


class _KeysHere:
    """A keeper in memory, for an authority that ends with its process."""

    def __init__(self, keys: Keys) -> None:
        self._new = keys
        self._kept: dict[str, ec.EllipticCurvePrivateKey] = {}

    def make(self, name: str) -> ec.EllipticCurvePrivateKey:
        if name in self._kept:
            raise Broken(f"there is a key `{name}` already")
        self._kept[name] = self._new.new_key()
        return self._kept[name]

    def open(self, name: str) -> ec.EllipticCurvePrivateKey:
        return self._kept[name]

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._kept))

    def destroy(self, name: str) -> None:
        self._kept.pop(name, None)


class _StateHere:
    """A store in memory."""

    def __init__(self) -> None:
        self._state: AuthorityState | None = None

    def load(self) -> AuthorityState | None:
        return self._state

    def save(self, state: AuthorityState) -> None:
        self._state = state

    def begun(self) -> bool:
        return False

    def begin(self) -> None:
        """A keeper in memory cannot hold what somebody else has left."""


def _beginning(intermediate: x509.Certificate, now: datetime) -> datetime:
    """When a leaf of now begins. Raises TryAgain before its issuer's own beginning."""
    beginning = intermediate.not_valid_before_utc
    if now < beginning:
        raise TryAgain(
            "the clock stands before the beginning of the authority",
            help="set the clock, then start `spangate up` again",
        )
    # A clock set back a little must not make a leaf that begins before its issuer.
    return max(now - SVID_BACKDATE, beginning)


def _end(intermediate: x509.Certificate, not_after: datetime) -> datetime:
    """`not_after`, if the issuer lives until then; else TryAgain."""
    if not_after > intermediate.not_valid_after_utc:
        raise TryAgain(
            f"the authority ends at {intermediate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}, "
            "before the certificate would",
            help="start `spangate up` again: it makes a new authority",
        )
    return not_after


def _check_lifetime(svid_lifetime: timedelta) -> None:
    if not SVID_LIFETIME_MIN <= svid_lifetime <= SVID_LIFETIME_MAX:
        raise YourFault(
            f"a certificate lifetime of {svid_lifetime.total_seconds():g} s is not between "
            f"{SVID_LIFETIME_MIN.total_seconds():g} and {SVID_LIFETIME_MAX.total_seconds():g} s"
        )


def _whole_second(moment: datetime) -> datetime:
    """X.509 knows no fractions of a second."""
    return moment.astimezone(UTC).replace(microsecond=0)
