"""The stand-in as a process: it says where it is, keeps to loopback, reads its configuration again."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from fakes.google import FakeIssuer, configuration, exchange_fields, provider
from fakes.standin import StandInProcess
from spangate.adapters.oidc_door import loopback_listener


@pytest.fixture(scope="module")
def issuer() -> FakeIssuer:
    return FakeIssuer()


def exchange(url: str, token: str) -> int:
    fields = {key: str(value) for key, value in exchange_fields(token).items()}
    try:
        with urlopen(f"{url}/v1/token", urlencode(fields).encode(), timeout=10) as answer:
            assert "not Google" in answer.headers["server"]
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


def test_it_serves_and_says_that_it_is_not_google(issuer: FakeIssuer, tmp_path: Path) -> None:
    with StandInProcess(configuration(provider(issuer)), tmp_path) as standin:
        assert "not Google" in standin.said[0]
        assert exchange(standin.url, issuer.token(datetime.now(UTC))) == 200


def test_its_port_is_nobody_elses_while_it_is_away_and_whoever_asks_then_waits_for_it(
    issuer: FakeIssuer, tmp_path: Path
) -> None:
    """Another process on its port would be shown the tokens that are meant for it."""
    asked = configuration(provider(issuer))
    with contextlib.closing(loopback_listener(0)) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        first = StandInProcess(asked, tmp_path, listener=listener).__enter__()
        assert first.url == f"http://127.0.0.1:{port}"
        first.kill()
        for options in ((), (socket.SO_REUSEADDR,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)):
            with socket.socket() as other:
                for option in options:
                    other.setsockopt(socket.SOL_SOCKET, option, 1)
                with pytest.raises(OSError, match="Address already in use"):
                    other.bind(("127.0.0.1", port))
        with ThreadPoolExecutor(1) as thread:
            waits = thread.submit(exchange, first.url, issuer.token(datetime.now(UTC)))
            with StandInProcess(asked, tmp_path, listener=listener):
                assert waits.result(20) == 200


def test_nobody_rules_it_who_was_not_let_to(issuer: FakeIssuer, tmp_path: Path) -> None:
    with StandInProcess(configuration(provider(issuer)), tmp_path) as standin:
        for path in ("faults", "config"):
            request = Request(f"{standin.url}/standin/{path}", b"{}", method="PUT")
            with pytest.raises(HTTPError) as error, urlopen(request, timeout=10):
                pass
            assert error.value.code == 405
            error.value.close()


def test_a_hangup_reads_the_configuration_again_and_a_broken_one_changes_nothing(
    issuer: FakeIssuer, tmp_path: Path
) -> None:
    with StandInProcess(configuration(provider(issuer)), tmp_path) as standin:
        standin.config.write_text("{")
        standin.process.send_signal(signal.SIGHUP)
        assert "configuration refused: the stand-in's configuration is not JSON" in standin.next_line()
        assert exchange(standin.url, issuer.token(datetime.now(UTC))) == 200
        standin.config.write_text(json.dumps(configuration(provider(issuer, disabled=True))))
        standin.process.send_signal(signal.SIGHUP)
        assert "configuration read" in standin.next_line()
        assert exchange(standin.url, issuer.token(datetime.now(UTC))) == 400


def test_a_broken_configuration_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"pools": 5}')
    argv = [sys.executable, "-m", "spangate.app.standin_process", "--config", str(tmp_path / "broken.json")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "error: the stand-in's configuration: `pools` is not a list\n")


def test_orders_and_configurations_that_are_none_are_refused(issuer: FakeIssuer, tmp_path: Path) -> None:
    with StandInProcess(configuration(provider(issuer)), tmp_path, "--ruled") as standin:
        for what, value in (("faults", [5]), ("faults", {"status": 200, "part": "token"}), ("config", {"x": 1})):
            with pytest.raises(HTTPError) as error:
                standin.put(what, value)
            assert error.value.code == 400
            error.value.close()
        assert exchange(standin.url, issuer.token(datetime.now(UTC))) == 200
        assert standin.asked() == {"token": 1}


def test_a_body_without_end_is_cut_off(issuer: FakeIssuer, tmp_path: Path) -> None:
    with StandInProcess(configuration(provider(issuer)), tmp_path) as standin:
        assert exchange(standin.url, "x" * (6 * 1024 * 1024)) == 413
