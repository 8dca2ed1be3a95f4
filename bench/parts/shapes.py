"""Shapes as the filter makes them, by the filter itself under LuaJIT, for asking a checkpoint without a gateway."""

from __future__ import annotations

from lupa.luajit21 import LuaRuntime

from bench.parts.calls import METHOD, message
from bench.parts.envoys import framed
from bench.parts.rig import filter_source

_SHAPE = """
return function(product, body, path)
  local _, _, shape = product.read_request(body, product.paths[path])
  return shape
end
"""


class Shapes:
    """Makes shapes of ExecuteSql requests."""

    def __init__(self) -> None:
        # The program's strings are bytes, as in Envoy.
        runtime = LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._product = runtime.execute(filter_source())
        self._shape = runtime.execute(_SHAPE.encode())

    def of(self, session: str, sql: str) -> bytes:
        """The shape of a request for `sql`."""
        return bytes(self._shape(self._product, framed(message(session, sql)), METHOD.encode()))
