"""The stand-in for Google as the process that `spangate up` starts."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

START_SECONDS_MAX = 60
_URL = re.compile(r"https?://127\.0\.0\.1:[0-9]+")


class StandInProcess:
    """Started on entry, ended on exit. `url`: where it answers. `listener`: what it is to listen on."""

    def __init__(
        self, config: Mapping[str, Any], directory: Path, *options: str, listener: socket.socket | None = None
    ) -> None:
        self.config = directory / "standin.json"
        self.config.write_text(json.dumps(config))
        self._options = options
        self._inherited = () if listener is None else (listener.fileno(),)
        self.said: list[str] = []
        self.url = ""

    def __enter__(self) -> StandInProcess:
        argv = [sys.executable, "-m", "spangate.app.standin_process", "--config", str(self.config), *self._options]
        for descriptor in self._inherited:
            argv += ["--socket-fd", str(descriptor)]
        self.process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, pass_fds=self._inherited
        )
        watchdog = threading.Timer(START_SECONDS_MAX, self.process.kill)
        watchdog.start()
        self.url = self.next_url()
        watchdog.cancel()
        return self

    def next_url(self) -> str:
        """The URL in the next line that has one."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            found = _URL.search(line)
            if found:
                return found[0]
        raise AssertionError(f"the stand-in did not start: {self.said}")

    def next_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def put(self, what: str, value: Any) -> None:
        """What only a stand-in that is ruled takes: faults, another configuration."""
        request = urllib.request.Request(f"{self.url}/standin/{what}", json.dumps(value).encode(), method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def asked(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/standin/asked", timeout=10) as answer:
            return dict(json.load(answer))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        self._ended()
        assert self.process.returncode == 0, self.said

    def kill(self) -> None:
        """As a crash ends it."""
        self.process.kill()
        self._ended()

    def _ended(self) -> None:
        assert self.process.stdout is not None
        self.said.append(self.process.stdout.read())
        self.process.stdout.close()
        self.process.wait(20)
