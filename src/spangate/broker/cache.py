"""Which tokens are held, which are asked for next, and what an asker gets: a state machine without a clock.

Rules:
- A token is handed out only to the identity that it was granted to, and never with less than LEFT_SECONDS_MIN to go.
- At most one exchange is under way for an identity, at most IN_FLIGHT_MAX for all, and no more are begun than
  EXCHANGE_RATE_MAX allow: ten thousand workloads that start at once are served in turn.
- A token that is in use is renewed ahead of time, at a moment that differs from token to token; meanwhile, and if that
  fails, the old one is handed out as long as it is good.
- What was refused is not asked again for a while that grows; so is what Google could not answer. Where Google asks for
  patience, everybody waits.
- No more than IDENTITIES_MAX are known; who has not asked for longest is forgotten first.
Time is seconds of a clock that is never set back; randomness is a function that gives numbers in [0, 1).
Not here: asking Google, threads and clocks (adapters/token_broker.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import islice

from spangate.broker.answers import Grant
from spangate.broker.diagnosis import GoogleAway
from spangate.errors import Broken, SpangateError, TryAgain
from spangate.model.identity import SpiffeId

# A request needs its token while it travels, and clocks differ by some seconds.
LEFT_SECONDS_MIN = 30.0
# Google's libraries take a token with less than 225 s left for stale and ask again for every call. So it is renewed
# while there is more than that left, with time for some attempts.
RENEWAL_LEFT_SECONDS = 400.0
# Never earlier than at half of its life: a short token must not be asked for again and again.
RENEWAL_SHARE_MIN = 0.5
# Of a token's life is used before it is renewed, where RENEWAL_LEFT_SECONDS does not say less: an outage of Google of a
# quarter of an hour then goes unnoticed with tokens of one hour.
RENEWAL_SHARE_MAX = 0.75
# The moment of renewal comes earlier by up to this share, differently for each token: those that were granted together
# are not renewed together.
RENEWAL_JITTER = 0.15

# Exchanges in a second. Google's quota is 6,000 a minute for a project; half of it is left to others.
EXCHANGE_RATE_MAX = 50
# What may be begun at once after a pause; also what a second may exceed the rate by.
BURST_MAX = 50
# An exchange takes some 200 ms, an impersonation as long: this is enough for the rate above.
IN_FLIGHT_MAX = 24
# The storm of ten thousand fits in. With tokens of 1 to 2 KiB that is 25 MiB.
IDENTITIES_MAX = 12_000

# First pause after a failure; it doubles with each one. A person who mends a role binding does not wait long for the
# effect, and a defect that stays costs Google one call a minute.
PAUSE_SECONDS_MIN = 1.0
PAUSE_SECONDS_MAX = 60.0
# A pause that Google asks for is kept up to this.
RETRY_AFTER_SECONDS_MAX = 300.0
# 60 s at the latest from the sixth doubling; more need not be counted.
_FAILURES_MAX = 10
# How many of those who have not asked for longest are looked at for one that can be forgotten.
_LOOKED_AT_MAX = 64


class _Urgency(IntEnum):
    """How much an identity needs an exchange."""

    NONE = 0
    RENEWAL = 1
    WAITED_FOR = 2


@dataclass(frozen=True, slots=True)
class Held:
    """A token of `identity` that ends at `ends`, in seconds of the caller's clock."""

    text: str = field(repr=False)
    identity: SpiffeId
    ends: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """There is none yet; one is being asked for."""


@dataclass(frozen=True, slots=True)
class Refused:
    """There is none, and none is asked for before `until`."""

    error: SpangateError
    until: float


Answer = Held | Waiting | Refused


@dataclass(slots=True)
class _Entry:
    held: Held | None = None
    renew_at: float = 0.0
    in_flight: bool = False
    # What is under way was begun under a policy that is gone: its result counts for nothing.
    outdated: bool = False
    queued: _Urgency = _Urgency.NONE
    # Asked for since the token came: only what is in use is renewed.
    used: bool = False
    failures: int = 0
    error: SpangateError | None = None
    pause_until: float = 0.0


class TokenCache:
    """See above. One thread at a time may use it."""

    def __init__(self, random: Callable[[], float], *, identities_max: int = IDENTITIES_MAX) -> None:
        self._random = random
        self._identities_max = identities_max
        # By use: the first has not been asked for longest.
        self._entries: OrderedDict[SpiffeId, _Entry] = OrderedDict()
        # In the order in which they came; a dict is a set with an order.
        self._queues: dict[_Urgency, dict[SpiffeId, None]] = {_Urgency.WAITED_FOR: {}, _Urgency.RENEWAL: {}}
        self._in_flight = 0
        self._budget: float = BURST_MAX
        self._budget_at: float | None = None
        self._patience: Refused | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def in_flight(self) -> int:
        """Exchanges that have been begun and not finished."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """Exchanges that wait for their turn."""
        return sum(len(queue) for queue in self._queues.values())

    def ask(self, identity: SpiffeId, now: float) -> Answer:
        """What `identity` gets now. After Waiting, the caller begins what `begin` says."""
        entry = self._entries.get(identity)
        if entry is None:
            if not self._make_room():
                return Refused(TryAgain("too many identities wait for their tokens at once"), now + PAUSE_SECONDS_MIN)
            entry = self._entries[identity] = _Entry()
        self._entries.move_to_end(identity)
        entry.used = True
        if entry.held is not None and now < entry.held.ends - LEFT_SECONDS_MIN:
            if now >= max(entry.renew_at, entry.pause_until):
                self._queue(identity, entry, _Urgency.RENEWAL)
            return entry.held
        entry.held = None
        if not entry.in_flight:
            if entry.error is not None and now < entry.pause_until:
                return Refused(entry.error, entry.pause_until)
            if self._patience is not None and now < self._patience.until:
                return self._patience
        self._queue(identity, entry, _Urgency.WAITED_FOR)
        return Waiting()

    def tend(self, now: float) -> None:
        """Queues what is in use and due, and forgets what has ended. It walks over all: every second or so."""
        over: list[SpiffeId] = []
        for identity, entry in self._entries.items():
            if entry.held is not None and now >= entry.held.ends:
                entry.held = None
            if entry.held is not None:
                if entry.used and now >= max(entry.renew_at, entry.pause_until):
                    self._queue(identity, entry, _Urgency.RENEWAL)
            elif not entry.in_flight and entry.queued is not _Urgency.WAITED_FOR and now >= entry.pause_until:
                over.append(identity)
        for identity in over:
            self._drop(identity)

    def begin(self, now: float) -> list[SpiffeId]:
        """The identities whose exchange begins now; each is told to `granted` or `failed` afterwards."""
        begun: list[SpiffeId] = []
        if self._patience is not None and now < self._patience.until:
            return begun
        since = 0.0 if self._budget_at is None else max(0.0, now - self._budget_at)
        self._budget = min(BURST_MAX, self._budget + since * EXCHANGE_RATE_MAX)
        self._budget_at = now
        for queue in self._queues.values():
            while queue and self._budget >= 1 and self._in_flight < IN_FLIGHT_MAX:
                identity = next(iter(queue))
                del queue[identity]
                entry = self._entries[identity]
                entry.queued, entry.in_flight, entry.outdated = _Urgency.NONE, True, False
                self._in_flight += 1
                self._budget -= 1
                begun.append(identity)
        return begun

    def granted(self, identity: SpiffeId, grant: Grant, now: float) -> Held | None:
        """The exchange of `identity` gave `grant`, whose answer came at `now`; what whoever waited gets.

        None: it is of a policy that is gone, and another exchange has to be waited for.
        """
        entry, counts = self._finished(identity)
        if not counts:
            return None
        usable = min(RENEWAL_SHARE_MAX * grant.seconds, grant.seconds - RENEWAL_LEFT_SECONDS)
        usable = max(RENEWAL_SHARE_MIN * grant.seconds, usable)
        entry.held = Held(grant.text, identity, now + grant.seconds)
        entry.renew_at = now + usable * (1 - RENEWAL_JITTER * self._random())
        entry.used, entry.failures, entry.error, entry.pause_until = False, 0, None, 0.0
        return entry.held

    def failed(self, identity: SpiffeId, error: SpangateError, now: float) -> Refused | None:
        """The exchange of `identity` failed at `now`; what whoever waited gets. None as of `granted`."""
        asked = error.retry_after_seconds if isinstance(error, GoogleAway) else None
        if asked is not None:
            until = now + min(max(asked, 0.0), RETRY_AFTER_SECONDS_MAX)
            if self._patience is None or self._patience.until < until:
                self._patience = Refused(error, until)
        entry, counts = self._finished(identity)
        if not counts:
            return None
        pause = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN * 2**entry.failures)
        # Between half and all of it, so that what failed together is not tried together.
        pause *= 1 - 0.5 * self._random()
        entry.failures = min(entry.failures + 1, _FAILURES_MAX)
        entry.error = error
        entry.pause_until = now + pause
        return Refused(error, entry.pause_until)

    def forget(self, identities: Iterable[SpiffeId]) -> None:
        """Nothing that is known of `identities` holds any more; what is under way for them counts for nothing."""
        for identity in identities:
            entry = self._entries.get(identity)
            if entry is None:
                continue
            if entry.in_flight:
                # Kept, so that no second exchange begins beside the one that is under way.
                waited_for = entry.queued is _Urgency.WAITED_FOR or entry.held is None
                self._entries[identity] = _Entry(in_flight=True, outdated=True)
                if waited_for:
                    self._entries[identity].queued = _Urgency.WAITED_FOR
            elif entry.queued is _Urgency.WAITED_FOR:
                self._entries[identity] = _Entry(queued=_Urgency.WAITED_FOR)
            else:
                self._drop(identity)

    def identities(self) -> tuple[SpiffeId, ...]:
        """All that something is known of."""
        return tuple(self._entries)

    def _queue(self, identity: SpiffeId, entry: _Entry, urgency: _Urgency) -> None:
        if entry.in_flight:
            # Whoever waits gets what is under way; unless that is outdated: then another one comes after it.
            if entry.outdated:
                entry.queued = max(entry.queued, urgency)
            return
        if urgency <= entry.queued:
            return
        if entry.queued is not _Urgency.NONE:
            self._queues[entry.queued].pop(identity, None)
        entry.queued = urgency
        self._queues[urgency][identity] = None

    def _finished(self, identity: SpiffeId) -> tuple[_Entry, bool]:
        """The entry, and whether what is told of it counts."""
        entry = self._entries[identity]
        if not entry.in_flight:
            raise Broken("an exchange ended that had not begun")
        self._in_flight -= 1
        counts = not entry.outdated
        entry.in_flight = entry.outdated = False
        if entry.queued is not _Urgency.NONE:
            urgency, entry.queued = entry.queued, _Urgency.NONE
            self._queue(identity, entry, urgency)
        return entry, counts

    def _make_room(self) -> bool:
        """Whether there is room for one more, by forgetting one that nobody waits for if need be."""
        if len(self._entries) < self._identities_max:
            return True
        for identity in islice(self._entries, _LOOKED_AT_MAX):
            entry = self._entries[identity]
            if not entry.in_flight and entry.queued is not _Urgency.WAITED_FOR:
                self._drop(identity)
                return True
        return False

    def _drop(self, identity: SpiffeId) -> None:
        entry = self._entries.pop(identity)
        if entry.queued is not _Urgency.NONE:
            self._queues[entry.queued].pop(identity, None)
