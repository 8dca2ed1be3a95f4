"""The command line as a person meets it: help, mistakes, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SPANGATE = str(Path(sys.executable).with_name("spangate"))
COMMANDS = ("init", "setup", "check", "up", "run", "token", "jwks", "doctor", "explain", "log")


def spangate(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SPANGATE, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    assert spangate("init", cwd=tmp_path).returncode == 0
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, tmp_path: Path) -> None:
    done = spangate(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"spangate {command}" in done.stdout
    assert "Example" in done.stdout


def test_version(tmp_path: Path) -> None:
    assert spangate("--version", cwd=tmp_path).stdout.startswith("spangate 0.")


def test_the_starter_is_fine_as_it_is(starter: Path) -> None:
    done = spangate("check", cwd=starter)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fine" in done.stdout
    facts = json.loads(spangate("check", "--json", cwd=starter).stdout)
    assert facts["identities"]["app"] == "spiffe://example.internal/ns/default/sa/app"
    assert facts["policy"] in done.stdout


def test_check_shows_what_everything_stands_for(starter: Path) -> None:
    path = starter / "spangate.yaml"
    text = path.read_text().replace(
        "      read: [Notes(NoteId, Text)]", "      deny: {read: [Notes(Author)]}\n    roles: [reader]"
    )
    path.write_text(
        text.replace(
            "      read:   [Notes]", "      read:   [Notes(* except Author), {on: N*, until: 2020-01-01T00:00Z}]"
        )
        + "  idle: {main: {read: [Notes]}}\n"
        + "roles: {reader: {main: {read: [{on: '*', until: 2999-12-31T18:00:30Z}], schema: true}}}\n"
    )
    path.write_text(path.read_text().replace("  viewer: {work", "  idle: {workload: default/idle}\n  viewer: {work"))
    done = spangate("check", cwd=starter)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.split()).partition(" (line")[0] for line in done.stdout.splitlines()]
    assert "main read Notes(* except Author) = CreatedAt, NoteId, Text" in lines
    assert "main read N* = Notes ended 2020-01-01T00:00Z" in lines
    assert "main read * = Notes by role reader until 2999-12-31T18:00:30Z" in lines
    assert "main schema by role reader" in lines
    assert "main deny read Notes(Author)" in lines
    grants = json.loads(spangate("check", "--json", cwd=starter).stdout)["grants"]
    assert {"role": "reader", "until": "2999-12-31T18:00:30+00:00", "table": "Notes"}.items() <= next(
        grant for grant in grants if grant["text"] == "*"
    ).items()


def test_an_identity_that_holds_nothing_is_shown_too(starter: Path) -> None:
    path = starter / "spangate.yaml"
    path.write_text(path.read_text().replace("  viewer: {work", "  idle: {workload: default/idle}\n  viewer: {work"))
    assert "holds nothing" in spangate("check", cwd=starter).stdout


def test_init_overwrites_nothing(starter: Path) -> None:
    (starter / "spangate.yaml").write_text("mine")
    done = spangate("init", cwd=starter)
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert (starter / "spangate.yaml").read_text() == "mine"


def test_all_mistakes_of_an_intent_come_at_once_with_their_places(starter: Path) -> None:
    path = starter / "spangate.yaml"
    path.write_text(
        path.read_text().replace("[Notes(Text)]", "[Notes(Txet)]").replace("delete: [Notes]", "delete: [Nots]")
    )
    done = spangate("check", cwd=starter)
    assert done.returncode == 2
    assert done.stderr.count("spangate.yaml:") == 2
    assert "`Text`" in done.stderr
    assert "`Notes`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["check"], "there is no file"),
        (["up"], "there is no file"),
        (["log"], "there is no audit"),
        (["run", "--as", "app", "--", "true"], "does not run"),
        (["run", "--as", "app", "--", "no-such-command-here"], "there is no command"),
        (["explain"], "give either"),
        (["explain", "abc"], "too short"),
        (["explain", "abcdefgh"], "no decisions are recorded"),
        (["explain", "--as", "app"], "give either"),
        (["up", "--port", "99999"], "65535"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_mistakes_get_an_answer_and_a_code(arguments: list[str], expected: str, tmp_path: Path) -> None:
    done = spangate(*arguments, cwd=tmp_path)
    assert done.returncode in {1, 2}
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_explain_answers_in_one_sentence_by_exit_code_and_in_json(starter: Path) -> None:
    allowed = spangate("explain", "--as", "viewer", "--sql", "SELECT Text FROM Notes", cwd=starter)
    assert (allowed.returncode, allowed.stderr) == (0, "")
    assert "spangate.yaml:" in allowed.stdout
    assert len(allowed.stdout.splitlines()) == 1
    denied = spangate("explain", "--as", "viewer", "--sql", "SELECT Author FROM Notes", "--json", cwd=starter)
    assert denied.returncode == 1
    facts = json.loads(denied.stdout)
    assert facts["allowed"] is False
    assert "Author" in json.dumps(facts["missing"])


def test_an_unknown_identity_gets_the_nearest(starter: Path) -> None:
    done = spangate("explain", "--as", "viewr", "--sql", "SELECT 1", cwd=starter)
    assert done.returncode == 2
    assert "`viewer`" in done.stderr


def test_output_to_a_pipe_has_no_colours(starter: Path) -> None:
    for arguments in (["check"], ["--help"], ["explain", "--as", "nobody", "--sql", "SELECT 1"]):
        done = spangate(*arguments, cwd=starter)
        assert "\x1b[" not in done.stdout + done.stderr
