"""The documents are held to the code: what a user can meet is documented, and what is documented is there."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer.main

from spangate.adapters.zetasql_engine import WasmEngine
from spangate.app.run import EMULATOR_SETTINGS
from spangate.audit.record import OUTCOME_OF, AuditRecord, Outcome
from spangate.cli.main import app
from spangate.dataplane import MODULES, module_source
from spangate.decision import decision_to_json, explain_json
from spangate.intent import check_intent, parse_intent
from spangate.intent.words import (
    DATABASE_KEYS,
    GOOGLE_KEYS,
    IDENTITY_KEYS,
    IMPERSONATE_KEYS,
    ITEM_KEYS,
    LATER_WORDS,
    OPERATION_KEYS,
    ROLE_USE_KEYS,
    ROOT_KEYS,
    TRUST_DOMAIN_KEYS,
    UNIX_KEYS,
)
from spangate.model.decision import Decision, Reason
from spangate.settings import INTERVALS, LIMITS, MIB
from spangate.sql.ddl import parse_ddl
from spangate.sql.googlesql import Analyzer, UnreadableStatement

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
COMMANDS = typer.main.get_command(app).commands
# Every command has it; the introduction of the page explains it once.
HELP_OPTIONS = {"--help", "-h"}


def documents() -> list[Path]:
    """Every Markdown file of the repository itself: hidden folders hold tools' and environments' files."""
    found = sorted(ROOT.rglob("*.md"))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands under `heading` until the next heading of the same or a higher level; empty if there is none."""
    level = len(heading) - len(heading.lstrip("#"))
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{level}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, without the lines under the headings."""
    lines = (line.strip() for line in text.splitlines())
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines if line.startswith("|")]
    return [row for row in cells if not set(row[0]) <= {"-", ":"}]


def words_in_first_cells(text: str) -> set[str]:
    return {word for row in rows(text) for word in re.findall(r"`([^`]+)`", row[0])}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def slugs(text: str) -> set[str]:
    """The anchors that headings get."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Reasons and the audit.


def test_every_reason_has_its_row_and_no_row_is_about_nothing() -> None:
    found = {row[0].strip("`"): row for row in rows(text_of("docs/reasons.md"))[1:]}
    assert set(found) == {reason.value for reason in Reason}


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_is_documented_with_its_outcome_and_with_what_to_do_next(reason: Reason) -> None:
    text = text_of("docs/reasons.md")
    row = next(row for row in rows(text) if row[0] == f"`{reason}`")
    assert row[1] == OUTCOME_OF[reason].value
    assert len(row[3]) > len("it is")
    assert f"**`{reason}`**" in section(text, "## What to do next")


def test_every_field_of_an_audit_record_is_documented_and_no_other() -> None:
    record = ast.literal_eval(AuditRecord(Outcome.ALLOW, None).to_json().replace("null", "None"))
    assert words_in_first_cells(section(text_of("docs/audit.md"), "## Fields of a record")) == set(record)


def test_every_outcome_and_every_duration_is_documented() -> None:
    fields = section(text_of("docs/audit.md"), "## Fields of a record")
    durations = asdict(AuditRecord(Outcome.ALLOW, None).duration_us)
    for word in [*(outcome.value for outcome in Outcome), *durations]:
        assert f"`{word}`" in fields, word


def test_every_field_of_a_decision_is_documented() -> None:
    decision = Decision(
        id="a" * 16,
        allowed=True,
        reason=Reason.GRANTED,
        identity="spiffe://shop.example/ns/shop/sa/checkout",
        name="checkout",
        rpc="ExecuteSql",
        database="shop",
        accesses=(),
        missing=(),
        grants=(),
        policy="0" * 12,
    )
    assert set(decision_to_json(decision)) < set(explain_json(decision))
    text = text_of("docs/audit.md")
    for field in explain_json(decision):
        assert f"`{field}`" in text, field


# The command line.


def test_every_command_is_in_the_readme_and_has_a_section_and_no_other_has() -> None:
    named = {
        word.removeprefix("spangate ") for word in words_in_first_cells(section(text_of("README.md"), "## Commands"))
    }
    sections = set(re.findall(r"^## spangate (\w+)$", text_of("docs/commands.md"), re.MULTILINE))
    assert named == sections == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_of_a_command_is_in_its_section_and_no_other(name: str) -> None:
    text = section(text_of("docs/commands.md"), f"## spangate {name}")
    options = {opt for param in COMMANDS[name].params for opt in param.opts if opt.startswith("-")} - HELP_OPTIONS
    assert words_in_first_cells(text) - {"option"} == options


def test_the_options_of_the_program_itself_are_documented() -> None:
    introduction = text_of("docs/commands.md").partition("\n## ")[0]
    options = {opt for param in typer.main.get_command(app).params for opt in param.opts}
    for option in options | HELP_OPTIONS:
        assert f"{option}`" in introduction, option


def test_commands_in_shell_examples_exist() -> None:
    for path in documents():
        for block in blocks(path.read_text(encoding="utf-8"), "sh"):
            for name in re.findall(r"^spangate (\w+)", block, re.MULTILINE):
                assert name in COMMANDS, f"{path}: spangate {name}"


# Settings.


def shown(name: str, value: object) -> str:
    """A value as the settings page writes it."""
    if isinstance(value, timedelta):
        return f"{value.days} d" if value.days else f"{value.seconds // 3600} h"
    assert isinstance(value, int | float)
    if "BYTES" in name.upper() and value >= MIB:
        return f"{value / MIB:g} MiB"
    if name.endswith("_ms"):
        return f"{value:,} ms"
    if "SECONDS" in name:
        return f"{value:g} s"
    return f"{value:,}"


@pytest.mark.parametrize(("heading", "settings"), [("## Requests", LIMITS), ("## Times", INTERVALS)])
def test_every_setting_is_documented_with_its_value(heading: str, settings: object) -> None:
    found = {row[0].strip("`"): row[1] for row in rows(section(text_of("docs/settings.md"), heading))[1:]}
    assert found == {name: shown(name, value) for name, value in asdict(settings).items()}


def test_other_documented_constants_exist_and_have_the_value_that_is_documented() -> None:
    found = rows(section(text_of("docs/settings.md"), "## Others that can be felt"))[1:]
    assert found
    lua = "".join(module_source(one) for one in MODULES)
    for name, value, *_ in found:
        module, _, constant = name.strip("`").rpartition(".")
        if module == "filter":
            (number,) = re.findall(rf"^local {constant} = (\d+)$", lua, re.MULTILINE)
            assert value == shown(constant, int(number)), name
        else:
            assert value == shown(constant, getattr(importlib.import_module(f"spangate.{module}"), constant)), name


def test_what_run_sets_for_the_emulator_is_documented() -> None:
    found = {
        row[0].strip("`"): row[1].strip("`") for row in rows(section(text_of("docs/emulator.md"), "## What `run` sets"))
    }
    for name, value in EMULATOR_SETTINGS.items():
        assert found[name] == value


# The intent.


def test_every_key_of_the_intent_is_documented_and_no_other() -> None:
    keys = {*ROOT_KEYS, *DATABASE_KEYS, *IDENTITY_KEYS, *UNIX_KEYS, *OPERATION_KEYS, *ITEM_KEYS, *ROLE_USE_KEYS}
    keys |= {*TRUST_DOMAIN_KEYS}
    keys |= {*GOOGLE_KEYS, *IMPERSONATE_KEYS}
    assert words_in_first_cells(section(text_of("docs/intent.md"), "## Keys")) == keys


def test_every_word_of_a_later_version_is_documented() -> None:
    assert set(re.findall(r"`(\w+)`", section(text_of("docs/intent.md"), "## Words of later versions"))) == set(
        LATER_WORDS
    )


def intents() -> Iterator[tuple[str, str]]:
    for path in documents():
        for number, block in enumerate(blocks(path.read_text(encoding="utf-8"), "yaml")):
            if re.search(r"^spangate:", block, re.MULTILINE):
                yield f"{path.relative_to(ROOT)}-{number}", block


def test_there_are_intents_in_the_documents() -> None:
    assert {name.rpartition("-")[0] for name, _ in intents()} >= {"README.md", "docs/intent.md"}


@pytest.mark.parametrize(("name", "block"), [pytest.param(*each, id=each[0]) for each in intents()])
def test_an_intent_in_a_document_is_right_under_the_shops_schema(name: str, block: str) -> None:
    schema = parse_ddl(text_of("examples/shop/schema.sql"))
    intent = parse_intent(block, name)
    assert check_intent(intent, {entry.alias.text: schema for entry in intent.databases}).grants


# The rules.


def test_statements_make_the_accesses_that_the_rules_say(zetasql_engine: WasmEngine) -> None:
    found = rows(section(text_of("docs/rules.md"), "## Statements"))[1:]
    assert found
    analyzer = Analyzer(zetasql_engine, parse_ddl(text_of("examples/shop/schema.sql")))
    try:
        for statement, accesses in found:
            sql = statement.strip("`")
            if accesses == "unreadable":
                with pytest.raises(UnreadableStatement):
                    analyzer.accesses(sql, {})
            else:
                assert {str(access) for access in analyzer.accesses(sql, {})} == set(
                    re.findall(r"`(.+?)`", accesses)
                ), sql
    finally:
        analyzer.close()


# Files, links, programs, make.


def test_the_readmes_test_command_is_what_the_build_runs() -> None:
    (command, *_) = [
        line for line in section(text_of("README.md"), "## Tests").splitlines() if line.startswith("make ")
    ]
    assert command.partition("#")[0].strip() == "make test"
    assert re.search(r"^make test$", text_of(".ci/run"), re.MULTILINE)


def test_make_targets_in_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", text_of("Makefile"), re.MULTILINE))
    for path in documents():
        text = path.read_text(encoding="utf-8")
        named = re.findall(r"`make (?:[A-Z]+=\S+ )?([a-z0-9]+)", text)
        for block in blocks(text, "sh"):
            named += re.findall(r"^make ([a-z0-9]+)", block, re.MULTILINE)
        assert set(named) <= targets, path


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.fullmatch(r"[a-z]+:.*", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in slugs(there.read_text(encoding="utf-8")), f"{path.name}: {target}"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_page_is_reached_from_the_readme(page: Path) -> None:
    assert f"](docs/{page.name})" in text_of("README.md")


def test_every_decision_is_listed() -> None:
    listed = set(re.findall(r"\]\((\d{4}-[^)]+)\)", text_of("docs/decisions/README.md")))
    assert listed == {page.name for page in (DOCS / "decisions").glob("[0-9]*.md")}


def test_files_that_the_documents_name_exist() -> None:
    """`src/...`, `tests/...` and so on, in backticks."""
    for path in documents():
        for name in re.findall(
            r"`((?:src|tests|bench|examples|spec|docs)/[\w./-]+)`", path.read_text(encoding="utf-8")
        ):
            assert (ROOT / name).exists(), f"{path.name}: {name}"


def test_python_in_the_documents_can_be_read() -> None:
    found = [block for path in documents() for block in blocks(path.read_text(encoding="utf-8"), "python")]
    assert found
    for block in found:
        compile(block, "document", "exec")
