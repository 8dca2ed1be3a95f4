"""What an authority is made of, so that it can be put down and taken up again: roots, intermediates, who signs, and
where a rotation stands.

Rules: a generation is a root and the intermediate that it has signed; their keys are in the keeper under the names that
stand here. All roots of a state are trusted; the intermediate of one generation signs. A state is replaced as a whole,
and only after every key in it is kept: whatever interrupts, the state before is still whole. Keys that no state names
were left behind by an interruption, and are destroyed. A number is never used twice, and a root that was let go never
comes back: `checked` says no.
Not here: making certificates (ca.py), which step may follow which (rotation.py), keeping states
(adapters/authority_store.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from spangate.authority.keeper import KeyKeeper
from spangate.authority.rotation import (
    OVERLAPPING,
    REPLACING,
    Abandoned,
    AllForgot,
    AllTrustNewRoot,
    AllUseSigner,
    Event,
    Phase,
    RootStaged,
    after,
)
from spangate.errors import Broken, YourFault

ROOT_PREFIX, INTERMEDIATE_PREFIX = "root-", "intermediate-"
# Google's trust store takes three anchors. A rotation needs two; the third is left for what somebody else put there.
ROOTS_MAX = 2
# Of roots that were let go this many are remembered: years of rotations, and each is a line.
LET_GO_MAX = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Generation:
    """`number` counts from 1 and is never used again. Certificates in PEM, keys by their names in the keeper."""

    number: int
    root_pem: str
    root_key: str
    intermediate_pem: str
    intermediate_key: str

    @property
    def root(self) -> x509.Certificate:
        """The root certificate."""
        return _certificate(self.root_pem)

    @property
    def intermediate(self) -> x509.Certificate:
        """The intermediate's certificate."""
        return _certificate(self.intermediate_pem)

    @property
    def fingerprint(self) -> str:
        """The root's: SHA-256 of its DER, in hex."""
        return fingerprint(self.root)


@dataclass(frozen=True, slots=True)
class LetGo:
    """A root that is not trusted any more. `issuer`: the common name that stood in its leaves; `until`: the end of the
    last of them, after which nothing has to be refused by that name (aware, UTC).
    """

    number: int
    fingerprint: str
    issuer: str
    until: datetime


@dataclass(frozen=True, slots=True)
class AuthorityState:
    """`generations`: those whose roots are trusted, oldest first. `signing`: the number of the one that signs.

    `revision` counts the changes of what peers hold: bundle or signer. `staged`: the revision with which the newest
    root came to be trusted. `since`: when the phase began. `numbers`: how many generations there have ever been.
    `confirmed`: trust stores that somebody has said to be right in this phase.
    """

    trust_domain: str
    generations: tuple[Generation, ...]
    signing: int
    phase: Phase = Phase.STEADY
    revision: int = 1
    staged: int = 1
    since: datetime = _EPOCH
    numbers: int = 1
    let_go: tuple[LetGo, ...] = ()
    confirmed: frozenset[str] = frozenset()

    @property
    def signer(self) -> Generation:
        """The generation that signs."""
        return next(one for one in self.generations if one.number == self.signing)

    @property
    def newest(self) -> Generation:
        """The generation whose root came to be trusted last."""
        return self.generations[-1]

    @property
    def leaving(self) -> Generation | None:
        """The generation whose certificates are on their way out; None if there is none."""
        if self.phase not in REPLACING:
            return None
        return next(one for one in self.generations if one.number != self.signing)


class StateStore(Protocol):
    """Where the state is kept. Both are atomic and may raise SpangateError."""

    def load(self) -> AuthorityState | None:
        """The last state that was saved; None if there is none."""
        ...

    def save(self, state: AuthorityState) -> None:
        """From now on this state, also if the machine stops when this has returned."""
        ...

    def begun(self) -> bool:
        """Whether `begin` was ever called here."""
        ...

    def begin(self) -> None:
        """Notes that the keys of a first state are about to be made."""
        ...


def stepped(
    state: AuthorityState, event: Event, now: datetime, *, made: Generation | None = None, last_end: datetime = _EPOCH
) -> AuthorityState:
    """The state after `event`, checked. Raises IllegalStep.

    `made`: the new generation, for RootStaged. `last_end`: when the last leaf of what is let go will have ended.
    """
    following = replace(state, phase=after(state.phase, event), since=now, confirmed=frozenset())
    if isinstance(event, RootStaged):
        if made is None:
            raise Broken("a root is to be trusted that was not made")
        following = replace(
            following,
            generations=(*state.generations, made),
            numbers=made.number,
            revision=state.revision + 1,
            staged=state.revision + 1,
        )
    elif isinstance(event, AllTrustNewRoot):
        following = replace(following, signing=state.newest.number, revision=state.revision + 1)
    elif isinstance(event, AllUseSigner) or (isinstance(event, Abandoned) and state.phase is Phase.NEW_ROOT_TRUSTED):
        following = _without_others(following, last_end)
    elif isinstance(event, Abandoned):
        following = replace(following, signing=state.generations[0].number, revision=state.revision + 1)
    elif not isinstance(event, AllForgot):
        raise Broken(f"nobody knows what {type(event).__name__} does")
    return checked(following)


def confirmed(state: AuthorityState, name: str) -> AuthorityState:
    """Somebody says that the trust store `name` is as this phase wants it."""
    return replace(state, confirmed=state.confirmed | {name})


def checked(state: AuthorityState) -> AuthorityState:
    """`state`, if it can be one; else Broken, which is never saved."""
    numbers = [one.number for one in state.generations]
    roots = {one.fingerprint for one in state.generations}
    gone = {one.fingerprint for one in state.let_go}
    wanted = 2 if state.phase in OVERLAPPING else 1
    signs = {
        Phase.NEW_ROOT_TRUSTED: numbers[0],
        Phase.NEW_ROOT_SIGNS: numbers[-1],
        Phase.OLD_ROOT_SIGNS_AGAIN: numbers[0],
    }.get(state.phase, numbers[0])
    if len(numbers) != wanted or len(roots) != wanted or wanted > ROOTS_MAX:
        raise Broken(f"{len(numbers)} roots cannot be trusted in {state.phase.value}")
    if state.signing != signs:
        raise Broken(f"generation {state.signing} cannot sign in {state.phase.value}")
    if numbers != sorted(set(numbers)) or numbers[-1] > state.numbers:
        raise Broken("a generation's number is used twice")
    if roots & gone:
        raise Broken("a root that was let go is to be trusted again")
    return state


def leaving_issuers(state: AuthorityState) -> tuple[str, ...]:
    """The common names in certificates that are good but on their way out."""
    return () if state.leaving is None else (common_name(state.leaving.intermediate),)


def refused_issuers(state: AuthorityState, now: datetime) -> tuple[str, ...]:
    """The common names in certificates that are refused although they have not ended."""
    return tuple(one.issuer for one in state.let_go if one.until > now)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER, in hex: what names a root everywhere here."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` has signed it: by name and by signature, and nothing else."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def common_name(certificate: x509.Certificate) -> str:
    """The subject's common name, which every signing certificate of ours has."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        raise YourFault("a signing certificate has no common name, or several")
    return str(names[0].value)


def check_pairing(keeper: KeyKeeper, state: AuthorityState | None, *, begun: bool) -> None:
    """Raises YourFault if keys and state are not of one authority: its keys would be taken for left behind.

    `begun`: whether a first state was about to be made, and the making was interrupted.
    """
    names = keeper.names()
    if state is None:
        if names and not begun:
            raise YourFault(
                f"the keys of an authority are kept there (`{names[0]}`), and its state is not here",
                help="put its authority.sqlite back beside the intent, or name another place by --keys",
            )
    elif state.signer.intermediate_key not in names:
        raise YourFault(
            f"there is no key `{state.signer.intermediate_key}`, which the authority's state names",
            help="name the place where the keys of this authority are by --keys",
        )


def destroy_orphans(keeper: KeyKeeper, state: AuthorityState | None) -> None:
    """Forgets the keys of roots and intermediates that `state` does not name."""
    generations = state.generations if state else ()
    named = {name for one in generations for name in (one.root_key, one.intermediate_key)}
    for name in keeper.names():
        if name.startswith((ROOT_PREFIX, INTERMEDIATE_PREFIX)) and name not in named:
            keeper.destroy(name)


def _without_others(state: AuthorityState, last_end: datetime) -> AuthorityState:
    """The signer's root alone is trusted; those that are let go are remembered."""
    gone = tuple(
        LetGo(one.number, one.fingerprint, common_name(one.intermediate), last_end)
        for one in state.generations
        if one.number != state.signing
    )
    return replace(
        state,
        generations=(state.signer,),
        revision=state.revision + 1,
        let_go=(*state.let_go, *gone)[-LET_GO_MAX:],
    )


def _certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode("ascii"))
    except ValueError:
        raise YourFault("the authority's state holds a certificate that cannot be read") from None
