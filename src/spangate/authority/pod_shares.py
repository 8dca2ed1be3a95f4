"""What one pod may take of what all pods share: names under which its programs report, and how often it is given
certificates and tokens.

Rules: what is given is written down, and what may still be in use is looked through at each step of a rotation; so
neither may grow as fast as one workload likes. A name is taken until its program says goodbye, or has not been heard of
for as long as a certificate may live. Lost with the process, as everything that peers report.
Not here: whose pod it is (kubernetes_token.py), how a name is made (adapters/pod_reports.py).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from spangate.authority.template import SVID_LIFETIME_MAX
from spangate.errors import TryAgain

# A command with a Workload API has three at most; a pod has a few containers, and each start makes new ones.
NAMES_OF_POD_MAX = 32
# Certificates and tokens: a program that asks for a token now and then, or for many when it starts. Each costs two rows
# on the disk, for a month.
GIVEN_AT_ONCE_MAX = 300
GIVEN_EVERY = timedelta(seconds=1)
# Of a large cluster; each costs a few hundred bytes here, and each of its names as many.
PODS_MAX = 50_000


@dataclass(slots=True)
class _Pod:
    """`names`: when each was used last. `due`: when everything that was given will have been made up for."""

    due: datetime
    names: dict[str, datetime] = field(default_factory=dict)

    def idle(self, now: datetime) -> bool:
        """Whether nothing would be lost with it."""
        for name in [one for one, used in self.names.items() if now - used > SVID_LIFETIME_MAX]:
            del self.names[name]
        return not self.names and self.due <= now


class PodShares:
    """Any thread may use it, if `lock` is one for threads. `now`: aware, in UTC."""

    def __init__(self, now: Callable[[], datetime], lock: AbstractContextManager[object]) -> None:
        self._now = now
        self._lock = lock
        self._pods: dict[str, _Pod] = {}

    def takes_name(self, pod: str, name: str) -> bool:
        """Whether a program of `pod` may use that name: it does already, or there is room. Raises TryAgain."""
        with self._lock:
            now = self._now()
            found = self._pod(pod, now)
            if name not in found.names and len(found.names) >= NAMES_OF_POD_MAX:
                found.idle(now)
                if len(found.names) >= NAMES_OF_POD_MAX:
                    return False
            found.names[name] = now
            return True

    def gone(self, pod: str, name: str) -> None:
        """The program has ended."""
        with self._lock:
            if pod in self._pods:
                self._pods[pod].names.pop(name, None)

    def give(self, pod: str) -> None:
        """Counts a certificate or token. Raises TryAgain when `pod` has been given as many as it may."""
        with self._lock:
            now = self._now()
            found = self._pod(pod, now)
            latest = now + GIVEN_AT_ONCE_MAX * GIVEN_EVERY
            # A clock that was set back costs nobody more than the share itself.
            found.due = min(max(found.due, now), latest)
            if found.due + GIVEN_EVERY > latest:
                raise TryAgain(
                    f"this pod was given {GIVEN_AT_ONCE_MAX} certificates and tokens at once; from now on one each "
                    f"{GIVEN_EVERY.total_seconds():g} s",
                    help="use each of them until it is about to end",
                )
            found.due += GIVEN_EVERY

    def _pod(self, pod: str, now: datetime) -> _Pod:
        found = self._pods.get(pod)
        if found is None:
            if len(self._pods) >= PODS_MAX:
                self._pods = {name: one for name, one in self._pods.items() if not one.idle(now)}
            if len(self._pods) >= PODS_MAX:
                raise TryAgain(f"more than {PODS_MAX} pods have been here within the hour")
            found = self._pods[pod] = _Pod(now)
        return found
