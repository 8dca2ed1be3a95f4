"""What an authority is made of, so that it can be put down and taken up again: roots, intermediates, who signs.

Rules: a generation is a root and the intermediate that it has signed; their keys are in the keeper under the names that
stand here. All roots of a state are trusted; the intermediate of one generation signs. A state is replaced as a whole,
and only after every key in it is kept: whatever interrupts, the state before is still whole. Keys that no state names
were left behind by an interruption, and are destroyed.
Not here: making certificates (ca.py), keeping states (adapters/authority_store.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cryptography import x509

from spangate.authority.keeper import KeyKeeper
from spangate.errors import YourFault

ROOT_PREFIX, INTERMEDIATE_PREFIX = "root-", "intermediate-"


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


@dataclass(frozen=True, slots=True)
class AuthorityState:
    """`generations`: those whose roots are trusted, oldest first. `signing`: the number of the one that signs."""

    trust_domain: str
    generations: tuple[Generation, ...]
    signing: int

    @property
    def signer(self) -> Generation:
        """The generation that signs."""
        return next(one for one in self.generations if one.number == self.signing)


class StateStore(Protocol):
    """Where the state is kept. Both are atomic and may raise SpangateError."""

    def load(self) -> AuthorityState | None:
        """The last state that was saved; None if there is none."""
        ...

    def save(self, state: AuthorityState) -> None:
        """From now on this state, also if the machine stops when this has returned."""
        ...


def destroy_orphans(keeper: KeyKeeper, state: AuthorityState | None) -> None:
    """Forgets the keys of roots and intermediates that `state` does not name."""
    generations = state.generations if state else ()
    named = {name for one in generations for name in (one.root_key, one.intermediate_key)}
    for name in keeper.names():
        if name.startswith((ROOT_PREFIX, INTERMEDIATE_PREFIX)) and name not in named:
            keeper.destroy(name)


def _certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode("ascii"))
    except ValueError:
        raise YourFault("the authority's state holds a certificate that cannot be read") from None
