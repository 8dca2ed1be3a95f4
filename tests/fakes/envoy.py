"""Envoy as the Lua filter sees it: one worker with its script, and streams whose handles behave as Envoy's do.

What is kept of Envoy 1.39/1.40 (https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/lua_filter):
- every object but the stream handle itself is dead after a yield: `object used outside of proper scope`;
- body() yields until the body is there (nil if there is none), httpCall() until it is answered, respond() for ever;
- httpCall() needs :method, :path and :authority and a cluster that exists; it fails with a status, not with an error;
- bodyChunks() yields before each chunk, which may be replaced; trailers() yields until they came;
- an error in the script is logged and the request goes on: nothing here refuses, `Stream.admitted` is the guard's view.
Bytes in, bytes out: Lua strings are bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from lupa.luajit21 import LuaRuntime

from fakes.mesh_ca import MeshCa
from spangate.dataplane import filter_source

IDENTITY = b"spiffe://shop.example/ns/shop/sa/checkout"
# 2030-01-02 12:00 UTC.
NOON_MS = 1_893_585_600_000

_ENVOY = rb"""
local envoy = {}

-- An object of `methods` that is dead once its stream has yielded.
local function scoped(stream, methods)
  local born = stream.yields
  return setmetatable({}, { __index = function(_, name)
    local method = methods[name]
    if not method then return nil end
    return function(_, ...)
      if stream.yields ~= born then error("object used outside of proper scope", 2) end
      return method(...)
    end
  end })
end

local function header_map(stream, list)
  local methods = {}
  function methods.get(name)
    -- Several of one name are joined.
    local found
    for i = 1, #list do
      if list[i][1] == name:lower() then found = (found and found .. "," or "") .. list[i][2] end
    end
    return found
  end
  function methods.add(name, value) list[#list + 1] = { name:lower(), value } end
  function methods.remove(name)
    for i = #list, 1, -1 do if list[i][1] == name:lower() then table.remove(list, i) end end
  end
  function methods.replace(name, value)
    methods.remove(name)
    methods.add(name, value)
  end
  return scoped(stream, methods)
end

local function buffer(stream, side)
  local methods = {}
  function methods.length() return #side.body end
  function methods.getBytes(index, length)
    if index + length > #side.body then error("index + length must be <= buffer size") end
    return side.body:sub(index + 1, index + length)
  end
  function methods.setBytes(bytes)
    if type(bytes) ~= "string" then error("bad argument to 'setBytes' (string expected)") end
    if stream.set_bytes_fails then error("cannot set the bytes") end
    side.body = bytes
    header_map(stream, side.headers):replace("content-length", tostring(#bytes))
    return #bytes
  end
  return scoped(stream, methods)
end

local function certificate(stream)
  local tls = stream.tls
  if not tls then return nil end
  local methods = {}
  function methods.peerCertificatePresented() return tls.presented end
  function methods.peerCertificateValidated() return tls.validated end
  function methods.uriSanPeerCertificate() return { unpack(tls.uris) } end
  function methods.expirationPeerCertificate() return tls.expires end
  function methods.issuerPeerCertificate() return tls.issuer end
  function methods.validFromPeerCertificate() return tls.begins end
  function methods.sha256PeerCertificateDigest() return tls.digest end
  function methods.urlEncodedPemEncodedPeerCertificate() return tls.pem end
  return scoped(stream, methods)
end

local function metadata(stream)
  local methods = {}
  function methods.get(namespace) return stream.metadata[namespace] end
  function methods.set(namespace, key, value)
    if type(namespace) ~= "string" or type(key) ~= "string" or value == nil then error("bad argument to 'set'") end
    local kept = stream.metadata[namespace] or {}
    stream.metadata[namespace] = kept
    kept[key] = value
  end
  return scoped(stream, methods)
end

local function yield(stream, ...)
  local answer = { coroutine.yield(...) }
  stream.yields = stream.yields + 1
  return unpack(answer, 1, 2)
end

local function handle(stream, side)
  local it = {}
  function it.headers() return header_map(stream, side.headers) end
  function it.body()
    if not side.arrived then
      yield(stream, "body")
      side.arrived = true
    end
    return side.body and buffer(stream, side)
  end
  function it.bodyChunks()
    return function()
      yield(stream, "chunk")
      local chunk = table.remove(side.chunks, 1)
      if not chunk then return nil end
      local part = { body = chunk, headers = side.headers }
      side.passed[#side.passed + 1] = part
      return buffer(stream, part)
    end
  end
  function it.trailers()
    yield(stream, "body")
    return side.trailers and header_map(stream, side.trailers)
  end
  function it.base64Escape(_, bytes) return stream.base64(bytes) end
  function it.httpCall(_, cluster, headers, body, timeout_ms)
    if not stream.clusters[cluster] then error("http call cluster invalid. Must be configured") end
    if not (headers[":path"] and headers[":method"] and headers[":authority"]) then
      error("http call headers must include ':path', ':method', and ':authority'")
    end
    if type(timeout_ms) ~= "number" or timeout_ms < 0 then error("http call timeout must be >= 0") end
    return yield(stream, "httpCall", headers, body, timeout_ms)
  end
  function it.respond(_, headers, body)
    if side ~= stream.request then error("respond not currently supported in the response path") end
    stream.answer = { headers = headers, body = body }
    coroutine.yield("respond")
  end
  function it.streamInfo()
    return scoped(stream, {
      dynamicMetadata = function() return metadata(stream) end,
      downstreamSslConnection = function() return certificate(stream) end,
      drainConnectionUponCompletion = function() stream.drained = true end,
    })
  end
  function it.stats()
    return scoped(stream, {
      counter = function(name)
        return { inc = function(_, by) stream.counters[name] = (stream.counters[name] or 0) + (by or 1) end }
      end,
    })
  end
  function it.timestamp() return stream.clock() end
  function it.logErr(_, text) stream.log[#stream.log + 1] = text end
  return it
end

-- What the script waits for: nothing more is to be said of "end" and "respond"; "body" has no values.
function envoy.resume(stream, ...)
  local ok, what, headers, body, timeout_ms = coroutine.resume(stream.thread, ...)
  if not ok then
    stream.log[#stream.log + 1] = "script log: " .. tostring(what)
    stream.failed = true
    return "end"
  end
  if coroutine.status(stream.thread) == "dead" then return "end" end
  return what, headers, body, timeout_ms
end

function envoy.run(stream, side, program)
  stream.thread = coroutine.create(program)
  return envoy.resume(stream, handle(stream, side))
end

return envoy
"""


# A leaf as a mesh's authority signs it. The names are those of each Tls.
LEAF_PEM = MeshCa("fake").leaf("spiffe://shop.example/ns/shop/sa/checkout").chain_pem


@dataclass(frozen=True)
class Tls:
    """The peer of the connection."""

    presented: bool = True
    validated: bool = True
    uris: tuple[bytes, ...] = (IDENTITY,)
    # Seconds since 1970.
    expires: int = NOON_MS // 1000 + 366 * 86400
    issuer: bytes = b"CN=spangate intermediate 1 0123456789abcdef,O=spangate"
    begins: int = 0
    pem: str = LEAF_PEM


@dataclass(frozen=True)
class Call:
    """A pending httpCall."""

    headers: Mapping[bytes, bytes]
    body: bytes | None
    timeout_ms: float

    @property
    def path(self) -> bytes:
        return self.headers[b":path"]


@dataclass(frozen=True)
class Reply:
    """What httpCall returns: an empty body is nil, as in Envoy."""

    headers: Mapping[bytes, bytes]
    body: bytes = b""


Answers = Callable[[Call], Reply]


@dataclass
class Worker:
    """One Envoy worker: its own Lua state, its own cache. `now_ms` is its clock."""

    now_ms: int = NOON_MS
    clusters: tuple[bytes, ...] = (b"spangate_checkpoint", b"spangate_epoch", b"spangate_broker")
    lua: LuaRuntime = field(default_factory=lambda: LuaRuntime(encoding=None, unpack_returned_tuples=True))

    def __post_init__(self) -> None:
        self.internals: Any = self.lua.execute(filter_source().encode())
        self._envoy: Any = self.lua.execute(_ENVOY)

    def open(
        self,
        path: bytes,
        body: bytes | None,
        *,
        headers: Mapping[bytes, bytes] | None = None,
        more_headers: Sequence[tuple[bytes, bytes]] = (),
        tls: Tls | None = Tls(),
        set_bytes_fails: bool = False,
    ) -> Stream:
        """A request whose headers have arrived; the script has run up to its first yield."""
        table = self.lua.table_from
        sent = {
            b":method": b"POST",
            b":path": path,
            b"content-type": b"application/grpc",
            b"te": b"trailers",
            **(headers or {}),
        }
        request = table(
            {b"headers": table([table([k, v]) for k, v in (*sent.items(), *more_headers)]), b"arrived": body is None}
        )
        if body is not None:
            request[b"body"] = body
        stream = table(
            {
                b"yields": 0,
                b"request": request,
                b"metadata": self.lua.table(),
                b"log": self.lua.table(),
                b"counters": self.lua.table(),
                b"clusters": table(dict.fromkeys(self.clusters, True)),
                # Once in some hundred thousand calls LuaJIT hands a Python function a value that is left over.
                b"clock": lambda *_: b"%d" % self.now_ms,
                b"set_bytes_fails": set_bytes_fails,
                b"base64": lambda data, *_: base64.b64encode(data),
            }
        )
        if tls is not None:
            uris = table(list(tls.uris))
            stream[b"tls"] = table(
                {
                    b"presented": tls.presented,
                    b"validated": tls.validated,
                    b"uris": uris,
                    b"begins": tls.begins,
                    b"expires": tls.expires,
                    b"issuer": tls.issuer,
                    # Another certificate, another digest.
                    b"digest": hashlib.sha256(repr(tls).encode()).hexdigest().encode(),
                    b"pem": quote(tls.pem, safe="").encode(),
                }
            )
        return Stream(self, stream)

    def send(self, path: bytes, body: bytes | None, checkpoint: Answers, **options: Any) -> Stream:
        """A whole request; `checkpoint` answers the script's calls."""
        stream = self.open(path, body, **options)
        while stream.call is not None:
            stream.reply(checkpoint(stream.call))
        return stream


class Stream:
    """One request. `call` is what the script waits for, if it waits."""

    def __init__(self, worker: Worker, table: Any) -> None:
        self._worker = worker
        self._table = table
        self._lua = worker.lua
        self.call: Call | None = None
        self._begin(table[b"request"], b"envoy_on_request")

    def _begin(self, side: Any, program: bytes) -> None:
        script = self._lua.globals()[program]
        self._runs(self._worker._envoy[b"run"](self._table, side, script))

    def _runs(self, waits_for: Any) -> None:
        resume = self._worker._envoy[b"resume"]
        kind, *values = waits_for if isinstance(waits_for, tuple) else (waits_for,)
        while kind in (b"body", b"chunk"):
            waits_for = resume(self._table)
            kind, *values = waits_for if isinstance(waits_for, tuple) else (waits_for,)
        self.call = None
        if kind == b"httpCall":
            headers, body, timeout_ms = values
            self.call = Call(dict(headers.items()), body, timeout_ms)

    def reply(self, reply: Reply) -> None:
        """The checkpoint's reply; the script goes on up to its next yield."""
        headers = self._lua.table_from(dict(reply.headers))
        self._runs(self._worker._envoy[b"resume"](self._table, headers, reply.body or None))

    def spanner_answers(self, body: bytes | None, chunks: Sequence[bytes] | None = None) -> None:
        """The response passes the script too; `chunks` are how its body arrives, if not at once."""
        table = self._lua.table_from
        side = table({b"headers": table([]), b"arrived": body is None, b"passed": table([])})
        side[b"chunks"] = table([body] if chunks is None and body is not None else list(chunks or ()))
        if body is not None:
            side[b"body"] = body
            side[b"trailers"] = table([table([b"grpc-status", b"0"])])
        self._answer = side
        self._begin(side, b"envoy_on_response")

    @property
    def answer_body(self) -> bytes:
        """The response's body as the client gets it."""
        passed = [part[b"body"] for part in self._answer[b"passed"].values()]
        return b"".join([*passed, *self._answer[b"chunks"].values()]) if passed else self._answer[b"body"]

    @property
    def answer_status(self) -> bytes:
        """The gRPC status in the response's trailers, as the client gets it."""
        return dict(tuple(entry.values()) for entry in self._answer[b"trailers"].values())[b"grpc-status"]

    @property
    def body(self) -> bytes:
        """The request's body as it is sent on."""
        return self._table[b"request"][b"body"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The request's headers as they are sent on."""
        found: dict[bytes, bytes] = {}
        for entry in self._table[b"request"][b"headers"].values():
            found[entry[1]] = b",".join([found[entry[1]], entry[2]]) if entry[1] in found else entry[2]
        return found

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """The dynamic metadata of Spangate's namespace."""
        kept = self._table[b"metadata"][b"spangate"]
        return {} if kept is None else dict(kept.items())

    @property
    def admitted(self) -> bool:
        """Whether the guard lets the request on: it is marked, and the script did not answer itself."""
        return b"allow" in self.metadata and self.answered is None

    @property
    def answered(self) -> dict[bytes, bytes] | None:
        """The headers of the script's own answer, if it gave one."""
        answer = self._table[b"answer"]
        return None if answer is None else dict(answer[b"headers"].items())

    @property
    def refusal(self) -> tuple[bytes, bytes] | None:
        """gRPC status and reason of the script's own answer, if it gave one."""
        return None if self.answered is None else (self.answered[b"grpc-status"], self.metadata[b"deny"])

    @property
    def failed(self) -> bool:
        """Whether the script ended with an error; Envoy sends such a request on."""
        return bool(self._table[b"failed"])

    @property
    def drained(self) -> bool:
        """Whether the client is asked to open another connection."""
        return bool(self._table[b"drained"])

    @property
    def counters(self) -> dict[bytes, int]:
        """What the script has counted."""
        return dict(self._table[b"counters"].items())

    @property
    def log(self) -> list[bytes]:
        return list(self._table[b"log"].values())
