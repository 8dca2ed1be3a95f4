"""A broker in memory: tokens that end when the clock says, or the error it is told to raise."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from spangate.broker.token import AccessToken
from spangate.errors import SpangateError
from spangate.model.identity import SpiffeId


class FakeTokens:
    def __init__(self, clock: Any, life: timedelta = timedelta(hours=1)) -> None:
        self.clock = clock
        self.life = life
        self.error: SpangateError | None = None
        self.asked: list[SpiffeId] = []
        self.answers_for: SpiffeId | None = None

    def token(self, identity: SpiffeId) -> AccessToken:
        self.asked.append(identity)
        if self.error is not None:
            raise self.error
        name = identity.segments[-1]
        return AccessToken(f"ya29.{name}.{len(self.asked)}", self.answers_for or identity, self.clock.now() + self.life)
