"""The filter's text, opened so that more can follow: what is appended sees the program's own functions."""

from __future__ import annotations

from bench.parts.processes import BenchError
from spangate.dataplane import filter_source, shortened

# What the program hands to the tests; Envoy ignores it. Nothing may follow a `return`.
_LAST = shortened("\nreturn {\n")


def program_text() -> str:
    """The filter without its last statement."""
    text, found, _ = filter_source().rpartition(_LAST)
    if not found:
        raise BenchError("the filter does not end as the bench knows it")
    return text + "\n"
