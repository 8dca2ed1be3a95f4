"""Finding the official Spanner emulator, and the command line that starts it.

Rules: looked for in this order, first hit wins: SPANNER_EMULATOR_HOST (used as it is, never started or stopped by us),
`emulator_main` on PATH, `emulator_main` under the root of an installed Google Cloud CLI, a container engine that
answers. Nothing is downloaded here except what the container engine itself pulls. A server of ours listens on
loopback only. The emulator knows no TLS, no identity and no role: nobody but the gateway should be told its address.
Not here: starting and watching processes (adapters/process.py), talking to Spanner (adapters/spanner.py).
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from spangate.adapters.spanner import check_answers
from spangate.errors import Broken, YourFault

# The version the tests run against, and the newest in the Google Cloud CLI's Debian package when they were written.
IMAGE = "gcr.io/cloud-spanner-emulator/emulator:1.5.28"
# The image's own gRPC port (EXPOSE 9010 in its Dockerfile).
IMAGE_PORT = 9010

# Where a Google Cloud CLI keeps the component `cloud-spanner-emulator`, below its root.
COMPONENT_PATH = Path("bin/cloud_spanner_emulator/emulator_main")
# Debian package, distribution packages, tarball by an administrator, snap.
SDK_ROOTS = (
    Path("/usr/lib/google-cloud-sdk"),
    Path("/usr/share/google-cloud-sdk"),
    Path("/opt/google-cloud-sdk"),
    Path("/snap/google-cloud-cli/current"),
    Path("/snap/google-cloud-sdk/current"),
)
ENGINES = ("docker", "podman")

# An engine whose daemon is down answers `info` within a second; one that hangs is of no use.
ENGINE_ANSWERS_SECONDS = 5.0
# A running emulator answers in 1 ms; this allows for one in another container under load.
RUNNING_ANSWERS_SECONDS = 5.0
# The binary answers after 0.2 to 3 s. A container may have to be pulled first (some 80 MB).
BINARY_START_SECONDS = 20.0
CONTAINER_START_SECONDS = 180.0

_HOST_PORT = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", re.ASCII)
_PORT_MAX = 65535

_HOW_TO_GET_IT = """get it in one of these ways:
  gcloud components install cloud-spanner-emulator
  sudo apt-get install google-cloud-cli-spanner-emulator   # from Google's package source
  install and start docker or podman                       # the emulator's image is then pulled when needed
or name one that runs already: export SPANNER_EMULATOR_HOST=127.0.0.1:9010"""


class EmulatorKind(StrEnum):
    """How the emulator is to be had."""

    RUNNING = "running"
    BINARY = "binary"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class EmulatorFound:
    """An emulator that can be used.

    RUNNING: `address` is `host:port`. BINARY: `program` is `emulator_main`. CONTAINER: `program` is the engine.
    """

    kind: EmulatorKind
    address: str = ""
    program: str = ""

    def __str__(self) -> str:
        match self.kind:
            case EmulatorKind.RUNNING:
                return f"emulator running at {self.address}"
            case EmulatorKind.BINARY:
                return f"emulator {self.program}"
            case EmulatorKind.CONTAINER:
                return f"emulator {IMAGE} in {self.program}"

    @property
    def start_seconds_max(self) -> float:
        """How long to wait for its first answer, in seconds."""
        match self.kind:
            case EmulatorKind.RUNNING:
                return RUNNING_ANSWERS_SECONDS
            case EmulatorKind.BINARY:
                return BINARY_START_SECONDS
            case EmulatorKind.CONTAINER:
                return CONTAINER_START_SECONDS


def find_emulator(env: Mapping[str, str], *, sdk_roots: Iterable[Path] = SDK_ROOTS) -> EmulatorFound:
    """The emulator to use under the environment `env`.

    YourFault if SPANNER_EMULATOR_HOST is set and unusable (it is never passed over: whoever set it means that one), or
    if there is no emulator at all; the help then says how to get one.
    """
    running = env.get("SPANNER_EMULATOR_HOST", "")
    if running:
        return _running(running)
    binary = shutil.which("emulator_main", path=env.get("PATH", ""))
    if binary is not None:
        return EmulatorFound(EmulatorKind.BINARY, program=binary)
    for root in (*_own_sdk_roots(env), *sdk_roots):
        candidate = root / COMPONENT_PATH
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return EmulatorFound(EmulatorKind.BINARY, program=str(candidate))
    silent = []
    for name in ENGINES:
        engine = shutil.which(name, path=env.get("PATH", ""))
        if engine is not None:
            if _engine_answers(engine, env):
                return EmulatorFound(EmulatorKind.CONTAINER, program=engine)
            silent.append(engine)
    note = f" (`{'`, `'.join(silent)}` found, but not answering)" if silent else ""
    raise YourFault(f"no Spanner emulator found{note}", help=_HOW_TO_GET_IT)


def emulator_command(found: EmulatorFound, port: int) -> list[str]:
    """The command that serves Spanner's gRPC on 127.0.0.1:`port` in the foreground until it gets SIGTERM.

    Broken for an emulator that runs already.
    """
    match found.kind:
        case EmulatorKind.BINARY:
            return [found.program, f"--host_port=127.0.0.1:{port}"]
        case EmulatorKind.CONTAINER:
            publish = f"127.0.0.1:{port}:{IMAGE_PORT}"
            return [found.program, "run", "--rm", "--name", _container_name(port), "--publish", publish, IMAGE]
        case EmulatorKind.RUNNING:
            raise Broken(f"the emulator at `{found.address}` runs already and is not ours to start")


def emulator_stop_command(found: EmulatorFound, port: int) -> list[str] | None:
    """The command that removes what is left when the process of `emulator_command` had to be killed, or None.

    A container outlives the killed client that started it; a binary leaves nothing.
    """
    if found.kind is EmulatorKind.CONTAINER:
        return [found.program, "rm", "--force", _container_name(port)]
    return None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago.

    Somebody else may take it before its user does; then that user fails to start and says so.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _running(address: str) -> EmulatorFound:
    match = _HOST_PORT.fullmatch(address)
    if match is None or not 0 < int(match[1]) <= _PORT_MAX:
        raise YourFault(
            f"SPANNER_EMULATOR_HOST is `{address}`, which is not of the form host:port",
            help="without a scheme, for example: export SPANNER_EMULATOR_HOST=127.0.0.1:9010",
        )
    check_answers(address, RUNNING_ANSWERS_SECONDS, called="SPANNER_EMULATOR_HOST")
    return EmulatorFound(EmulatorKind.RUNNING, address=address)


def _own_sdk_roots(env: Mapping[str, str]) -> Iterable[Path]:
    """Roots that this user's environment points to, the likeliest first."""
    gcloud = shutil.which("gcloud", path=env.get("PATH", ""))
    if gcloud is not None:
        yield Path(gcloud).resolve().parent.parent
    if env.get("CLOUDSDK_ROOT_DIR"):
        yield Path(env["CLOUDSDK_ROOT_DIR"])
    if env.get("HOME"):
        yield Path(env["HOME"]) / "google-cloud-sdk"


def _engine_answers(engine: str, env: Mapping[str, str]) -> bool:
    """Whether `info` succeeds: `docker` is often installed where no daemon runs."""
    command: Sequence[str] = (engine, "info")
    try:
        done = subprocess.run(  # noqa: S603 - a fixed word to a program found on the user's own PATH
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=ENGINE_ANSWERS_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _container_name(port: int) -> str:
    return f"spangate-spanner-emulator-{port}"
