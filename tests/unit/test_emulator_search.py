"""Where the Spanner emulator is looked for, in which order, and what is said when there is none."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from spangate.adapters.emulator import (
    IMAGE,
    EmulatorFound,
    EmulatorKind,
    emulator_command,
    emulator_stop_command,
    find_emulator,
    free_port,
)
from spangate.errors import Broken, PeersFault, YourFault


def program(path: Path, exit_code: int = 0) -> Path:
    """An executable that ends at once with `exit_code`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nexit {exit_code}\n")
    path.chmod(0o755)
    return path


def sdk(root: Path) -> Path:
    """A Google Cloud CLI with the emulator component under `root`; returns the emulator."""
    return program(root / "bin/cloud_spanner_emulator/emulator_main")


def test_the_binary_on_path_comes_before_sdk_and_container(tmp_path):
    emulator = program(tmp_path / "bin/emulator_main")
    program(tmp_path / "bin/docker")
    sdk(tmp_path / "sdk")
    found = find_emulator({"PATH": str(tmp_path / "bin")}, sdk_roots=[tmp_path / "sdk"])
    assert found == EmulatorFound(EmulatorKind.BINARY, program=str(emulator))


def test_the_sdk_of_the_gcloud_on_path_is_found_through_its_symbolic_link(tmp_path):
    emulator = sdk(tmp_path / "lib/google-cloud-sdk")
    gcloud = program(tmp_path / "lib/google-cloud-sdk/bin/gcloud")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gcloud").symlink_to(gcloud)
    sdk(tmp_path / "elsewhere")
    found = find_emulator({"PATH": str(tmp_path / "bin")}, sdk_roots=[tmp_path / "elsewhere"])
    assert found.program == str(emulator)


@pytest.mark.parametrize(("variable", "below"), [("CLOUDSDK_ROOT_DIR", ""), ("HOME", "google-cloud-sdk")])
def test_the_sdk_root_of_the_environment_is_searched(tmp_path, variable, below):
    emulator = sdk(tmp_path / "x" / below)
    found = find_emulator({variable: str(tmp_path / "x")}, sdk_roots=[])
    assert found == EmulatorFound(EmulatorKind.BINARY, program=str(emulator))


def test_well_known_sdk_roots_come_before_a_container(tmp_path):
    emulator = sdk(tmp_path / "sdk")
    program(tmp_path / "bin/docker")
    found = find_emulator({"PATH": str(tmp_path / "bin")}, sdk_roots=[tmp_path / "none", tmp_path / "sdk"])
    assert found.program == str(emulator)


def test_a_file_that_may_not_be_executed_is_not_an_emulator(tmp_path):
    sdk(tmp_path / "sdk").chmod(0o644)
    with pytest.raises(YourFault, match="no Spanner emulator found"):
        find_emulator({"PATH": ""}, sdk_roots=[tmp_path / "sdk"])


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_container_engine_that_answers_is_the_last_resort(tmp_path, engine):
    path = program(tmp_path / engine)
    assert find_emulator({"PATH": str(tmp_path)}, sdk_roots=[]) == EmulatorFound(
        EmulatorKind.CONTAINER, program=str(path)
    )


def test_an_engine_that_does_not_answer_is_passed_over(tmp_path):
    program(tmp_path / "docker", exit_code=1)
    podman = program(tmp_path / "podman")
    assert find_emulator({"PATH": str(tmp_path)}, sdk_roots=[]).program == str(podman)


def test_without_any_emulator_one_message_says_how_to_get_one(tmp_path):
    docker = program(tmp_path / "docker", exit_code=1)
    with pytest.raises(YourFault) as caught:
        find_emulator({"PATH": str(tmp_path)}, sdk_roots=[])
    assert caught.value.message == f"no Spanner emulator found (`{docker}` found, but not answering)"
    for command in (
        "gcloud components install cloud-spanner-emulator",
        "apt-get install google-cloud-cli-spanner-emulator",
        "docker",
        "export SPANNER_EMULATOR_HOST=",
    ):
        assert command in caught.value.help


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9010", "127.0.0.1", ":9010", "127.0.0.1:", "127.0.0.1:0", "h:65536", "h:9010\n", "a b:1"],
)
def test_an_address_that_is_none_is_refused_although_a_binary_exists(tmp_path, address):
    program(tmp_path / "emulator_main")
    with pytest.raises(YourFault, match="not of the form host:port"):
        find_emulator({"PATH": str(tmp_path), "SPANNER_EMULATOR_HOST": address}, sdk_roots=[])


def test_an_address_where_nobody_answers_is_an_error_although_a_binary_exists(tmp_path):
    program(tmp_path / "emulator_main")
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(PeersFault, match=f"SPANNER_EMULATOR_HOST does not answer as Spanner at `{address}`"):
        find_emulator({"PATH": str(tmp_path), "SPANNER_EMULATOR_HOST": address}, sdk_roots=[])


def test_an_empty_address_counts_as_none(tmp_path):
    program(tmp_path / "emulator_main")
    found = find_emulator({"PATH": str(tmp_path), "SPANNER_EMULATOR_HOST": ""}, sdk_roots=[])
    assert found.kind is EmulatorKind.BINARY


def test_the_binary_is_told_to_listen_on_loopback():
    found = EmulatorFound(EmulatorKind.BINARY, program="/opt/emulator_main")
    assert emulator_command(found, 9010) == ["/opt/emulator_main", "--host_port=127.0.0.1:9010"]
    assert emulator_stop_command(found, 9010) is None


def test_the_container_is_published_on_loopback_only_and_can_be_removed_by_name():
    found = EmulatorFound(EmulatorKind.CONTAINER, program="/usr/bin/docker")
    command = emulator_command(found, 4711)
    assert command[:3] == ["/usr/bin/docker", "run", "--rm"]
    assert [command[i + 1] for i, word in enumerate(command) if word == "--publish"] == ["127.0.0.1:4711:9010"]
    assert command[-1] == IMAGE
    name = command[command.index("--name") + 1]
    assert emulator_stop_command(found, 4711) == ["/usr/bin/docker", "rm", "--force", name]


def test_a_running_emulator_is_not_ours_to_start():
    with pytest.raises(Broken, match="not ours to start"):
        emulator_command(EmulatorFound(EmulatorKind.RUNNING, address="127.0.0.1:9010"), 1)


def test_a_free_port_can_be_bound():
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))
