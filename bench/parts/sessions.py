"""A session as the gateway of a bench would have given it to a client: sealed by the filter's own code.

The backends of the benches answer every request alike, so they can make no session.
"""

from __future__ import annotations

from pathlib import Path

from lupa.luajit21 import LuaRuntime

from spangate.adapters.clock import SystemClock
from spangate.adapters.seal_keys import FileSealKeys, new_seal_key
from spangate.checkpoint.sealing import SealKeys
from spangate.dataplane import module_source
from spangate.model.identity import SpiffeId

MODULES = ("refusal", "siphash", "seal")


def sealed_session(keys: Path, identity: SpiffeId, name: str) -> str:
    """The session `name` of `identity`, sealed with the keys in the file `keys`, which the checkpoint reads too."""
    held = SealKeys(FileSealKeys(keys), new_seal_key, SystemClock().now)
    held.renew()
    lua = LuaRuntime(encoding="utf-8")
    parts = [f"local {module} = (function() {module_source(module)} end)()" for module in MODULES]
    seal = lua.execute("\n".join([*parts, "return seal"]))
    seal.learn(held.header)
    found: str = seal.seal_name(str(identity), name.partition("/sessions/")[0], name)
    return found
