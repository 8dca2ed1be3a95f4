"""The data plane: the Lua filter that runs inside Envoy, as one script.

Envoy and Istio take one text, and nothing in it can load another. So each module of lua/ becomes a local table, in an
order in which everything that a module uses stands before it:

    local wire = (function() ... return { scan = scan, ... } end)()

Rules: the text depends on nothing but the modules; comments that stand alone become empty lines and indentation goes,
so that it fits into Istio's resources and a line's number stays its module's own, counted from the module's opening
line. No module has a string that goes over several lines.
Not here: the program itself (lua/), where Envoy is told of it (compiler/gateway.py).
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

# What a module uses stands before it. The last one is the program.
MODULES = (
    "refusal",
    "wire",
    "siphash",
    "seal",
    "messages",
    "shape",
    "rpcs",
    "rewrite",
    "answers",
    "aliases",
    "decisions",
    "tokens",
    "leaf",
    "peer",
    "receipts",
    "ownership",
    "responses",
    "main",
)
# istiod discards a longer script with only a log line.
FILTER_BYTES_MAX = 64 * 1024

_COMMENT_OR_INDENTATION = re.compile(r"^[ ]*(?:--.*$)?", re.MULTILINE)


def module_source(name: str) -> str:
    """One of MODULES, as it is written."""
    return (resources.files(__name__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")


@cache
def filter_source() -> str:
    """The whole filter, as Envoy runs it."""
    *modules, program = MODULES
    parts = [f"local {name} = (function() -- {name}.lua\n{_stripped(name)}end)()\n" for name in modules]
    return "".join(parts) + f"-- {program}.lua\n{_stripped(program)}"


def _stripped(name: str) -> str:
    return _COMMENT_OR_INDENTATION.sub("", module_source(name))
