"""Engine (c), the Lua filter under LuaJIT, in a fake Envoy, with the real checkpoint behind it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from conformance.engines.common import Door, Records, Result, policy_of, result_of
from fakes.clock import FakeClock
from fakes.envoy import Call, Reply, Tls, Worker
from spangate.adapters.analysers import AnalyserPool
from spangate.checkpoint.service import Checkpoint


class Failed(AssertionError):
    """The filter ended with an error: Envoy would send such a request on to the guard."""


class Lua:
    """One worker; its decisions are remembered from request to request, as in Envoy."""

    name = "lua"

    def __init__(self, analysers: AnalyserPool, plain: Mapping[str, Any], now: datetime) -> None:
        self._analysers = analysers
        self._clock = FakeClock(now)
        self.records = Records()
        self.checkpoint = Checkpoint(policy_of(plain), analysers, self.records, self._clock)
        self._door = Door(self.checkpoint)
        self.worker = Worker(now_ms=int(now.timestamp() * 1000))

    def close(self) -> None:
        self._door.close()

    def replace(self, plain: Mapping[str, Any], now: datetime) -> None:
        """Another policy and another time, as if the half second had passed that a worker may take to see it."""
        self._clock.set(now)
        self.checkpoint.replace(policy_of(plain))
        self.worker.now_ms = max(self.worker.now_ms + 1000, int(now.timestamp() * 1000))

    def judge(self, identity: str | None, path: str, body: bytes) -> Result:
        far = self.worker.now_ms // 1000 + 10**6
        tls = Tls(presented=identity is not None, uris=((identity or "").encode(),), expires=far)
        stream = self.worker.send(path.encode(), body, self._answer, tls=tls)
        if stream.failed:
            raise Failed(stream.log)
        if stream.refusal is None:
            assert stream.admitted
            number = stream.metadata[b"allow"].decode().split(" ")[0]
            return result_of(self.records.by_id[number], stream.body)
        assert b"allow" not in stream.metadata
        assert not stream.admitted
        reason, _, number = stream.refusal[1].decode().partition(" ")
        if reason == "filter-failed":
            raise Failed(stream.log)
        if number:
            found = result_of(self.records.by_id[number], status=int(stream.refusal[0]))
            assert found.reason == reason
            return found
        return Result(reason)

    def _answer(self, call: Call) -> Reply:
        method, path = call.headers[b":method"].decode(), call.path.decode()
        headers = {name: value for name, value in call.headers.items() if not name.startswith(b":")}
        status, found, content = self._door.exchange(method, path, headers, call.body or b"")
        return Reply({b":status": str(status).encode(), **found}, content)
