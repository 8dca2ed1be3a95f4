"""A broker that gives tokens to the filter, or not, and counts; behind it a checkpoint for all other questions."""

from __future__ import annotations

from dataclasses import dataclass, field

from fakes.checkpoint import AWAY, FakeCheckpoint
from fakes.envoy import Call, Reply

WITH_TOKEN = {b"x-spangate-broker": b"1"}
REFUSED = Reply({b":status": b"403", b"x-spangate-message": b"no binding; run this"}, b'{"error": "no binding"}')


@dataclass
class FakeBroker:
    """Its tokens name the identity and count up; `reply` overrides."""

    checkpoint: FakeCheckpoint = field(default_factory=lambda: FakeCheckpoint(more=dict(WITH_TOKEN)))
    ttl_ms: int = 3_600_000
    reply: Reply | None = None
    asked: list[bytes] = field(default_factory=list)
    timeouts_ms: list[float] = field(default_factory=list)

    def __call__(self, call: Call) -> Reply:
        return self.answer(call) if call.path == b"/authorize" else self.checkpoint(call)

    def answer(self, call: Call) -> Reply:
        assert call.headers[b":method"] == b"POST"
        assert call.body is None
        identity = call.headers[b"x-spangate-identity"]
        self.asked.append(identity)
        self.timeouts_ms.append(call.timeout_ms)
        if self.reply is not None:
            return self.reply
        headers = {b"x-spangate-authorization": self.bearer(len(self.asked), identity)}
        return Reply({b":status": b"200", **headers, b"x-spangate-ttl-ms": b"%d" % self.ttl_ms})

    def bearer(self, number: int, identity: bytes) -> bytes:
        return b"Bearer spangate-standin.%d.%s" % (number, identity.rpartition(b"/")[2])

    def goes_away(self) -> None:
        self.reply = AWAY

    def comes_back(self) -> None:
        self.reply = None
