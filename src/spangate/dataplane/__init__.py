"""The data plane: the Lua filter that runs inside Envoy, as one script.

Envoy and Istio take one text, and nothing in it can load another. So each module of lua/ becomes a local table, in an
order in which everything that a module uses stands before it:

    local wire = (function() ... return { scan = scan, ... } end)()

Rules: the text depends on nothing but the modules; comments go, and so does white space where two tokens cannot be
taken for one, so that it fits into Istio's resources. Line ends stay: a line's number is its module's own, counted from
the module's opening line. No module has a string or comment that goes over several lines.
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

# Lua 5.1, section 2.1, as far as the modules go: a text, a comment, white space within a line, a line's end, a name or
# number, and any other sign. A text begins and ends with the same quote; a backslash keeps what follows it.
_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"|(?P<gap>--[^\n]*|[ \t]+)|(?P<word>[A-Za-z0-9_]+)|(?P<sign>[^ \t])",
    re.DOTALL,
)
# Two of these side by side could be another token: `--`, `..`, `==`, `[[`, `1..2`.
_STICKY = frozenset("-.=<>~[")


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
    return shortened(module_source(name))


def shortened(source: str) -> str:
    """`source` without comments and needless white space; the same tokens on the same lines."""
    out: list[str] = []
    last, gap = "", False
    for token in _TOKEN.finditer(source):
        text = token.group()
        if token.lastgroup == "gap":
            gap = True
            continue
        if gap and last and _may_merge(last[-1], text[0]):
            out.append(" ")
        out.append(text)
        last, gap = text, False
    return "".join(out)


def _may_merge(before: str, after: str) -> bool:
    """Whether two characters, side by side, may belong to one token."""
    words = tuple(one.isalnum() or one == "_" for one in (before, after))
    if all(words) or (before in _STICKY and after in _STICKY):
        return True
    # `1 ..x` is a number and a join, `1..x` is neither.
    return any(words) and "." in (before, after)
