"""`spangate log`: one readable line for each request, nothing from a client obeyed, pipes and Ctrl-C taken calmly."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from spangate.cli.log import log_command, render_record
from spangate.errors import YourFault


def record(**changes: Any) -> dict[str, Any]:
    return {
        "time": "2030-01-02T12:00:00.123Z",
        "decision": "allow",
        "reason": "granted",
        "identity": "spiffe://shop.example/ns/shop/sa/checkout",
        "claimed_identity": None,
        "name": "checkout",
        "rpc": "Commit",
        "database": "shop",
        "accesses": ["insert Orders(OrderId, Total)"],
        "missing": [],
        "policy": "0123456789ab",
        "decision_id": "d1",
        "grpc_status": "OK",
        "grpc_code": 0,
        "commit_timestamp": "2030-01-02T12:00:00.120456789Z",
        "duration_us": {"total": 5120, "gateway": 90, "spanner": 4900},
        "request_id": "r1",
        "detail": None,
        "problem": None,
    } | changes


DENIED = record(
    decision="deny",
    reason="missing-grant",
    name="reports",
    identity="spiffe://shop.example/ns/analytics/sa/reports",
    rpc="ExecuteStreamingSql",
    accesses=["read Customers(Email)"],
    missing=["read Customers(Email)"],
    commit_timestamp=None,
    grpc_status="PERMISSION_DENIED",
    grpc_code=7,
    duration_us={"total": 412, "gateway": 400, "spanner": None},
)


def test_an_allowed_write_reads_as_one_line_with_its_commit_timestamp() -> None:
    assert render_record(record()).plain == (
        "2030-01-02 12:00:00.123  checkout      allow   Commit               shop: insert Orders(OrderId, Total)"
        "  committed 2030-01-02T12:00:00.120456789Z  5.1 ms"
    )


def test_a_denial_says_why_and_what_is_missing() -> None:
    assert render_record(DENIED).plain == (
        "2030-01-02 12:00:00.123  reports       deny    ExecuteStreamingSql  shop: read Customers(Email)"
        "  missing-grant: read Customers(Email)  0.4 ms"
    )


def test_many_accesses_are_shortened_with_their_number() -> None:
    many = [f"read Table{number}(Column1, Column2)" for number in range(9)]
    line = render_record(record(accesses=many)).plain
    assert "shop: read Table0(Column1, Column2), read Table1(Column1, Column2) +7" in line


def test_an_allowed_request_that_failed_shows_its_status_and_a_contradiction_its_problem() -> None:
    assert "  UNAVAILABLE  " in render_record(record(grpc_status="UNAVAILABLE")).plain
    line = render_record(record(problem="the decision is not recorded")).plain
    assert line.endswith("  ! the decision is not recorded")


def test_an_unverified_identity_stands_in_parentheses_and_no_identity_is_nobody() -> None:
    claims = record(name=None, identity=None, claimed_identity="spiffe://x/y", decision="refuse", reason="no")
    assert "(spiffe://x/y)" in render_record(claims).plain
    assert "(nobody)" in render_record(claims | {"claimed_identity": None}).plain


def test_what_a_client_sent_cannot_steer_the_terminal_or_forge_a_line() -> None:
    evil = "\x1b[2J\n2030 admin allow\u202e\ud800[red]x[/red]"
    line = render_record(record(rpc=evil, name=evil, problem=evil, accesses=[evil], database=evil)).plain
    assert line.isprintable()
    assert "[red]x[/red]" in line
    line.encode()


@pytest.mark.parametrize(
    "odd",
    [{}, dict.fromkeys(record(), 5), {key: [None] for key in record()}, {"duration_us": {"total": "x"}}],
)
def test_a_record_of_another_form_is_shown_as_far_as_it_goes(odd: dict[str, Any]) -> None:
    assert render_record(odd).plain.startswith("?  (nobody)")


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def shown(terminal: bool) -> str:
        file = io.StringIO()
        Console(file=file, force_terminal=terminal, width=300).print(render_record(DENIED))
        return file.getvalue()

    assert "\x1b[31mdeny" in shown(True)
    assert "\x1b" not in shown(False)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    records = [record(request_id=str(number)) for number in range(3)] + [DENIED]
    (tmp_path / "audit.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    return tmp_path


def test_the_last_records_are_printed_and_may_be_chosen(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert log_command(state, False, 2, False, None, False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["allow" in line for line in lines] == [True, False]
    log_command(state, False, 10, False, None, True)
    assert capsys.readouterr().out.splitlines() == [render_record(DENIED).plain]
    for who in ("reports", "spiffe://shop.example/ns/analytics/sa/reports"):
        log_command(state, False, 10, False, who, False)
        assert capsys.readouterr().out.splitlines() == [render_record(DENIED).plain]
    log_command(state, False, 10, False, "report", False)
    assert capsys.readouterr().out == ""


def test_long_records_are_not_wrapped(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / "audit.jsonl").write_text(json.dumps(record(problem="x y " * 30)) + "\n")
    log_command(state, False, 1, False, None, False)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_json_prints_the_lines_as_they_are(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log_command(state, False, 10, True, None, False)
    assert capsys.readouterr().out == (state / "audit.jsonl").read_text()


def test_without_an_audit_the_user_is_told(tmp_path: Path) -> None:
    with pytest.raises(YourFault, match="there is no audit in"):
        log_command(tmp_path, False, 10, False, None, False)
    with pytest.raises(YourFault, match="there is no audit in"):
        log_command(tmp_path / "typo", True, 10, False, None, False)


# Tests that run in a shell's background inherit that SIGINT is ignored.
CALL = """
import signal, sys
from pathlib import Path
from spangate.cli.log import log_command
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(log_command({}))
"""


def started(state: Path, follow: bool) -> subprocess.Popen[str]:
    program = CALL.format(f"Path({str(state)!r}), {follow}, 1000, True, None, False")
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )


def test_following_shows_what_comes_and_ends_calmly_on_ctrl_c(state: Path) -> None:
    with started(state, follow=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(4):
            process.stdout.readline()
        with (state / "audit.jsonl").open("a") as audit:
            audit.write('{"request_id":"new"}\n')
        assert process.stdout.readline() == '{"request_id":"new"}\n'
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=10) == 0
        finally:
            process.kill()
        assert process.stderr.read() == ""


def test_a_reader_that_goes_away_is_no_error(state: Path) -> None:
    (state / "audit.jsonl").write_text((json.dumps(record()) + "\n") * 20_000)
    with started(state, follow=False) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""
