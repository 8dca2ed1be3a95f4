"""Shapes as the filter makes them, by the filter itself under LuaJIT, for asking a checkpoint without a gateway."""

from __future__ import annotations

from lupa.luajit21 import LuaRuntime

from bench.parts.calls import METHOD, message
from bench.parts.envoys import framed
from bench.parts.program_text import program_text

_SHAPE = """
return function(body, path)
  local rpc = PATHS[path]
  local out, database, rest = read_request(body, rpc)
  return rpc.prefix .. #database .. ":" .. database .. "," .. out.flags .. rest
end
"""


class Shapes:
    """Makes shapes of ExecuteSql requests."""

    def __init__(self) -> None:
        # The program's strings are bytes, as in Envoy.
        runtime = LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._shape = runtime.execute((program_text() + _SHAPE).encode())

    def of(self, session: str, sql: str) -> bytes:
        """The shape of a request for `sql`."""
        return bytes(self._shape(framed(message(session, sql)), METHOD.encode()))
