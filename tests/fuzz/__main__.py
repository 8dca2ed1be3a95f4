"""`make fuzz`: as long as asked, in search of a body that breaks the invariant:

*no byte string is ever allowed whose accesses, as Spanner would read them, the identity does not hold.*

    SECONDS=60 make fuzz            a minute, from a seed that it prints
    python -m fuzz --seed 7         again (with tests/ in PYTHONPATH)
    python -m fuzz --input FILE     one saved input

An input that breaks it, or on which the filter fails, is saved; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from random import Random

from fuzz import mutate
from fuzz.oracle import Broken, Fuzz

PROGRESS_SECONDS = 5.0
FAILURES_MAX = 10


def saved(who: str, path: str, body: bytes) -> str:
    return f"{who}\n{path}\n{body.hex()}\n"


def loaded(text: str) -> tuple[str, str, bytes]:
    who, path, digits = text.split()
    return who, path, bytes.fromhex(digits)


def run(seconds: float, seed: int, folder: Path) -> int:
    """The number of failures."""
    fuzz = Fuzz()
    started = time.monotonic()
    told, count, failures = started, 0, 0
    while (now := time.monotonic()) - started < seconds and failures < FAILURES_MAX:
        who, path, body = mutate.request(Random(f"{seed} {count}"))
        try:
            fuzz.judge(who, path, body)
        except Broken as error:
            failures += 1
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{seed}-{count}.txt"
            file.write_text(saved(who, path, body), encoding="ascii")
            print(f"BROKEN by input {count} of seed {seed}, saved as {file}:\n  {who} {path}\n  {error}", flush=True)
        count += 1
        if now - told >= PROGRESS_SECONDS:
            told = now
            print(f"{count} bodies in {now - started:.0f} s, {count / (now - started):.0f} a second", flush=True)
    fuzz.close()
    took = time.monotonic() - started
    print(f"seed {seed}: {count} bodies in {took:.1f} s, {count / took:.0f} a second; {failures} broke the invariant")
    for answer, times in fuzz.counts.most_common():
        print(f"{times:>10}  {answer}")
    if fuzz.too_strict:
        print(f"refused without need (reference grants): {dict(fuzz.too_strict.most_common(8))}")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description="search for a body that breaks the invariant")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="left out: a new one, which is printed")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="where failing inputs are saved")
    parser.add_argument("--input", type=Path, default=None, help="judge this saved input instead")
    given = parser.parse_args()
    if given.input is not None:
        with Fuzz() as fuzz:
            try:
                print(fuzz.judge(*loaded(given.input.read_text(encoding="ascii"))))
            except Broken as error:
                print(f"BROKEN: {error}")
                return 1
        return 0
    seed = given.seed if given.seed is not None else time.time_ns() % 2**32
    print(f"seed {seed}, {given.seconds:.0f} seconds", flush=True)
    return 1 if run(given.seconds, seed, given.folder) else 0


if __name__ == "__main__":
    sys.exit(main())
