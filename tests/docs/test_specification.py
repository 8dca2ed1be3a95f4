"""The specification is held to its tests and to Spanner's API: no property without a test, no RPC without a rule."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from importlib import import_module, resources
from pathlib import Path

from conformance import cases
from conformance.world import NOW, spiffe_id, world
from fakes.reference import FILE, reference

ROOT = Path(__file__).resolve().parents[2]
DECISION = (ROOT / "spec" / "decision.md").read_text(encoding="utf-8")
PROPERTIES = re.findall(r"^- \*\*`([a-z-]+)`\*\* ", DECISION, re.MULTILINE)
SPANNER = "google.spanner.v1.Spanner"


def rpcs_of(package: str) -> set[str]:
    """The methods of a service, as Google's installed client lists them."""
    text = resources.files(import_module(package)).joinpath("gapic_metadata.json").read_text(encoding="utf-8")
    (service,) = json.loads(text)["services"].values()
    return set(service["clients"]["grpc"]["rpcs"])


def names_in_tests() -> Iterator[str]:
    """What the tests say they show."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for names in re.findall(r"^@shows\(([^)]*)\)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield from re.findall(r'"([a-z-]+)"', names)


def test_every_property_is_shown_and_nothing_else_is() -> None:
    shown = {name for case in cases.CASES for name in case.shows} | set(names_in_tests())
    assert len(PROPERTIES) == len(set(PROPERTIES))
    assert shown == set(PROPERTIES)


def test_every_case_shows_something() -> None:
    assert [case.name for case in cases.CASES if not case.shows] == []


def test_the_reference_names_only_properties_that_there_are() -> None:
    source = FILE.read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", source)) - {"missing-grant"}
    assert named <= set(PROPERTIES)


def test_every_rpc_of_spanner_has_its_rule() -> None:
    table = set(re.findall(r"^\| (\w+) \|", DECISION, re.MULTILINE)) - {"RPC"}
    assert len(rpcs_of("google.cloud.spanner_v1")) == 17
    assert table == rpcs_of("google.cloud.spanner_v1")
    judged = {path.rpartition("/")[2] for path in reference.RPCS if path.startswith(f"/{SPANNER}/")}
    assert table - judged == {"FetchCacheUpdate"}


def test_the_admin_rpcs_that_are_not_refused_are_in_the_document() -> None:
    table = set(re.findall(r"^\| (\w+/\w+) \|", DECISION, re.MULTILINE))
    others = {path for path in reference.RPCS if not path.startswith(f"/{SPANNER}/")}
    assert {path.rpartition(".")[2] for path in others} == table


def test_every_other_rpc_is_refused() -> None:
    services = {
        SPANNER: rpcs_of("google.cloud.spanner_v1"),
        "google.spanner.admin.database.v1.DatabaseAdmin": rpcs_of("google.cloud.spanner_admin_database_v1"),
        "google.spanner.admin.instance.v1.InstanceAdmin": rpcs_of("google.cloud.spanner_admin_instance_v1"),
    }
    paths = {f"/{service}/{rpc}" for service, rpcs in services.items() for rpc in rpcs}
    assert len(paths) > 60
    for path in paths - set(reference.RPCS):
        outcome = reference.judge(world(), NOW, spiffe_id("root"), path, b"\0\0\0\0\0")
        assert (outcome.allowed, outcome.reason) == (False, "unsupported-rpc")


def test_the_reference_shares_no_code_with_what_it_judges() -> None:
    tree = ast.parse(FILE.read_text(encoding="utf-8"))
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not [name for name in imported if name.startswith("spangate")]
