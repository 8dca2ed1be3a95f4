"""Promise: `up` and `run` start and end cleanly: nothing hangs, no process or secret stays, errors are clear."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.cloud.spanner_v1 import types

from e2e.harness import (
    CHECKOUT,
    DATABASE,
    SPANGATE,
    Client,
    Refused,
    Up,
    alive,
    credentials,
    descendants,
    edit,
    eventually,
    shop_folder,
    spangate,
)
from spangate.adapters.emulator import EmulatorKind, find_emulator

pytestmark = pytest.mark.e2e

StartUp = Callable[..., Up]


def assert_nothing_is_left(up: Up, directory: Path) -> None:
    eventually(lambda: not [pid for pid in up.children if alive(pid)], f"the children end: {up.children}", 10)
    assert not (up.state / "up.json").exists()
    assert not directory.exists()
    assert_no_secret(up.folder)


def assert_no_secret(folder: Path) -> None:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    assert [file for file in files if b"PRIVATE KEY" in file.read_bytes()] == []


# up


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_up_without_leaving_a_process_or_a_secret(
    start_up: StartUp, tmp_path: Path, number: signal.Signals
) -> None:
    up = start_up(shop_folder(tmp_path / "shop")).wait_until_up()
    directory = up.runtime
    assert len(up.children) >= 2
    assert_no_secret(directory)
    began = time.monotonic()
    assert up.end(number) == 0, up.printed
    assert time.monotonic() - began < 10
    assert_nothing_is_left(up, directory)
    assert "Traceback" not in up.printed


def test_a_signal_while_it_starts_ends_it_too(start_up: StartUp, tmp_path: Path) -> None:
    up = start_up(shop_folder(tmp_path / "shop"))
    eventually(lambda: "starting the" in up.printed, "something is being started", 30)
    up.children = descendants(up.process.pid)
    assert up.end() == 0, up.printed
    eventually(lambda: not [pid for pid in up.children if alive(pid)], "the children end", 10)
    assert not (up.state / "up.json").exists()
    assert "Traceback" not in up.printed


def test_even_sigkill_leaves_no_child_and_the_next_up_starts_as_if_nothing_had_been(
    start_up: StartUp, tmp_path: Path
) -> None:
    folder = shop_folder(tmp_path / "shop")
    up = start_up(folder).wait_until_up()
    up.kill()
    eventually(lambda: not [pid for pid in up.children if alive(pid)], f"the children end: {up.children}", 10)
    assert_no_secret(folder)
    # Nobody was left to remove it. It holds sockets, Envoy's configuration, and encrypted keys of no use to anybody.
    assert_no_secret(up.runtime)
    done = spangate("run", "--as", "checkout", "--", "true", cwd=folder)
    assert done.returncode == 1
    assert "does not run" in done.stderr
    again = start_up(folder).wait_until_up()
    directory = again.runtime
    assert not up.runtime.exists()
    assert again.end() == 0
    assert_nothing_is_left(again, directory)


def test_a_second_up_works_beside_the_first_but_not_in_its_folder(shop: Up, start_up: StartUp, tmp_path: Path) -> None:
    done = spangate("up", cwd=shop.folder)
    assert done.returncode == 1
    assert f"runs in this folder already (pid {shop.process.pid}, gateway {shop.running['gateway']})" in done.stderr
    second = start_up(shop_folder(tmp_path / "second")).wait_until_up()
    assert second.running["gateway"] != shop.running["gateway"]
    for up in (shop, second):
        assert "committed at" in up.program("loader", "load.py")
    # What one of them signs counts for nothing at the other.
    mine, theirs = shop.svid(CHECKOUT), second.svid(CHECKOUT)
    with Client(second.running["gateway"], credentials(theirs, mine)) as client:
        answer = client.sql("projects/spangate-local/instances/main/databases/shop/sessions/s", "SELECT 1")
    assert isinstance(answer, Refused)
    assert "is not accepted" in answer.details


def test_an_occupied_port_is_a_clear_error_and_leaves_nothing(shop: Up, start_up: StartUp, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = spangate("up", "--port", str(port), cwd=shop_folder(tmp_path / "shop"))
    assert done.returncode == 1
    assert "the port for the gateway is taken" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "shop" / ".spangate" / "up.json").exists()
    # `run` can be told a port as well.
    port = int(shop.running["gateway"].rpartition(":")[2])
    done = spangate("run", "--as", "checkout", "--port", str(port), "--", "true", cwd=shop.folder)
    assert done.returncode == 1
    assert "the port for the client is taken" in done.stderr


def test_a_chosen_port_is_used(start_up: StartUp, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    up = start_up(shop_folder(tmp_path / "shop"), "--port", str(port), "--workers", "1").wait_until_up()
    assert up.running["gateway"] == f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("part", "name"),
    [("authority_process", "authority"), ("checkpoint_process", "checkpoint"), ("gateway.json", "gateway")],
)
def test_a_part_that_dies_is_started_again_where_it_was_and_told(shop: Up, part: str, name: str) -> None:
    root = shop.svid(CHECKOUT).secrets.bundle_pem
    told = shop.printed.count(f"the {name} ended (signal 9); started again\n")
    shop.kill_part(part)
    # At once: whoever asks waits, or asks again, and notices nothing else.
    assert "committed at" in shop.program("loader", "load.py")
    assert shop.svid(CHECKOUT).secrets.bundle_pem == root
    assert shop.printed.count(f"the {name} ended (signal 9); started again\n") == told + 1
    # The rest is as it was, and no second one stays behind.
    assert sorted(_parts(shop.children)) == sorted(_parts(descendants(shop.process.pid)))


def _parts(children: dict[int, str]) -> list[str]:
    known = ("authority_process", "checkpoint_process", "gateway.json", "emulator_main")
    return [part for line in children.values() for part in known if part in line]


def test_a_part_that_does_not_live_is_given_up_and_the_rest_is_torn_down(start_up: StartUp, tmp_path: Path) -> None:
    up = start_up(shop_folder(tmp_path / "shop")).wait_until_up()
    directory = up.runtime
    # What it cannot start without.
    (directory / "gateway.json").write_text("{")
    os.kill(up.gateway_pid, signal.SIGKILL)
    code = up.process.wait(20)
    assert code == 1, up.printed
    assert "the gateway ended (signal 9); started again\n" in up.printed
    assert "started again in 4 s\n" in up.printed
    assert "error: the gateway ended (exit code 1), for the 6th time within 60 s; it said last:" in up.printed
    assert_nothing_is_left(up, directory)


def test_a_checkpoint_that_dies_while_the_intent_is_broken_waits_for_it_to_be_mended(
    start_up: StartUp, tmp_path: Path
) -> None:
    folder = shop_folder(tmp_path / "shop")
    up = start_up(folder).wait_until_up()
    whole = ("insert: [Customers]", "insert: [Custmers]")
    edit(folder / "spangate.yaml", whole)
    up.kill_part("checkpoint_process")
    eventually(lambda: "nothing new is allowed until it is mended: " in up.printed, "it is told", 15)
    with up.client(CHECKOUT) as client:
        refusal = client.refusal("CreateSession", types.CreateSessionRequest(database=DATABASE))
    assert refusal.code is grpc.StatusCode.UNAVAILABLE
    edit(folder / "spangate.yaml", (whole[1], whole[0]))
    assert "committed at" in up.program("loader", "load.py")
    assert up.end() == 0, up.printed


def test_when_the_emulator_dies_its_data_is_gone_and_the_rest_is_torn_down(start_up: StartUp, tmp_path: Path) -> None:
    up = start_up(shop_folder(tmp_path / "shop")).wait_until_up()
    directory = up.runtime
    if find_emulator(os.environ).kind is not EmulatorKind.BINARY:
        assert not [line for line in up.children.values() if "emulator_main" in line], "it is not ours to watch"
        return
    pid = up.child("emulator_main")
    os.kill(pid, signal.SIGKILL)
    code = up.process.wait(10)
    assert code == 1, up.printed
    assert f"error: Spanner emulator (pid {pid}) ended by SIGKILL" in up.printed
    assert_nothing_is_left(up, directory)


def test_a_broken_intent_is_told_with_places_before_anything_starts(tmp_path: Path) -> None:
    folder = shop_folder(tmp_path / "shop")
    edit(
        folder / "spangate.yaml",
        ("Orders(Status, Total", "Orders(Statsu, Total"),
        ("insert: [Customers]", "insert: [Custmers]"),
    )
    done = spangate("up", cwd=folder)
    assert done.returncode == 2
    assert re.search(r"spangate\.yaml:\d+:\d+: .*`Custmers`.*", done.stderr)
    assert re.search(r"spangate\.yaml:\d+:\d+: .*`Statsu`.*", done.stderr)
    assert "Status" in done.stderr
    assert "Customers" in done.stderr
    assert not (folder / ".spangate").exists()


def test_without_an_intent_or_an_emulator_it_says_what_to_do(tmp_path: Path) -> None:
    done = spangate("up", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no file `spangate.yaml`" in done.stderr
    assert "spangate init" in done.stderr
    folder = shop_folder(tmp_path / "shop")
    done = spangate("up", cwd=folder, SPANNER_EMULATOR_HOST="nonsense")
    assert done.returncode == 2
    assert "SPANNER_EMULATOR_HOST is `nonsense`" in done.stderr


# run


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
)
def test_run_passes_the_exit_code_on(shop: Up, script: str, code: int) -> None:
    done = shop.run("checkout", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_to_run_reach_the_command(shop: Up, tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "ready"
    program = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: (print('asked to end', flush=True), sys.exit(7)))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)\n"
    )
    command = [str(SPANGATE), "run", "--as", "checkout", "--", sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=shop.folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            eventually(ready.exists, "the command runs")
            process.send_signal(number)
            output, _ = process.communicate(timeout=20)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    assert (process.returncode, output) == (7, "asked to end\n")


def test_run_leaves_no_process_and_no_file(shop: Up) -> None:
    log = shop.state / "logs"
    before = sorted(log.iterdir())
    command = [str(SPANGATE), "run", "--as", "checkout", "--", "sh", "-c", "echo $SPANNER_EMULATOR_HOST; read gone"]
    with subprocess.Popen(
        command, cwd=shop.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        below = descendants(process.pid)
        assert any("client.json" in line for line in below.values())
        process.communicate("\n", timeout=20)
    assert process.returncode == 0
    assert not [pid for pid in below if alive(pid)]
    assert sorted(log.iterdir()) == before
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0


def test_run_killed_leaves_no_client_side_envoy(shop: Up) -> None:
    command = [str(SPANGATE), "run", "--as", "checkout", "--", "sh", "-c", "echo up; read gone"]
    with subprocess.Popen(
        command, cwd=shop.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        ((envoy, line),) = [entry for entry in descendants(process.pid).items() if "client.json" in entry[1]]
        process.kill()
    eventually(lambda: not alive(envoy), "the client-side Envoy ends", 10)
    directory = Path(line.split("--config-path ")[1].split()[0]).parent
    assert_no_secret(directory)
    shutil.rmtree(directory)


def test_run_without_up_or_with_a_mistyped_name_says_what_to_do(shop: Up, tmp_path: Path) -> None:
    folder = shop_folder(tmp_path / "shop")
    done = spangate("run", "--as", "checkout", "--", "true", cwd=folder)
    assert done.returncode == 1
    assert "`spangate up` does not run in" in done.stderr
    assert "start it there" in done.stderr

    done = shop.run("chekout", "true")
    assert done.returncode == 2
    assert "the intent has no identity `chekout`" in done.stderr
    assert "did you mean `checkout`?" in done.stderr

    done = shop.run("checkout", "no-such-program")
    assert done.returncode == 2
    assert "there is no command `no-such-program`" in done.stderr


def test_run_does_not_give_out_the_gateways_own_identity(shop: Up) -> None:
    done = shop.run(shop.running["gateway_identity"], "true")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


# The certificate doors

# Asks the door beside the Workload API for the certificate and its key.
_ASKS = """
import os, pathlib, socket
asked = socket.socket(socket.AF_UNIX)
asked.settimeout(10)
asked.connect(str(pathlib.Path(os.environ["SPIFFE_ENDPOINT_SOCKET"].removeprefix("unix://")).with_name("sds.sock")))
body = b'{"resource_names": ["svid"]}'
try:
    head = b"POST /v3/discovery:secrets HTTP/1.1\\r\\nhost: x\\r\\ncontent-length: %d\\r\\n\\r\\n"
    asked.sendall(head % len(body) + body)
    print("got", len(asked.recv(4096)))
except OSError:
    print("got 0")
"""


def test_the_certificate_doors_are_for_the_envoys_alone(shop: Up) -> None:
    """Of `up` and of `run`; the same user, and even a descendant of `run`, gets neither key nor certificate."""
    done = shop.run("checkout", sys.executable, "-c", _ASKS)
    assert done.stdout == "got 0\n", done
    assert re.fullmatch(
        r"spangate: the certificate door refused process \d+ \('/.*'\): it is for the Envoy that was started for it "
        r"alone\n",
        done.stderr,
    )
    env = {"SPIFFE_ENDPOINT_SOCKET": f"unix://{shop.runtime}/workload.sock"}
    assert subprocess.run([sys.executable, "-c", _ASKS], env=env, capture_output=True, check=True).stdout == b"got 0\n"
    eventually(lambda: "the gateway's certificate door refused process" in shop.printed, "it is told", 10)
