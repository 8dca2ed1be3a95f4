"""Promise: two rotations under load, with every part killed in the middle, and no client notices; what was signed under
a retired root is worth nothing afterwards. Whoever cannot follow holds a rotation, is named, and it can be turned back.

Certificates are what Google knows identities by here (`subject_token: mtls`), so the stand-in's trust store has to
follow the root, too. The emulator does not look at tokens; the gateway does: without one it sends nothing on, and asks
the broker anew when it was started anew.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import (
    CHECKOUT,
    GOOGLE,
    SPANGATE,
    Up,
    descendants,
    edit,
    eventually,
    lines_until,
    shop_folder,
    spangate,
)
from e2e.node_packages import CannotBeHad, node_command
from e2e.rotation.parts import (
    HERE,
    PHASES,
    SPIFFE_PROGRAM,
    TRUST_STORE,
    Load,
    Stolen,
    asked_of_google,
    begin,
    busy,
    confirm,
    kill,
    status,
    until,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]

# The packages of Google's client for Node.js.
NODE = HERE.parent / "other_clients" / "node"


@pytest.fixture(scope="module")
def up(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One for all tests: each leaves it as it found it, but for its root."""
    folder = shop_folder(tmp_path_factory.mktemp("rotation") / "shop")
    intent = folder / "spangate.yaml"
    intent.write_text(intent.read_text() + GOOGLE.replace("}", ", subject_token: mtls}"))
    edit(intent, ("workload: shop/checkout}", f"workload: shop/checkout, unix: {{user: {os.getuid()}}}}}"))
    found = Up(folder).wait_until_up()
    try:
        found.program("loader", "load.py")
        yield found
    finally:
        found.end()


@pytest.fixture
def load(up: Up) -> Iterator[Load]:
    found = Load(up)
    yield found
    found.kill()


@dataclass(frozen=True)
class Endured:
    """What came of two rotations: `results` of each program, `told` by `--status`, `node` why none was of Node.js, what
    a program of `up`'s own Workload API saw, and the roots that signed at first, after the first and after the second.
    """

    results: list[dict[str, Any]]
    told: dict[str, Any]
    node: str
    seen: list[dict[str, list[str]]]
    signers: list[str]


@pytest.fixture(scope="module")
def endured(up: Up) -> Iterator[Endured]:
    load = Load(up)
    with spiffe_program(up) as watcher:
        try:
            yield endure(up, load, watcher)
        finally:
            load.kill()
            watcher.kill()


def endure(up: Up, load: Load, watcher: subprocess.Popen[str]) -> Endured:
    """Two rotations, in which every part is killed. What was signed under either root that goes is tried in vain."""
    (first,) = [root["fingerprint"] for root in status(up)["roots"]]
    old = [Stolen(up)]
    load.start("checkout", "writer", 0.02)
    reader = load.start("reports", "reader", 0.02)
    why = ""
    try:
        load.run("reports", *node_command(NODE, HERE / "steady.js"), str(load.stop), "50")
    except CannotBeHad as reason:
        why = str(reason)
    time.sleep(3)

    begin(up)
    load.start("reports", "reader", 0.01, "20")
    kill(up.process.pid, "authority_process")
    kill(up.process.pid, "broker_process")
    until(up, "NEW_ROOT_SIGNS")
    load.start("checkout", "writer", 0.01, "10")
    kill(reader.pid, "client.json")
    kill(up.process.pid, "checkpoint_process")
    kill(up.process.pid, "standin_process")
    assert asked_of_google(up, CHECKOUT) == "granted"
    until(up, "STEADY")
    old[0].is_worth_nothing()

    old.append(Stolen(up))
    (second,) = [root["fingerprint"] for root in status(up)["roots"]]
    begin(up)
    kill(up.process.pid, "standin_process")
    until(up, "NEW_ROOT_SIGNS")
    load.start("reports", "reader", 0.01, "20")
    # Whoever asks the new gateway needs a token, and nobody has one any more.
    kill(up.process.pid, "broker_process")
    kill(up.process.pid, "gateway.json")
    old[1].connects_anew(up)
    until(up, "OLD_ROOT_RETIRED")
    kill(up.process.pid, "authority_process")
    told = until(up, "STEADY")
    load.start("checkout", "writer", 0.01, "5")
    time.sleep(3)
    for one in old:
        one.is_worth_nothing()
    (third,) = [root["fingerprint"] for root in told["roots"]]
    seen = lines_until(watcher, lambda line: json.loads(line) == {"trusts": [third], "uses": [third]})
    watcher.communicate("", timeout=30)
    return Endured(load.results(), told, why, [json.loads(line) for line in seen], [first, second, third])


def spiffe_program(up: Up) -> subprocess.Popen[str]:
    """A program of the public SPIFFE client that listens to the Workload API of `up` itself, whose end it outlives."""
    env = os.environ | {"SPIFFE_ENDPOINT_SOCKET": f"unix://{up.running['workload_socket']}"}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", SPIFFE_PROGRAM], env=env, stdin=pipe, stdout=pipe, text=True)


def test_two_rotations_under_load_with_every_part_killed_and_no_client_notices(up: Up, endured: Endured) -> None:
    failed = [failure for one in endured.results for failure in one["failed"]]
    assert failed == [], failed[0]
    assert sum(one["done"] for one in endured.results) > 200, endured.results
    assert len(endured.told["roots"]) == 1
    assert len(endured.told["let_go"]) == 2
    for phase in PHASES:
        assert up.printed.count(f"rotation: {phase}") == 2, up.printed


def test_a_program_of_the_workload_api_follows_though_the_authority_that_served_it_is_killed(endured: Endured) -> None:
    assert len(set(endured.signers)) == 3
    for before, after in pairwise(endured.signers):
        both = sorted([before, after])
        steps = [(both, before), (both, after), ([after], after)]
        found = [endured.seen.index({"trusts": trusts, "uses": [uses]}) for trusts, uses in steps]
        assert found == sorted(found), endured.seen


def test_a_client_in_node_js_was_among_them(endured: Endured) -> None:
    if endured.node:
        pytest.skip(endured.node)
    (found,) = [one for one in endured.results if one["what"] == "reader in Node.js"]
    assert found["failed"] == []
    assert found["done"] > 50


def test_a_client_that_is_stopped_holds_the_rotation_is_named_and_it_is_turned_back(up: Up, load: Load) -> None:
    client, other = busy(up, load)
    before = status(up)["roots"]
    os.kill(client.pid, signal.SIGSTOP)
    begin(up)

    def only_it() -> dict[str, Any] | None:
        found = status(up)
        assert found["phase"] == "NEW_ROOT_TRUSTED"
        names = [wait["who"] for wait in found["waits"]]
        return found["waits"][0] if len(names) == 1 and "shop/sa/checkout" in names[0] else None

    wait = eventually(only_it, "the stopped client alone is waited for", 30)
    told = spangate("rotate", "--status", cwd=up.folder).stdout
    assert "waits for run spiffe://shop.example/ns/shop/sa/checkout" in told
    # Silence is no consent, however long it lasts.
    eventually(lambda: "silent" in status(up)["waits"][0]["why"], f"{wait} falls silent", 40)
    assert status(up)["waits"][0]["until"] is not None
    time.sleep(3)
    assert status(up)["phase"] == "NEW_ROOT_TRUSTED"

    done = spangate("rotate", "--abandon", cwd=up.folder)
    assert done.returncode == 0, done.stderr
    found = status(up)
    assert found["phase"] == "STEADY"
    assert found["roots"] == before
    os.kill(client.pid, signal.SIGCONT)
    time.sleep(2)
    assert other.poll() is None
    assert [one["failed"] for one in load.results()] == [[], []]


def test_whoever_was_killed_holds_nothing_up_and_a_rotation_that_signs_can_be_turned_back(up: Up, load: Load) -> None:
    client, _ = busy(up, load)
    before = status(up)["roots"][0]["fingerprint"]
    # The command outlives a killed `run`, and would keep its pipes open.
    command = [pid for pid, line in descendants(client.pid).items() if "steady.py" in line]
    client.kill()
    for pid in command:
        os.kill(pid, signal.SIGKILL)
    client.communicate(timeout=30)
    load.running.remove(client)
    begin(up)
    until(up, "NEW_ROOT_SIGNS")
    done = spangate("rotate", "--abandon", cwd=up.folder)
    assert done.returncode == 0, done.stderr
    found = status(up)
    assert found["phase"] == "STEADY"
    assert [root["fingerprint"] for root in found["roots"]] == [before]
    assert [one["failed"] for one in load.results()] == [[]]


def test_googles_trust_store_is_a_peer_that_a_person_confirms(start_up: Callable[..., Up], tmp_path: Path) -> None:
    up = start_up(shop_folder(tmp_path / "shop"), *TRUST_STORE).wait_until_up()
    assert spangate("rotate", "--confirm", "google", cwd=up.folder).returncode == 2
    begin(up)
    eventually(lambda: [one["who"] for one in status(up)["waits"]] == ["google"], "Google's store alone is waited for")
    told = spangate("rotate", "--status", cwd=up.folder).stdout
    assert told.count("BEGIN CERTIFICATE") == 2
    assert "providers update-x509 spangate --project=123456789012" in told
    assert spangate("rotate", "--abandon", "--no-wait", cwd=up.folder).returncode == 0
    assert status(up)["phase"] == "NEW_ROOT_DROPPED"
    eventually(lambda: [one["who"] for one in status(up)["waits"]] == ["google"], "it is waited for again")
    assert spangate("rotate", "--status", cwd=up.folder).stdout.count("BEGIN CERTIFICATE") == 1
    confirm(up)
    until(up, "STEADY")


def test_a_program_that_uses_the_workload_api_of_run_is_waited_for_and_follows(up: Up) -> None:
    old = status(up)["roots"][0]["fingerprint"]
    argv = [SPANGATE, "run", "--as", "checkout", "--", sys.executable, "-c", SPIFFE_PROGRAM]
    with subprocess.Popen(
        argv, cwd=up.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.stdout is not None
            assert json.loads(program.stdout.readline()) == {"trusts": [old], "uses": [old]}
            begin(up)
            until(up, "STEADY")
            new = status(up)["roots"][0]["fingerprint"]
            assert new != old
            # The gate knows that its socket has it, not that the program has looked.
            lines = lines_until(program, lambda line: json.loads(line) == {"trusts": [new], "uses": [new]})
            more, complaints = program.communicate("", timeout=30)
        finally:
            program.kill()
    # Both are trusted before the new one signs, and until nothing of the old one is in use.
    assert {"trusts": sorted([old, new]), "uses": [old]} in map(json.loads, lines), (lines, complaints)
    assert (program.returncode, more) == (0, ""), complaints


def test_a_doctor_that_has_looked_holds_nothing_up(up: Up) -> None:
    before = status(up)["roots"][0]["fingerprint"]
    done = spangate("doctor", "--as", "reports", cwd=up.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    begin(up)
    until(up, "STEADY")
    assert status(up)["roots"][0]["fingerprint"] != before
