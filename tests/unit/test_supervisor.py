"""A part that ends is started again where it was, told, and given up when it does not live."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from spangate.adapters.process import Child
from spangate.app.restarts import PAUSES_SECONDS
from spangate.app.starting import Starting
from spangate.app.stopping import Stop, Stopped
from spangate.app.supervisor import Part, Relay
from spangate.errors import PeersFault, YourFault

WAIT_SECONDS_MAX = 10.0


class FakeTime:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def sleeper(tmp_path: Path) -> Child:
    return Child("gateway", ["sleep", "60"], tmp_path / "log")


def short(tmp_path: Path, words: str = "no more") -> Child:
    child = Child("gateway", ["sh", "-c", f"echo {words}; exit 3"], tmp_path / "log")
    until(lambda: child.exit_code() is not None)
    return child


def test_a_killed_part_is_started_again_at_once_and_told(tmp_path: Path) -> None:
    said: list[str] = []
    part = Part(sleeper(tmp_path), lambda: sleeper(tmp_path), FakeTime())
    try:
        part.look(said.append)
        first = part.child.pid
        os.kill(first, signal.SIGKILL)
        until(lambda: part.child.exit_code() is not None)
        part.look(said.append)
        assert part.child.pid != first
        assert part.child.exit_code() is None
        assert said == ["the gateway ended (signal 9); started again"]
    finally:
        part.stop()


def test_one_that_does_not_live_gets_pauses_and_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    said: list[str] = []
    clock = FakeTime()
    starts = 0

    def start() -> Child:
        nonlocal starts
        starts += 1
        return short(tmp_path)

    part = Part(short(tmp_path), start, clock)
    for pause in PAUSES_SECONDS:
        before = starts
        part.look(said.append)
        if pause:
            assert starts == before, "it was not due yet"
            clock.now += pause
            part.look(said.append)
        assert starts == before + 1
    with pytest.raises(
        PeersFault, match=r"(?s)the gateway ended \(exit code 3\), for the 6th time within 60 s; it said last:.*no more"
    ):
        part.look(said.append)
    assert said[:2] == [
        "the gateway ended (exit code 3); started again",
        "the gateway ended (exit code 3); started again in 0.25 s",
    ]
    part.stop()


def test_what_somebody_has_to_mend_is_not_tried_again(tmp_path: Path) -> None:
    child = Child("authority", ["sh", "-c", "echo error: the PIN was refused; exit 2"], tmp_path / "log")
    until(lambda: child.exit_code() is not None)
    part = Part(child, lambda: short(tmp_path))
    with pytest.raises(PeersFault, match=r"(?s)authority .* exit code 2.*the PIN was refused"):
        part.look(lambda _: None)


def test_one_that_cannot_be_started_is_tried_again_and_given_up(tmp_path: Path) -> None:
    clock = FakeTime()

    def start() -> Child:
        raise PeersFault("no room")

    part = Part(short(tmp_path), start, clock)
    # The first look sees the end, and the first start fail.
    for pause in PAUSES_SECONDS[:-1]:
        clock.now += pause
        part.look(lambda _: None)
    clock.now += max(PAUSES_SECONDS)
    with pytest.raises(PeersFault, match=r"the gateway cannot start \(no room\), for the 6th time within 60 s"):
        part.look(lambda _: None)
    part.stop()


def test_the_end_of_a_part_that_is_not_to_be_started_again_is_an_error(tmp_path: Path) -> None:
    part = Part(short(tmp_path), None)
    with pytest.raises(PeersFault, match=r"(?s)gateway \(pid \d+\) ended with exit code 3.*no more"):
        part.look(lambda _: None)


def test_what_a_part_prints_is_passed_on_once_line_by_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    relay = Relay(log)
    assert list(relay.lines()) == []
    log.write_text("one\ntw")
    assert list(relay.lines()) == ["one"]
    with log.open("a") as file:
        file.write("o\n")
    assert list(relay.lines()) == ["two"]
    assert list(relay.lines()) == []


# At the start


def python(program: str, tmp_path: Path, pipe: object) -> Child:
    number = pipe.writing  # type: ignore[attr-defined]
    return Child("checkpoint", [sys.executable, "-c", program, str(number)], tmp_path / "log", descriptors=[number])


READY = "import os, sys, time; os.write(int(sys.argv[1]), b'ready'); os.close(int(sys.argv[1])); time.sleep(60)"


def test_a_child_is_waited_for_until_it_says_that_it_serves(tmp_path: Path) -> None:
    with ExitStack() as stack:
        child = Starting(stack, lambda pipe: python(READY, tmp_path, pipe)).wait(Stop())
        assert child.exit_code() is None
        child.stop()


@pytest.mark.parametrize(
    ("program", "kind", "message", "hint"),
    [
        ("print('error: no such thing\\nhelp: make one'); raise SystemExit(2)", YourFault, "no such thing", "make one"),
        ("print('error: no such thing'); raise SystemExit(2)", YourFault, "no such thing", None),
        ("print('error: not now'); raise SystemExit(1)", PeersFault, "checkpoint .* exit code 1.*not now", None),
        ("raise SystemExit(2)", PeersFault, "checkpoint .* exit code 2", None),
        ("import os; os.kill(os.getpid(), 9)", PeersFault, "checkpoint .* SIGKILL", None),
    ],
)
def test_a_child_that_ends_instead_is_an_error_of_whoever_can_mend_it(
    tmp_path: Path, program: str, kind: type[PeersFault | YourFault], message: str, hint: str | None
) -> None:
    with ExitStack() as stack, pytest.raises(kind, match=f"(?s){message}") as caught:
        Starting(stack, lambda pipe: python(program, tmp_path, pipe)).wait(Stop())
    assert caught.value.help == hint


def test_a_child_that_never_serves_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spangate.app.starting.START_SECONDS_MAX", 0.3)
    with ExitStack() as stack:
        starting = Starting(stack, lambda pipe: python("import time; time.sleep(60)", tmp_path, pipe))
        stack.callback(starting.child.stop)
        with pytest.raises(PeersFault, match="the checkpoint did not start in 0 s"):
            starting.wait(Stop())


def test_a_signal_ends_the_wait(tmp_path: Path) -> None:
    stop = Stop()
    stop.asked = True
    with ExitStack() as stack:
        starting = Starting(stack, lambda pipe: python("import time; time.sleep(60)", tmp_path, pipe))
        stack.callback(starting.child.stop)
        with pytest.raises(Stopped):
            starting.wait(stop)
