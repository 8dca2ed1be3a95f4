"""The filter, built up stage by stage: each one does what the one before does, and one thing more.

Every stage makes the calls into Envoy that the product's filter makes, in its order; reading, looking up and rewriting
are the product's own functions, out of its own source. So the last but one should cost what the product costs: what
lies between them is what the stages leave out.
Not here: starting and measuring (__main__.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.parts import envoys
from bench.parts.rig import CHECKED, PLAIN, Change, filter_source
from spangate.compiler.envoy_parts import Json


@dataclass(frozen=True)
class Stage:
    """`name` says what it has more than the stage before it."""

    name: str
    change: Change


# The product's source as a function: what it returns for the tests is what the stages use.
_PRODUCT = """
local product = (function()
{source}
end)()
envoy_on_response = nil
local read_request, rewrite, paths = product.read_request, product.rewrite, product.paths
local known = {{}}
-- A decision as the cache holds it; the first of each shape makes it.
local function recall(key)
  local found = known[key]
  if not found then
    found = {{ allowed = true, id = "aaaaaaaaaaaaaaaa", role = "sg_checkout", tag = "sg:aaaaaaaaaaaaa:000000000000",
      owner = "aaaaaaaaaaaaa" }}
    known[key] = found
  end
  return found
end
"""

_HEADERS = """
  local headers = handle:headers()
  local rpc = paths[headers:get(":path")]
  local posted = headers:get(":method") == "POST" and headers:get("content-type") == "application/grpc"
"""
_PEER = """
  local connection = handle:streamInfo():downstreamSslConnection()
  local trusted = connection:peerCertificatePresented() and connection:peerCertificateValidated()
  local identity = connection:uriSanPeerCertificate()[1]
  trusted = trusted and connection:expirationPeerCertificate() > 0 and string.find(identity, "^spiffe://[%w%._/-]+$")
"""
_CLOCK = """
  local now = tonumber(handle:timestamp())
  now = tonumber(handle:timestamp())
"""
_BODY = """
  local buffer = handle:body()
"""
_BYTES = """
  local body = buffer:getBytes(0, buffer:length())
"""
_READ = """
  local out, database, shape = read_request(body, rpc)
"""
_LOOKUP = """
  local decision = recall(identity .. "\\n" .. shape)
"""
_REWRITE = """
  local rewritten = rewrite(body, out, rpc, decision)
"""
_SET_BYTES = """
  handle:body():setBytes(rewritten)
"""
_PREFIX = """
  local prefix = handle:headers():get("google-cloud-resource-prefix")
"""
_MARK = """
  handle:streamInfo():dynamicMetadata():set("spangate", "allow", decision.id)
"""
_RESPONSE = """
function envoy_on_response(handle)
  local metadata = handle:streamInfo():dynamicMetadata():get("spangate")
  if not metadata or metadata.receipt ~= "commit" then return end
end
"""

# What the request hook has more, stage by stage.
_STEPS = (
    ("an empty Lua filter", ""),
    ("3 headers read", _HEADERS),
    ("the peer's certificate", _PEER),
    ("the clock, twice", _CLOCK),
    ("the body awaited", _BODY),
    ("its bytes taken", _BYTES),
    ("read: fields, shape", _READ),
    ("looked up", _LOOKUP),
    ("rewritten", _REWRITE),
    ("the body replaced", _SET_BYTES),
    ("1 header read", _PREFIX),
    ("the mark (metadata)", _MARK),
)


def stages() -> list[Stage]:
    """From plain Envoy to the product."""
    found = [Stage(PLAIN, lambda product: envoys.without_access_log(envoys.without_filters(product)))]
    body = ""
    for name, step in _STEPS:
        body += step
        found.append(Stage(name, _unlogged(script(body))))
    answered = script(body) + _RESPONSE
    found += [
        Stage("the answer's hook", _unlogged(answered)),
        Stage("the guard", lambda product: envoys.without_access_log(_guarded(product, answered))),
        Stage("the access log", lambda product: _guarded(product, answered)),
        Stage(CHECKED, lambda product: product),
    ]
    return found


def script(body: str) -> str:
    """A filter whose request hook does `body`."""
    source = _PRODUCT.format(source=filter_source().decode())
    return f"{source}\nfunction envoy_on_request(handle)\n{body}\nend\n"


def _unlogged(source: str) -> Change:
    return lambda product: envoys.without_access_log(envoys.with_filters(product, [envoys.lua(source)]))


def _guarded(product: Json, source: str) -> Json:
    return envoys.with_filters(product, [envoys.lua(source), envoys.guard_of(product)])
