"""The compiler's output is reviewed like code: golden files, and Envoy's own opinion of them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from spangate.adapters.envoy import envoy_path
from spangate.compiler.client import ClientPlan, client_bootstrap
from spangate.compiler.gateway import GatewayPlan, gateway_bootstrap
from spangate.dataplane import filter_source

GOLDEN = Path(__file__).parent / "golden"

GATEWAY = GatewayPlan(
    trust_domain="shop.example",
    host="127.0.0.1",
    port=0,
    spanner=("127.0.0.1", 9010),
    filter_file="/filter/spangate.lua",
    access_log="/state/gateway.jsonl",
    admin_socket="/run/admin.sock",
    sds_socket="/run/sds.sock",
    checkpoint_socket="/run/checkpoint.sock",
    certificate_secret="svid",
    bundle_secret="bundle",
)
CLIENT = ClientPlan(
    gateway=("127.0.0.1", 9443),
    gateway_identity="spiffe://shop.example/spangate/gateway",
    host="127.0.0.1",
    port=0,
    admin_socket="/run/admin.sock",
    sds_socket="/run/sds.sock",
    certificate_secret="svid",
    bundle_secret="bundle",
)
CONFIGURATIONS = {"gateway": gateway_bootstrap(GATEWAY), "client": client_bootstrap(CLIENT)}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_configuration_is_the_reviewed_one(name: str) -> None:
    golden = GOLDEN / f"{name}.json"
    text = json.dumps(CONFIGURATIONS[name], indent=1) + "\n"
    if os.environ.get("SPANGATE_REFRESH"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_envoy_accepts_the_configuration(name: str, tmp_path: Path) -> None:
    program = tmp_path / "spangate.lua"
    program.write_text(filter_source(), encoding="utf-8")
    text = json.dumps(CONFIGURATIONS[name]).replace("/filter/spangate.lua", str(program))
    text = text.replace("/state/", f"{tmp_path}/").replace("/run/", f"{tmp_path}/")
    config = tmp_path / "envoy.json"
    config.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [envoy_path(), "--mode", "validate", "-c", str(config), "--log-level", "warning"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()


def _filters() -> list[dict[str, object]]:
    listener = CONFIGURATIONS["gateway"]["static_resources"]["listeners"][0]  # type: ignore[index]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]  # type: ignore[no-any-return]


def test_the_guard_stands_between_the_filter_and_the_router() -> None:
    names = [entry["name"] for entry in _filters()]
    assert names[-3:] == ["envoy.filters.http.lua", "envoy.filters.http.rbac", "envoy.filters.http.router"]


def test_the_guard_wants_the_mark_and_a_verified_certificate() -> None:
    guard = json.dumps(_filters()[-2])
    assert '"action": "ALLOW"' in guard
    assert '"key": "allow"' in guard
    assert "mtls_authenticated" in guard
    assert '"prefix": "spiffe://"' in guard
    assert '"any": true' not in guard


def test_no_configuration_holds_a_key_or_certificate() -> None:
    for configuration in CONFIGURATIONS.values():
        assert "BEGIN" not in json.dumps(configuration)


def test_what_a_client_says_to_envoy_and_its_credentials_are_removed_before_anything_reads_them() -> None:
    listener = CONFIGURATIONS["gateway"]["static_resources"]["listeners"][0]  # type: ignore[index]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (early,) = manager["early_header_mutation_extensions"]
    steering, *removed = early["typed_config"]["mutations"]
    assert steering == {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}}
    assert {"remove": "authorization"} in removed
    # What the router removes, it removes after the filter has set it.
    assert "request_headers_to_remove" not in manager["route_config"]
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        assert route["route"]["host_rewrite_literal"] == "127.0.0.1"
