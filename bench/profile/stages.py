"""The filter, built up stage by stage: each one does what the one before does, and one thing more.

Every stage calls the product's own functions, in the order of its own hook: a stage's script is the product's with
another request hook. So the last but one should cost what the product costs; what lies between them (pcall, the
questions whether something is missing) is what the stages leave out.
Not here: starting and measuring (__main__.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.parts import envoys
from bench.parts.program_text import program_text
from bench.parts.rig import CHECKED, PLAIN, Change
from spangate.compiler.envoy_parts import Json


@dataclass(frozen=True)
class Stage:
    """`name` says what it has more than the stage before it."""

    name: str
    change: Change


_LOOKUP = """
local key = identity .. "\\n" .. rpc.prefix .. #database .. ":" .. database .. "," .. out.flags .. rest
local decision = recall(key) or ask(handle, identity, key, #identity + 2, now)
"""

# What the request hook has more, stage by stage, in the order of the product's own hook.
_STEPS = (
    ("an empty Lua filter", ""),
    ("the peer's certificate", "local identity = identify(handle)"),
    ("3 headers read", "local rpc = prepare(handle)"),
    ("the body awaited", "local buffer = handle:body()"),
    ("its bytes taken", "local body = buffer:getBytes(0, buffer:length())"),
    ("read: fields, shape", "local out, database, rest = read_request(body, rpc)"),
    ("the clock, the epoch", "local now = refresh(handle)"),
    ("whose session", "local found = check(identity, rpc, body, out, database)"),
    ("looked up", _LOOKUP),
    ("rewritten", "local rewritten = rewrite(body, out, rpc, decision, found)"),
    ("the body replaced", "handle:body():setBytes(rewritten)"),
    ("1 header read", "local prefix = handle:headers():get(PREFIX_HEADER)"),
    ("the mark (metadata)", 'handle:streamInfo():dynamicMetadata():set(METADATA, "allow", decision.id)'),
)


def stages() -> list[Stage]:
    """From plain Envoy to the product."""
    found = [Stage(PLAIN, lambda product: envoys.without_access_log(envoys.without_filters(product)))]
    body = ""
    for name, step in _STEPS:
        body += step + "\n"
        found.append(Stage(name, _unlogged(_script(body, answers=False))))
    complete = _script(body, answers=True)
    found += [
        Stage("the answer's hook", _unlogged(complete)),
        Stage("the guard", lambda product: envoys.without_access_log(_guarded(product, complete))),
        Stage("the access log", lambda product: _guarded(product, complete)),
        Stage(CHECKED, lambda product: product),
    ]
    return found


def _script(body: str, *, answers: bool) -> str:
    """The product's program with a request hook that does `body`, and with or without its hook for answers."""
    ending = "" if answers else "envoy_on_response = nil\n"
    return f"{program_text()}{ending}function envoy_on_request(handle)\n{body}end\n"


def _unlogged(source: str) -> Change:
    return lambda product: envoys.without_access_log(envoys.with_filters(product, [envoys.lua(source)]))


def _guarded(product: Json, source: str) -> Json:
    return envoys.with_filters(product, [envoys.lua(source), envoys.guard_of(product)])
