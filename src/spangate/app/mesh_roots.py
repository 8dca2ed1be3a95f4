"""`spangate cacerts`: the secrets of a rotation of a mesh's root, and whether a step is one that the mesh survives.

Rules: nothing here talks to a cluster: a person applies each step, and waits in between.
Not here: rendering (cli/), what is right (authority/istio_secret.py).
"""

from __future__ import annotations

from pathlib import Path

from spangate.adapters.clock import SystemClock
from spangate.adapters.istio_files import cacerts_in, made_like, write_steps
from spangate.authority.istio_secret import CaCerts, Step, check_step, rotation_steps


def mesh_rotation(current: Path, new: Path | None, out: Path) -> tuple[Step, ...]:
    """The steps from the secret in `current` to the one in `new`, or to a new root made here, written below `out`."""
    now = SystemClock().now()
    before = cacerts_in(current, now)
    after, root_key = made_like(before, now) if new is None else (cacerts_in(new, now), None)
    steps = rotation_steps(before, after, now)
    write_steps(out, steps, root_key)
    return steps


def checked_step(current: Path, following: Path) -> tuple[CaCerts, CaCerts]:
    """The two secrets, if the second may follow the first. Raises BadSecret."""
    now = SystemClock().now()
    before, after = cacerts_in(current, now), cacerts_in(following, now)
    check_step(before, after)
    return before, after
