"""Who was given a certificate by the Workload API, in every order of what can happen: nobody who lives and has nothing
else is taken for gone, and once everybody follows or has ended nobody is waited for.
"""

from __future__ import annotations

import pytest

from fakes.audience import World

STEPS = 250
# Each some 50 ms.
SEEDS = 40


def run(seed: int, *, kills: bool, strangers: bool) -> None:
    world = World(seed, kills=kills, strangers=strangers)
    try:
        for _ in range(STEPS):
            world.step()
        world.settle()
        if not (kills and strangers):
            left = {generation for _, generation in world.in_use()}
            assert left <= {world.authority.state.signing}, "somebody is waited for though nobody is left behind"
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, kills {kills}, strangers {strangers}: {error}") from error
    finally:
        world.close()


@pytest.mark.parametrize(("kills", "strangers"), [(False, False), (True, False), (False, True), (True, True)])
def test_who_lives_is_waited_for_and_nobody_else(kills: bool, strangers: bool) -> None:
    for seed in range(SEEDS):
        run(seed, kills=kills, strangers=strangers)
