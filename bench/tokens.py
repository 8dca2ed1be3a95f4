"""`python -m bench.tokens`: access tokens: what one costs that is known, and what a storm of identities asks of Google.

The broker's memory and the filter's are timed as they are, Envoy and HTTP left out. The storm runs on a clock of its
own: all identities ask at once, Google takes 200 ms for each, and then an hour passes in which all stay in use.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections import Counter

from lupa.luajit21 import LuaRuntime

from bench.parts.numbers import noise_percent, table
from bench.parts.processes import BenchError
from bench.parts.program import Found, Option, program
from spangate.broker.answers import Grant
from spangate.broker.cache import EXCHANGE_RATE_MAX, Held, TokenCache
from spangate.dataplane import filter_source
from spangate.model.identity import SpiffeId

OPTIONS = (
    Option("identities", 10_000, 10, 12_000, "that ask at once"),
    Option("rounds", 9, 3, 100, "rounds of the times"),
)
GOOGLE_SECONDS = 0.2
TOKEN_SECONDS = 3600.0
STEP_SECONDS = 0.02
HITS = 20_000
# How often what is due is looked for, in the hour; the broker does each second.
TEND_SECONDS = 5.0
# A token of Google's has some 1,000 characters.
TOKEN = "ya29." + "x" * 1000
# The filter's own function, from memory: what a request pays that goes on with a token. A handle is asked for nothing.
_LUA = b"""
local bearer_of, names = tokens.bearer_of, {}
local headers = { [":status"] = "200", ["x-spangate-authorization"] = TOKEN, ["x-spangate-ttl-ms"] = "3600000" }
local handle = { httpCall = function() return headers end, timestamp = function() return "1000" end }
for i = 1, 1000 do names[i] = "spiffe://shop.example/ns/shop/sa/w" .. i end
return function(count)
  local length = 0
  for i = 1, count do length = length + #bearer_of(handle, names[i * 7919 % 1000 + 1], 1000) end
  return length
end
"""


def run(arguments: argparse.Namespace) -> Found:
    """Raises BenchError if a known token was not handed out."""
    broker = [_broker_hit_us(arguments.identities) for _ in range(arguments.rounds)]
    worker = [_filter_hit_us() for _ in range(arguments.rounds)]
    rows = [
        (name, f"{statistics.median(times):.2f} us", f"{noise_percent(times):.0f} %")
        for name, times in (("the broker's memory", broker), ("the filter's memory", worker))
    ]
    found = storm(arguments.identities)
    text = table(("a token that is known", "takes", "noise"), rows)
    text += (
        f"\na storm of {arguments.identities:,}: {found['exchanges']:,} exchanges in {found['seconds']:,.0f} s, "
        f"{found['in_flight_max']} at once at most, {found['most_in_a_second']} in the first second, "
        f"then {EXCHANGE_RATE_MAX}"
        f"\nthe hour after: {found['renewals']:,} renewals, at most {found['most_renewals_in_a_second']} in a second"
    )
    values: dict[str, object] = {
        "broker_hit_us": round(statistics.median(broker), 3),
        "filter_hit_us": round(statistics.median(worker), 3),
        "storm": found,
    }
    return Found(values, text)


def _names(count: int) -> list[SpiffeId]:
    return [SpiffeId.workload("shop.example", "storm", f"w{number}") for number in range(count)]


def _broker_hit_us(identities: int) -> float:
    cache = TokenCache(random.Random(1).random)
    names = _names(identities)
    now = 0.0
    for name in names:
        cache.ask(name, now)
    while cache.queued:
        now += 1.0
        for name in cache.begin(now):
            cache.granted(name, Grant(TOKEN, TOKEN_SECONDS), now)
    asked = random.Random(1).choices(names, k=HITS)
    begin = time.perf_counter_ns()
    for name in asked:
        cache.ask(name, now)
    took = time.perf_counter_ns() - begin
    if not isinstance(cache.ask(asked[0], now), Held):
        raise BenchError("a token that was granted is not held")
    return took / 1000 / HITS


def _filter_hit_us() -> float:
    lua = LuaRuntime(encoding=None)
    modules = filter_source().partition("-- main.lua")[0].encode()
    lua.globals()[b"TOKEN"] = f"Bearer {TOKEN}".encode()
    loop = lua.execute(modules + _LUA)
    if loop(HITS) != HITS * len(f"Bearer {TOKEN}"):
        raise BenchError("the filter has another token than it was given")
    begin = time.perf_counter_ns()
    loop(HITS)
    return (time.perf_counter_ns() - begin) / 1000 / HITS


def storm(count: int) -> dict[str, float]:
    """What becomes of `count` identities that ask at once, and of their tokens in the hour after, by a clock of its
    own."""
    cache = TokenCache(random.Random(1).random)
    names = _names(count)
    for name in names:
        cache.ask(name, 0.0)
    first, first_most, seconds = _exchanges(cache, 0.0, float("inf"))
    if sum(first.values()) != count:
        raise BenchError("an identity was not served exactly once")
    for name in names:
        cache.ask(name, seconds)
    renewed, _, _ = _exchanges(cache, seconds, seconds + TOKEN_SECONDS)
    return {
        "exchanges": sum(first.values()),
        "seconds": round(seconds, 1),
        "in_flight_max": first_most,
        "most_in_a_second": max(first.values()),
        "renewals": sum(renewed.values()),
        "most_renewals_in_a_second": max(renewed.values(), default=0),
    }


def _exchanges(cache: TokenCache, now: float, end: float) -> tuple[Counter[int], int, float]:
    """Exchanges by the second in which they began, the most under way, and when nothing was left, or `end`."""
    begun: Counter[int] = Counter()
    running: list[tuple[float, SpiffeId]] = []
    most = 0
    tended = now
    while now < end and (end < float("inf") or cache.queued or running):
        for ends, name in running[:]:
            if ends <= now:
                running.remove((ends, name))
                cache.granted(name, Grant(TOKEN, TOKEN_SECONDS), now)
        if now >= tended + TEND_SECONDS:
            cache.tend(now)
            tended = now
        for name in cache.begin(now):
            begun[int(now)] += 1
            running.append((now + GOOGLE_SECONDS, name))
        most = max(most, len(running))
        # Where nothing waits and nothing runs, the next look is as good as any before it.
        now += STEP_SECONDS if running or cache.queued else 1.0
    return begun, most, now


if __name__ == "__main__":
    sys.exit(program("tokens", __doc__, OPTIONS, run))
