"""Keeps a certificate fresh: a thread that fetches the next one long before the current one ends.

Rules: renew when half of the life that was left at issue has passed, give or take a tenth, so that workloads started
together do not renew together. A failure is reported and tried again with growing pauses, never given up. Time is the
wall clock, looked at every few seconds: a machine that slept renews right after waking up.
Not here: how a certificate is got (svid_client.py), how Envoy gets it (sds_door.py).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from spangate.adapters.sds_door import SecretSource
from spangate.adapters.svid_client import Svid
from spangate.errors import Broken, SpangateError

RENEW_AT_FRACTION = 0.5
JITTER_FRACTION = 0.1
_RANDOM = random.SystemRandom()
# Pauses after a failure: quick while it may be a restart, slow while it is an outage.
RETRY_SECONDS_MIN = 1.0
RETRY_SECONDS_MAX = 60.0
# However short a life or wrong a clock, no busy loop.
PAUSE_SECONDS_MIN = 0.5
# How late a jump of the wall clock, or the end of a sleep, is noticed.
LOOK_SECONDS = 5.0


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Now, aware, in UTC."""


class Renewer:
    """Fills `source` from `fetch`, first in `start` and then in time, until `stop`.

    `problem` gets one sentence for each failed renewal, from the renewer's thread. `jitter` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        fetch: Callable[[], Svid],
        source: SecretSource,
        *,
        clock: Clock,
        problem: Callable[[str], None],
        jitter: Callable[[], float] = _RANDOM.random,
    ) -> None:
        self._fetch = fetch
        self._source = source
        self._clock = clock
        self._problem = problem
        self._jitter = jitter
        self._stopping = threading.Event()
        self._asked = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Svid:
        """The first certificate, in place when this returns; raises what `fetch` raises. Then renews by itself."""
        if self._thread is not None:
            raise Broken("the renewer is started twice")
        svid = self._renewed()
        self._thread = threading.Thread(target=self._run, args=(svid,), name="spangate-renewer", daemon=True)
        self._thread.start()
        return svid

    def renew_now(self) -> None:
        """The authority says that the certificate has to be replaced before its time."""
        self._asked.set()

    def stop(self) -> None:
        """Ends the thread; at most one fetch that is under way is waited for. Safe to call twice."""
        self._stopping.set()
        self._asked.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, svid: Svid) -> None:
        failures = 0
        due = renew_at(self._clock.now(), svid.not_after, self._jitter())
        while self._wait_until(due):
            self._asked.clear()
            try:
                svid = self._renewed()
            # The thread must outlive any defect: were it to die, the workload would stop an hour later, unexplained.
            except Exception as e:  # noqa: BLE001
                failures += 1
                now = self._clock.now()
                why = e.in_one_line if isinstance(e, SpangateError) else str(e) or type(e).__name__
                self._problem(_sentence(svid, now, why))
                due = now + timedelta(seconds=retry_after(failures, self._jitter()))
                continue
            failures = 0
            due = renew_at(self._clock.now(), svid.not_after, self._jitter())

    def _renewed(self) -> Svid:
        with self._source.changing:
            svid = self._fetch()
            self._source.replace(svid.secrets)
            return svid

    def _wait_until(self, due: datetime) -> bool:
        """True at `due` by the wall clock, or when somebody asks for it; False when stopping."""
        if self._stopping.wait(PAUSE_SECONDS_MIN):
            return False
        while (left := (due - self._clock.now()).total_seconds()) > 0:
            if self._asked.wait(min(left, LOOK_SECONDS)):
                break
        return not self._stopping.is_set()


def renew_at(now: datetime, not_after: datetime, jitter: float) -> datetime:
    """When to fetch the next one: about halfway to the end; at once if the end has passed. `jitter` is 0 to 1."""
    fraction = RENEW_AT_FRACTION + JITTER_FRACTION * (2 * jitter - 1)
    return max(now, now + (not_after - now) * fraction)


def retry_after(failures: int, jitter: float) -> float:
    """Seconds to pause after that many failures in a row: doubling, bounded, spread over the upper half."""
    # The exponent is bounded too: a float has no room for 2 ** 2000, and an outage may be long.
    pause: float = min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2.0 ** min(failures - 1, 10))
    return pause * (0.5 + 0.5 * jitter)


def _sentence(svid: Svid, now: datetime, message: str) -> str:
    left = (svid.not_after - now).total_seconds()
    state = f"ends in {left:.0f} s" if left > 0 else "has ended"
    return f"cannot renew the certificate of `{svid.identity}`, which {state}: {message}"
