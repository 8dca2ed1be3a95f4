"""`python -m bench`: every measuring program once, in small, one after the other; `make bench` does this.

Each is a program of its own (`python -m bench.storm --help`), whose defaults take longer and tell more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

# Enough for a look at everything in less than five minutes on two cores.
SHORT: dict[str, tuple[str, ...]] = {
    "gateway": ("--rounds=3", "--requests=5000", "--moderate=1000", "--single=500"),
    "profile": ("--rounds=3", "--requests=1000"),
    "first_sight": ("--statements=100",),
    "storm": ("--statements=1000", "--in-flight=500", "--before=3", "--seconds=15"),
    "literals": ("--statements=500",),
    "memory": ("--shapes=5000", "--steps=2"),
    "tokens": ("--identities=1000", "--rounds=3"),
    "decision": ("--rounds=5", "--decisions=1000"),
    "identity": (
        *("--rounds=3", "--issued=200", "--streams=1500", "--hits=5000"),
        *("--exchanged=300", "--identities=1000", "--handshakes=100"),
    ),
}
PROGRAM_SECONDS_MAX = 120


def main() -> int:
    """The exit code: 0, or 1 if one of them could not measure."""
    argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0]).parse_args()
    failed = []
    for name, arguments in SHORT.items():
        print(f"\n== python -m bench.{name} {' '.join(arguments)}", flush=True)
        begin = time.monotonic()
        try:
            code = subprocess.run(
                [sys.executable, "-m", f"bench.{name}", *arguments], timeout=PROGRAM_SECONDS_MAX, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            # Its processes end with it: the kernel kills them (adapters/process.py).
            print(f"bench: {name} is not done after {PROGRAM_SECONDS_MAX} s", file=sys.stderr)
            code = 1
        print(f"({time.monotonic() - begin:.0f} s)", flush=True)
        if code:
            failed.append(name)
    if failed:
        print(f"bench: could not measure {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
