"""Whom a rotation waits for among those who were given a certificate, told step by step; any order of it is searched in
tests/properties/test_takers_properties.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from fakes.audience import IDENTITIES, Client, Process, World
from spangate.adapters import workload_audience
from spangate.adapters.workload_audience import SLOW_SECONDS
from spangate.adapters.workload_takers import BACK_SECONDS
from spangate.authority.ledger import Life
from spangate.authority.template import SVID_LIFETIME_MAX

CHECKOUT, REPORTS = IDENTITIES


@pytest.fixture
def world() -> Iterator[World]:
    found = World(0, kills=False, strangers=False)
    yield found
    found.close()


def program(world: World, number: int, *, told: bool = True) -> Process:
    found = Process(number, CHECKOUT, Life("here", number, str(number)) if told else None)
    world.processes.append(found)
    return found


def coming(world: World, process: Process) -> Client:
    """A part of it that asks for a certificate."""
    client = Client(process)
    process.clients.append(client)
    world.loop.now(lambda: world.opens(client))
    return client


def listening(world: World, process: Process) -> Client:
    """A part of it that has been given a certificate."""
    client = coming(world, process)
    world.looks(1)
    assert client.listens
    return client


def closes(world: World, client: Client, *, connection: bool = True) -> None:
    if connection and client.connection:
        world.loop.now(client.connection.end)
    elif client.call:
        world.loop.now(client.call.over)


def holders(world: World) -> set[str]:
    return {holder for holder, _ in world.in_use()}


def generations(world: World) -> set[int]:
    return {generation for _, generation in world.in_use()}


def new_root_signs(world: World) -> int:
    for _ in range(2):
        world.rotate()
    return world.authority.state.signing


def test_who_becomes_somebody_else_and_listens_holds_nobody_up(world: World) -> None:
    listening(world, program(world, 1))
    moving = listening(world, program(world, 2))
    moving.process.identity = REPORTS
    assert moving.call
    closes(world, moving, connection=False)
    # Over the same connection, as clients do.
    world.loop.now(lambda: world.opens(moving))
    new = new_root_signs(world)
    world.looks(6)
    assert generations(world) == {new}
    assert len(holders(world)) == 2


@pytest.mark.parametrize("connection", [True, False])
def test_who_took_one_and_lives_is_waited_for_until_that_has_ended_and_no_longer(
    world: World, connection: bool
) -> None:
    """Also while the old root signs, when all others are given new ones again and again under the same name."""
    listening(world, program(world, 1))
    once = listening(world, program(world, 2))
    closes(world, once, connection=connection)
    (before,) = holders(world)
    world.looks(3)
    assert holders(world) == {before}
    for _ in range(int(SVID_LIFETIME_MAX / timedelta(minutes=20))):
        assert before in holders(world)
        world.clock.advance(timedelta(minutes=20))
        world.looks(3)
    world.clock.advance(timedelta(minutes=20))
    world.looks(3)
    (now,) = holders(world)
    assert now != before
    # And nothing is remembered of it.
    assert {one.holder for one in world.ledger.takers(world.clock.now())} == {now}
    assert world.peers_know() == {now}


def test_all_who_listen_are_told_of_a_certificate_that_a_newcomer_had_made(world: World) -> None:
    """As after the machine has slept, when the newcomer is faster than the next look."""
    first = listening(world, program(world, 1))
    had = set(first.may_have)
    world.clock.advance(SVID_LIFETIME_MAX + timedelta(minutes=1))
    second = coming(world, program(world, 2))
    for _ in range(50):
        world.turn()
        world.work()
    for client in (first, second):
        assert client.call
        client.call.arrive()
    assert second.may_have == first.may_have != had


def test_a_goodbye_that_could_not_be_said_is_said_later(world: World) -> None:
    alone = program(world, 1)
    listening(world, alone)
    world.disk.full = alone.ended = True
    world.loop.now(world.dead_are_noticed)
    world.looks(3)
    assert len(holders(world)) == 1
    world.disk.full = False
    world.looks(2)
    assert holders(world) == set()


@pytest.mark.parametrize("looks", range(3))
def test_a_kill_after_the_last_process_has_ended_leaves_nobody_to_wait_for(world: World, looks: int) -> None:
    alone = program(world, 1)
    listening(world, alone)
    alone.ended = True
    world.loop.now(world.dead_are_noticed)
    world.loop.now(world.second)
    for _ in range(looks * 4):
        world.turn()
        world.work()
    world.kill()
    world.looks(2)
    assert holders(world) == set()


@pytest.mark.parametrize("after", range(12))
def test_a_kill_at_any_moment_of_the_first_certificate_leaves_nobody_to_wait_for(world: World, after: int) -> None:
    client = coming(world, program(world, 1))
    for _ in range(after):
        world.turn()
        world.work()
    world.kill()
    client.process.ended = True
    world.looks(2)
    assert holders(world) == set()


def test_a_kill_finds_no_more_streams_written_down_than_there_were(world: World) -> None:
    client = coming(world, program(world, 1))
    for _ in range(30):
        world.turn()
        world.work()
        if client.listens and client.may_have:
            break
    world.kill()
    world.loop.now(lambda: world.opens(client))
    new = new_root_signs(world)
    world.looks(6)
    assert generations(world) == {new}


def test_who_does_not_read_for_a_minute_is_cut_off(world: World) -> None:
    listening(world, program(world, 1))
    slow = listening(world, program(world, 2))
    assert slow.call
    slow.call.slow = True
    new = new_root_signs(world)
    for _ in range(int(SLOW_SECONDS)):
        world.looks(1, all_read=False)
    assert slow.listens
    assert len(generations(world)) == 2
    for _ in range(6):
        world.looks(1, all_read=False)
    assert not slow.listens
    # It comes back when it can, and has what is new.
    world.loop.now(lambda: world.opens(slow))
    world.looks(6)
    assert generations(world) == {new}


def test_who_only_asked_in_the_moment_of_a_kill_follows_by_asking_again_once_all_had_the_time_to_come_back(
    world: World,
) -> None:
    asking = listening(world, program(world, 1))
    world.kill()
    new = new_root_signs(world)

    def asks() -> None:
        client = coming(world, asking.process)
        world.looks(1)
        closes(world, client)

    asks()
    world.looks(5)
    assert generations(world) == {1, new}
    for _ in range(int(BACK_SECONDS) - 8):
        world.looks(1)
    asks()
    assert generations(world) == {1, new}
    world.looks(10)
    asks()
    world.looks(6)
    assert generations(world) == {new}


def test_what_has_another_name_asks_for_no_more_streams_after_a_kill_than_there_are(world: World) -> None:
    """One of two parts of a process is closed while somebody else still has what was before."""
    process, other = program(world, 1), program(world, 2)
    stays, goes = listening(world, process), listening(world, process)
    closes(world, listening(world, other))
    new = new_root_signs(world)
    world.looks(3)
    closes(world, goes)
    world.looks(3)
    world.kill()
    world.loop.now(lambda: world.opens(stays))
    other.ended = True
    world.looks(6)
    assert generations(world) == {new}


def test_the_end_of_who_is_not_told_apart_is_seen_while_the_kernel_says_it_of_its_connection(world: World) -> None:
    listening(world, program(world, 1))
    stranger = program(world, 2, told=False)
    closes(world, listening(world, stranger))
    new = new_root_signs(world)
    world.looks(6)
    assert len(generations(world)) == 2
    stranger.ended = True
    world.looks(6)
    assert generations(world) == {new}


def test_who_is_not_told_apart_and_comes_again_and_again_takes_no_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload_audience, "_WATCHED_MAX", 4)
    listening(world, program(world, 1))
    stranger = program(world, 2, told=False)
    for _ in range(20):
        closes(world, listening(world, stranger))
    world.looks(2)
    # Name, process, four that are watched, and all others.
    assert len(world.ledger.takers(world.clock.now())) == 7


def test_nothing_is_written_down_of_who_has_gone_before_it_was_looked_at(world: World) -> None:
    listening(world, program(world, 1))
    client = coming(world, program(world, 2))
    assert client.connection
    world.loop.now(client.connection.end)
    world.looks(2)
    assert len(world.ledger.takers(world.clock.now())) == 2
