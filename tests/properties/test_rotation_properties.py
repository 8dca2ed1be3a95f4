"""The rotation of roots in every order of what can happen: whoever lives trusts whoever speaks, and it always ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fakes.rotation import Program, Stopped, World
from spangate.authority.rotation import TRANSITIONS, Abandoned, IllegalStep, Phase


class AnyOrder(RuleBasedStateMachine):
    @initialize(others=st.integers(0, 2))
    def begin_world(self, others: int) -> None:
        self.world = World()
        for _ in range(others):
            self.world.join()

    @rule()
    def second(self) -> None:
        self.world.tick()

    @rule(count=st.integers(2, 15))
    def seconds(self, count: int) -> None:
        for _ in range(count):
            self.world.tick()
            self.world.check()

    @rule(minutes=st.integers(1, 25))
    def pause(self, minutes: int) -> None:
        # Whoever runs renews at half of its life, so nobody who runs is taken by surprise.
        self.world.clock.advance(timedelta(minutes=minutes))
        self.world.tick()

    @precondition(lambda self: len(self.world.programs) < 6)
    @rule(reports=st.booleans(), lag=st.integers(0, 8), known=st.booleans())
    def join(self, reports: bool, lag: int, known: bool) -> None:
        self.world.join(reports=reports, lag=lag, known=known)

    def _some(self, data: Any) -> Program | None:
        others = [one for name, one in sorted(self.world.programs.items()) if name != "gateway"]
        return data.draw(st.sampled_from(others)) if others else None

    @rule(data=st.data())
    def stop_or_go_on(self, data: Any) -> None:
        program = self._some(data)
        if program:
            program.stopped = not program.stopped

    @rule(data=st.data(), goodbye=st.booleans())
    def die(self, data: Any, goodbye: bool) -> None:
        program = self._some(data)
        if program:
            del self.world.programs[program.name]
            if goodbye and program.reports:
                self.world.peers.gone(program.name)

    @rule()
    def rotate(self) -> None:
        if self.world.authority.state.phase is Phase.STEADY:
            self.world.rotator.begin()
        else:
            with pytest.raises(IllegalStep):
                self.world.rotator.begin()

    @rule()
    def abandon(self) -> None:
        phase = self.world.authority.state.phase
        if Abandoned in TRANSITIONS[phase]:
            self.world.rotator.abandon()
        else:
            with pytest.raises(IllegalStep):
                self.world.rotator.abandon()

    @rule()
    def confirm(self) -> None:
        self.world.confirm()

    @rule()
    def killed(self) -> None:
        phase = self.world.authority.state.phase
        self.world.start()
        assert self.world.authority.state.phase is phase

    @rule(operation=st.integers(0, 8))
    def killed_in_a_step(self, operation: int) -> None:
        self.world.kept.stop_in = operation
        try:
            for _ in range(3):
                if self.world.authority.state.phase is Phase.STEADY:
                    self.world.rotator.begin()
                self.world.tick()
        except Stopped:
            self.world.start()
        self.world.kept.stop_in = None

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()
            keys = {n for g in self.world.authority.state.generations for n in (g.root_key, g.intermediate_key)}
            self.world.start()
            assert set(self.world.kept.names()) == keys


class TestAnyOrder(AnyOrder.TestCase):
    settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
