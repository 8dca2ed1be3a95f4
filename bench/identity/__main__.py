"""`python -m bench.identity`: certificates and tokens issued, streams held, tokens cached, storms, handshakes.

Each part is a table of its own; what it measures and how stands at the head of its module. The parts run one after the
other, the product's code throughout: the authority, the Workload API's server, the broker, the stand-in for Google,
Envoy with the gateway's listener.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench.identity import handshakes, issuing, streams, tokens
from bench.parts.program import Found, Option, program

OPTIONS = (
    Option("rounds", 9, 1, 100, "rounds of issuing and of handshakes"),
    Option("issued", 1_000, 10, 100_000, "certificates, and tokens, of each kind in a round"),
    Option("streams", 10_000, 3, 60_000, "streams of the Workload API, three on a connection"),
    Option("hits", 20_000, 100, 1_000_000, "asks for a token that is held; a tenth of it over the door"),
    Option("exchanged", 1_000, 10, 10_000, "identities that ask for tokens at once, for real; 50 a second are served"),
    Option("identities", 10_000, 10, 12_000, "the same in simulated time"),
    Option("handshakes", 200, 10, 10_000, "of each kind in a round"),
)


def run(arguments: argparse.Namespace) -> Found:
    """Raises BenchError or SpangateError."""
    found = []
    with tempfile.TemporaryDirectory(prefix="spangate-bench-") as name:
        folder = Path(name)
        found.append(issuing.measure(folder, arguments.issued, arguments.rounds))
        found.append(streams.measure(folder, arguments.streams))
        found.append(tokens.measure(folder, arguments.hits, arguments.exchanged, arguments.identities))
        found.append(handshakes.measure(folder, arguments.handshakes, arguments.rounds))
    values = {key: value for one in found for key, value in one.values.items()}
    return Found(values, "\n\n".join(one.text for one in found))


if __name__ == "__main__":
    sys.exit(program("identity", __doc__, OPTIONS, run))
