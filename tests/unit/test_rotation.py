"""The rotation of roots, step by step: what is legal, what it waits for, and that a kill loses nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fakes.rotation import Stopped, World
from spangate.authority.bundle_readers import BundleReaders
from spangate.authority.peers import LEASE
from spangate.authority.rotation import AWAITED, TRANSITIONS, Event, IllegalStep, Phase, RootStaged, after
from spangate.authority.rotator import DWELL, SETTLE, Rotator
from spangate.authority.template import SVID_LIFETIME_MAX


@pytest.mark.parametrize("operation", range(40))
def test_a_kill_between_any_two_operations_of_two_rotations_loses_nothing(operation: int) -> None:
    world = World()
    world.join()
    first = world.bundle()
    world.kept.stop_in = operation
    rotations = 0
    for _ in range(200):
        try:
            if world.authority.state.phase is Phase.STEADY:
                if world.authority.state.numbers == 3:
                    break
                world.rotator.begin()
                rotations += 1
            world.confirm()
            world.tick()
        except Stopped:
            before = world.kept.state
            world.start()
            assert world.authority.state == before
        world.check()
    assert world.authority.state.numbers == 3
    assert not world.bundle() & first
    assert len(world.kept.names()) == 2


def test_every_phase_is_reached_and_left_and_nothing_else_is_legal() -> None:
    events: set[type[Event]] = {event for row in TRANSITIONS.values() for event in row}
    reached = {Phase.STEADY}
    while True:
        further = {following for phase in reached for following in TRANSITIONS[phase].values()}
        if further <= reached:
            break
        reached |= further
    assert reached == set(Phase)
    for phase in Phase:
        for event in events:
            if event in TRANSITIONS[phase]:
                assert after(phase, event()) is TRANSITIONS[phase][event]
            else:
                with pytest.raises(IllegalStep):
                    after(phase, event())
        if phase is not Phase.STEADY:
            assert type(AWAITED[phase]) in TRANSITIONS[phase]


def test_nothing_is_concluded_in_the_first_seconds_of_a_process_or_of_a_phase() -> None:
    world = World()
    world.rotator.begin()
    world.confirm()
    world.tick()
    assert world.authority.state.phase is Phase.NEW_ROOT_TRUSTED
    world.clock.advance(SETTLE + DWELL)
    world.tick()
    world.tick()
    assert world.authority.state.phase is Phase.NEW_ROOT_SIGNS


def test_a_stopped_program_holds_the_rotation_until_its_certificate_has_ended_and_is_named() -> None:
    world = World()
    world.join()
    world.tick()
    program = world.programs["program-2"]
    program.stopped = True
    world.rotator.begin()
    world.confirm()
    for _ in range(60):
        world.tick()
    assert world.authority.state.phase is Phase.NEW_ROOT_TRUSTED
    (wait,) = world.rotator.status().waits
    assert "shop/sa/checkout" in wait.who
    assert "silent" in wait.why
    assert wait.until == program.ends
    world.clock.set(program.ends + timedelta(seconds=1))
    world.tick()
    world.tick()
    assert world.authority.state.phase is not Phase.NEW_ROOT_TRUSTED


def test_a_gateway_that_is_not_heard_of_holds_everything() -> None:
    world = World()
    world.programs["gateway"].stopped = True
    world.rotator.begin()
    world.confirm()
    world.clock.advance(LEASE + SETTLE + SVID_LIFETIME_MAX)
    world.rotator.tick()
    assert world.authority.state.phase is Phase.NEW_ROOT_TRUSTED
    assert [wait.who for wait in world.rotator.status().waits] == ["gateway"]


def test_who_reads_the_published_bundle_has_the_time_to_look_again_before_another_root_signs() -> None:
    """Federated trust domains are no peers: they look as often as the bundle says."""
    world = World()
    world.join()
    world.tick()
    readers = BundleReaders(lambda: world.authority.state, world.clock.now, look_again=timedelta(minutes=2))
    world.rotator = Rotator(
        world.authority, world.peers, world.ledger, world.clock, readers_until=readers.until, every=None
    )
    readers.read()
    read = world.clock.now()
    world.rotator.begin()
    world.confirm()
    for _ in range(2):
        world.tick()
        # What is read now has the new root in it: nobody has to look again for that.
        readers.read()
    while world.clock.now() < read + timedelta(minutes=2):
        assert world.authority.state.phase is Phase.NEW_ROOT_TRUSTED
        (wait,) = [one for one in world.rotator.status().waits if one.who.startswith("readers")]
        assert wait.until == read + timedelta(minutes=2)
        world.tick()
    world.tick()
    assert world.authority.state.phase is not Phase.NEW_ROOT_TRUSTED


def test_who_read_the_published_bundle_long_ago_or_never_is_not_waited_for() -> None:
    world = World()
    readers = BundleReaders(lambda: world.authority.state, world.clock.now, look_again=timedelta(minutes=2))
    assert readers.until(world.authority.state) is None
    readers.read()
    assert readers.until(world.authority.state) is None
    world.clock.advance(timedelta(minutes=3))
    world.rotator.begin()
    until = readers.until(world.authority.state)
    assert until is not None
    assert until < world.clock.now()


def test_an_abandoned_rotation_ends_where_it_began() -> None:
    for steps in (1, 40):
        world = World()
        world.join()
        before = world.bundle()
        world.rotator.begin()
        world.confirm()
        for _ in range(steps):
            world.tick()
            if world.authority.state.phase is Phase.NEW_ROOT_SIGNS:
                break
        world.rotator.abandon()
        world.finish()
        assert world.bundle() == before
        assert len(world.kept.names()) == 2
        with pytest.raises(IllegalStep):
            world.rotator.abandon()


def test_a_rotation_begins_by_itself_when_the_root_is_old_enough() -> None:
    world = World()
    rotator = Rotator(world.authority, world.peers, world.ledger, world.clock, every=timedelta(days=90))
    rotator.tick()
    assert world.authority.state.phase is Phase.STEADY
    assert rotator.status().next is not None
    world.clock.advance(timedelta(days=90))
    rotator.tick()
    assert world.authority.state.phase is Phase.NEW_ROOT_TRUSTED
    assert rotator.status().next is None


def test_only_a_new_root_is_staged() -> None:
    world = World()
    with pytest.raises(IllegalStep):
        world.rotator.abandon()
    world.rotator.begin()
    with pytest.raises(IllegalStep):
        world.authority.step(RootStaged())
