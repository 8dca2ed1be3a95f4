"""What others cause is said once in a while, however often they cause it."""

from __future__ import annotations

from spangate.adapters.seldom import SILENCE_SECONDS, Seldom


def test_it_is_silent_for_a_while_after_each_sentence() -> None:
    said: list[str] = []
    now = 100.0
    seldom = Seldom(said.append, seconds=lambda: now)
    for text in ("one", "two", "three"):
        seldom.say(text)
    now += SILENCE_SECONDS
    seldom.say("four")
    seldom.say("five")
    assert said == ["one", "four"]
