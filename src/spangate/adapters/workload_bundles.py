"""The trust bundles and token keys that the Workload API gives, and who waits for news of them.

Rules: whoever asks is given what holds now, or less than a look ago; the authority is asked once for all who come
meanwhile. A change reaches every stream of bundles, and whoever else is to be told.
Not here: certificates, which carry bundles, too (workload_supply.py), messages (authority/workload_api.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from spangate.adapters.grpc_connection import Call
from spangate.authority.workload_api import Bundles, Method, fingerprints, jwt_bundles_answer, x509_bundles_answer
from spangate.errors import SpangateError


class BundleNews:
    """All but the constructor runs on one event loop."""

    def __init__(
        self, ask: Callable[[], Awaitable[Bundles]], changed: Callable[[Bundles], None], look_seconds: float
    ) -> None:
        """`ask`: the authority, which may raise SpangateError. `changed` is told of others than before."""
        self._ask = ask
        self._changed = changed
        self._look_seconds = look_seconds
        self._last: Bundles | None = None
        self._fresh_until = 0.0
        self._asking: asyncio.Future[Bundles] | None = None
        # Fingerprints of the roots of each trust domain.
        self._roots: dict[str, frozenset[str]] = {}
        # Streams by method, and what is known to answer them with.
        self._streams: dict[Method, set[Call]] = {Method.X509_BUNDLES: set(), Method.JWT_BUNDLES: set()}
        self._answers: dict[Method, bytes] = {}

    @property
    def last(self) -> Bundles | None:
        """Those that were known last, if any were."""
        return self._last

    @property
    def fresh(self) -> Bundles | None:
        """Those of the last look, if that was just now."""
        return self._last if asyncio.get_running_loop().time() < self._fresh_until else None

    async def known(self) -> Bundles:
        """Those of now, or of less than a look ago: who asks once is not told of a change later. Those of before while
        the authority does not answer.
        """
        if (fresh := self.fresh) is not None:
            return fresh
        try:
            return await self.look()
        except SpangateError:
            if self._last is None:
                raise
            return self._last

    async def look(self) -> Bundles:
        """Those of now. Raises what asking raises."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._look())
        asking = self._asking
        try:
            return await asyncio.shield(asking)
        finally:
            if asking.done() and self._asking is asking:
                self._asking = None

    def wait(self, call: Call) -> None:
        """Gives those that are known, and what comes in their place."""
        self._streams[call.method].add(call)
        call.send(self._answers[call.method])

    def ended(self, call: Call) -> None:
        """It waits for nothing any more."""
        for streams in self._streams.values():
            streams.discard(call)

    def all_told(self) -> bool:
        """Whether anybody waits for roots, and has been given the latest."""
        streams = self._streams[Method.X509_BUNDLES]
        return bool(streams) and all(call.delivered for call in streams)

    def roots(self, trust_domain: str) -> frozenset[str]:
        """The fingerprints of its roots."""
        if trust_domain not in self._roots:
            pem = self._last.x509_pem.get(trust_domain) if self._last else None
            self._roots[trust_domain] = fingerprints(pem) if pem else frozenset()
        return self._roots[trust_domain]

    async def _look(self) -> Bundles:
        loop = asyncio.get_running_loop()
        # Also if it fails: an authority that is away is asked once in a look, and not by everybody who comes.
        self._fresh_until = loop.time() + self._look_seconds
        bundles = await self._ask()
        self._fresh_until = loop.time() + self._look_seconds
        if bundles == self._last:
            return bundles
        self._last, self._roots = bundles, {}
        self._answers = {
            Method.X509_BUNDLES: x509_bundles_answer(bundles),
            Method.JWT_BUNDLES: jwt_bundles_answer(bundles),
        }
        for method, streams in self._streams.items():
            for call in tuple(streams):
                call.send(self._answers[method])
        self._changed(bundles)
        return bundles
