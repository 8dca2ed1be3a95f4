"""A broker of the product's own that holds a token of CHECKOUT's already, behind its door."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

from spangate.adapters.broker_door import broker_app
from spangate.adapters.clock import SystemClock
from spangate.adapters.token_broker import Exchange, TokenBroker
from spangate.adapters.unix_server import UnixServer
from spangate.broker.answers import Grant
from spangate.model.google import GoogleFederation
from spangate.model.identity import SpiffeId

FEDERATION = GoogleFederation("123456789012", "mesh", "spangate")
# Of the size of Google's.
TOKEN = "ya29." + "x" * 1024
TOKEN_SECONDS = 3600


def broker_by(exchange: Exchange) -> TokenBroker:
    """One that asks `exchange`; not started."""
    return TokenBroker(exchange, now=SystemClock().now, random=random.Random(1).random)


def open_broker(stack: ExitStack, path: Path, identity: SpiffeId) -> TokenBroker:
    """One that holds TOKEN for `identity`, and serves at the socket `path` until `stack` ends."""
    broker = broker_by(lambda _identity, _federation: Grant(TOKEN, TOKEN_SECONDS))
    broker.replace({identity: FEDERATION})
    broker.start()
    stack.callback(broker.stop)
    broker.token(identity)
    stack.enter_context(UnixServer(broker_app(broker), path, name="broker"))
    return broker
