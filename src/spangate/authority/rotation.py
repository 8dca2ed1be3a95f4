"""Root rotation: which step may follow which.

    STEADY ──RootStaged──> NEW_ROOT_TRUSTED ──AllTrustNewRoot──> NEW_ROOT_SIGNS ──AllUseSigner──> OLD_ROOT_RETIRED
       ^                        │                                    │                              │
       │                    Abandoned                            Abandoned                     AllForgot
       │                        v                                    v                              │
       ├──AllForgot── NEW_ROOT_DROPPED <──AllUseSigner── OLD_ROOT_SIGNS_AGAIN                        │
       └────────────────────────────────────────────────────────────────────────────────────────────┘

Rules: every transition stands in TRANSITIONS; no I/O, no clock; an illegal step raises and changes nothing. Whoever
signs is trusted by everybody in every phase: a root is trusted before it signs, and stays so until nobody uses what it
signed. Turning back is therefore safe as long as the old root has not been retired, and a step of its own.
Not here: what a step does to the state (generations.py), what must have been seen before one (gate.py), doing it
(rotator.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from spangate.errors import YourFault


class Phase(Enum):
    """Where a rotation stands. The value is what is kept and shown."""

    # One root, which everybody trusts and uses.
    STEADY = "STEADY"
    # Two roots are trusted; the old one signs.
    NEW_ROOT_TRUSTED = "NEW_ROOT_TRUSTED"
    # Two roots are trusted; the new one signs.
    NEW_ROOT_SIGNS = "NEW_ROOT_SIGNS"
    # The new root alone is trusted; not everybody has been seen to know it.
    OLD_ROOT_RETIRED = "OLD_ROOT_RETIRED"
    # Turned back after the new root had signed: two roots are trusted; the old one signs.
    OLD_ROOT_SIGNS_AGAIN = "OLD_ROOT_SIGNS_AGAIN"
    # Turned back: the old root alone is trusted; not everybody has been seen to know it.
    NEW_ROOT_DROPPED = "NEW_ROOT_DROPPED"


class Event:
    """What moves a rotation on."""


@dataclass(frozen=True, slots=True)
class RootStaged(Event):
    """A new root has been made, and is to be trusted."""


@dataclass(frozen=True, slots=True)
class AllTrustNewRoot(Event):
    """Every peer has been seen to trust the new root."""


@dataclass(frozen=True, slots=True)
class AllUseSigner(Event):
    """Every peer has been seen to use a certificate under the root that signs; no other one is left."""


@dataclass(frozen=True, slots=True)
class AllForgot(Event):
    """No peer trusts the root any more that is not to be trusted."""


@dataclass(frozen=True, slots=True)
class Abandoned(Event):
    """Somebody wants the old root back."""


TRANSITIONS: Mapping[Phase, Mapping[type[Event], Phase]] = {
    Phase.STEADY: {RootStaged: Phase.NEW_ROOT_TRUSTED},
    Phase.NEW_ROOT_TRUSTED: {AllTrustNewRoot: Phase.NEW_ROOT_SIGNS, Abandoned: Phase.NEW_ROOT_DROPPED},
    Phase.NEW_ROOT_SIGNS: {AllUseSigner: Phase.OLD_ROOT_RETIRED, Abandoned: Phase.OLD_ROOT_SIGNS_AGAIN},
    Phase.OLD_ROOT_SIGNS_AGAIN: {AllUseSigner: Phase.NEW_ROOT_DROPPED},
    Phase.OLD_ROOT_RETIRED: {AllForgot: Phase.STEADY},
    Phase.NEW_ROOT_DROPPED: {AllForgot: Phase.STEADY},
}

# The event that a phase waits for, measured by a gate. STEADY waits for nobody.
AWAITED: Mapping[Phase, Event] = {
    Phase.NEW_ROOT_TRUSTED: AllTrustNewRoot(),
    Phase.NEW_ROOT_SIGNS: AllUseSigner(),
    Phase.OLD_ROOT_SIGNS_AGAIN: AllUseSigner(),
    Phase.OLD_ROOT_RETIRED: AllForgot(),
    Phase.NEW_ROOT_DROPPED: AllForgot(),
}

# In these, certificates of the root that does not sign are on their way out.
REPLACING = frozenset({Phase.NEW_ROOT_SIGNS, Phase.OLD_ROOT_SIGNS_AGAIN})
# In these, two roots are trusted.
OVERLAPPING = REPLACING | {Phase.NEW_ROOT_TRUSTED}


class IllegalStep(YourFault):
    """This may not follow now; the message says what may."""


def after(phase: Phase, event: Event) -> Phase:
    """The phase that `event` leads to. Raises IllegalStep."""
    following = TRANSITIONS[phase].get(type(event))
    if following is not None:
        return following
    if isinstance(event, RootStaged):
        raise IllegalStep(
            f"a rotation is under way ({phase.value})", help="see `spangate rotate --status`, or turn back: --abandon"
        )
    if isinstance(event, Abandoned):
        raise IllegalStep(
            "no rotation is under way" if phase is Phase.STEADY else f"it is too late to turn back ({phase.value})",
            help=None if phase is Phase.STEADY else "let this rotation end, then start another one",
        )
    raise IllegalStep(f"{type(event).__name__} cannot follow in {phase.value}")
