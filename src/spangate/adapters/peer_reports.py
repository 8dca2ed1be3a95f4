"""Tells the authority what an Envoy or a door of ours holds, and does what it answers: take the bundle, or replace the
certificate.

Rules: what is reported is what has been taken into use. The authority's question and the change that follows are one
turn with every other change of the certificate (SecretSource.changing). A bundle under which the certificate in use
would be nobody's is not taken; a new certificate brings its own. Who has no certificate of the authority's (a gateway
that shows a mesh's) takes the bundle as it comes. An authority that is away is asked again; nothing is
changed meanwhile.
Not here: what the authority concludes (authority/gate.py), renewing in time (renewer.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from spangate.adapters.holdings import Holding, holding, leads_to
from spangate.adapters.sds_door import InUse, SecretSource
from spangate.errors import SpangateError

# Before the first answer, and when there is none: the authority is back from a restart within this.
AGAIN_SECONDS = 1.0
# The authority's own bounds (authority/peers.py) and some room.
AGAIN_SECONDS_MIN, AGAIN_SECONDS_MAX = 0.2, 120.0
# A restart of the authority is not worth a word; this many reports in vain are.
FAILURES_UNTOLD = 15


@dataclass(frozen=True, slots=True)
class Answer:
    """What the authority wants: a new certificate at once; this bundle (PEM), if it is another; the next report."""

    renew: bool
    bundle_pem: str | None
    again_seconds: float


class Uses(Protocol):
    """Knows what is in use."""

    def in_use(self) -> InUse:
        """What that is at this moment."""
        ...


class Reporter:
    """From `start` to `stop`, in a thread of its own. `report` asks the authority and may raise SpangateError."""

    def __init__(
        self,
        source: SecretSource,
        taken: Uses,
        report: Callable[[Holding], Answer],
        renew: Callable[[], None],
        *,
        problem: Callable[[str], None],
    ) -> None:
        self._source = source
        self._taken = taken
        self._report = report
        self._renew = renew
        self._problem = problem
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spangate-reporter", daemon=True)

    def start(self) -> None:
        """The first report follows at once."""
        self._thread.start()

    def stop(self) -> None:
        """At most one report that is under way is waited for. Safe to call twice."""
        self._stopping.set()
        self._thread.join()

    def once(self) -> float:
        """One report, and what follows from it; the seconds until the next. Raises what `report` raises."""
        with self._source.changing:
            answer = self._report(holding(self._taken.in_use()))
            current = self._source.current()
            if answer.bundle_pem is not None and current is not None and answer.bundle_pem != current.bundle_pem:
                if not current.chain_pem or leads_to(current.chain_pem, answer.bundle_pem):
                    self._source.replace(replace(current, bundle_pem=answer.bundle_pem))
                else:
                    self._renew()
            # What Envoy uses may be older than what it will take next.
            if answer.renew and self._taken.in_use().certificate_is(current):
                self._renew()
        return min(max(answer.again_seconds, AGAIN_SECONDS_MIN), AGAIN_SECONDS_MAX)

    def _run(self) -> None:
        failures, pause = 0, 0.0
        while not self._stopping.wait(pause):
            try:
                pause = self.once()
                failures = 0
            # The thread must outlive any defect: a peer that falls silent holds a rotation up.
            except Exception as error:  # noqa: BLE001
                failures, pause = failures + 1, AGAIN_SECONDS
                if failures == FAILURES_UNTOLD or not isinstance(error, SpangateError):
                    self._problem(f"cannot tell the authority which certificate is in use: {error}")
