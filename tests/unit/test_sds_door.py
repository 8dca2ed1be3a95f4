"""Envoy's door: whole generations of secrets, and errors instead of empty answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fakes.http import get, post
from spangate.adapters.sds_door import BODY_BYTES_MAX, SECRET_TYPE, Secrets, SecretSource, sds_app
from spangate.adapters.unix_server import UnixServer

FIRST = Secrets(chain_pem="chain 1", key_pem="key 1", bundle_pem="bundle 1")
SECOND = Secrets(chain_pem="chain 2", key_pem="key 2", bundle_pem="bundle 2")


@dataclass
class Door:
    path: Path
    source: SecretSource

    def ask(self, body: object) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, answer = post(self.path, "/v3/discovery:secrets", content)
        return status, json.loads(answer) if answer else None


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    path = tmp_path_factory.mktemp("d") / "sds.sock"
    source = SecretSource()
    with UnixServer(sds_app(source), path, name="sds"):
        yield Door(path, source)


@pytest.fixture
def door(running: Door) -> Door:
    running.source.replace(FIRST)
    return running


def test_the_certificate_comes_with_its_key_and_the_bundle_with_the_roots(door: Door) -> None:
    assert door.ask({"resource_names": ["svid", "bundle"], "node": {"id": "gw"}, "type_url": SECRET_TYPE}) == (
        200,
        {
            "version_info": FIRST.version,
            "type_url": SECRET_TYPE,
            "resources": [
                {
                    "@type": SECRET_TYPE,
                    "name": "svid",
                    "tls_certificate": {
                        "certificate_chain": {"inline_string": "chain 1"},
                        "private_key": {"inline_string": "key 1"},
                    },
                },
                {
                    "@type": SECRET_TYPE,
                    "name": "bundle",
                    "validation_context": {"trusted_ca": {"inline_string": "bundle 1"}},
                },
            ],
        },
    )


def test_one_who_has_the_version_gets_nothing_and_one_who_has_an_older_gets_the_new(door: Door) -> None:
    assert door.ask({"resource_names": ["svid"], "version_info": FIRST.version}) == (304, None)
    door.source.replace(SECOND)
    status, answer = door.ask({"resource_names": ["svid"], "version_info": FIRST.version})
    assert (status, answer["version_info"]) == (200, SECOND.version)


def test_who_asks_for_the_bundle_only_gets_no_key(door: Door) -> None:
    _, answer = door.ask({"resource_names": ["bundle"]})
    assert "key 1" not in json.dumps(answer)


def test_before_the_first_certificate_the_answer_is_not_yet(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("d") / "sds.sock"
    with UnixServer(sds_app(SecretSource()), path):
        door = Door(path, SecretSource())
        assert door.ask({"resource_names": ["svid"]}) == (503, {"error": "there is no certificate yet"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 200_000,
        {},
        {"resource_names": []},
        {"resource_names": "svid"},
        {"resource_names": [1]},
        {"resource_names": [["svid"]]},
        {"resource_names": ["svid", "svid"]},
        {"resource_names": ["svid"], "version_info": 1},
        {"resource_names": ["svid"], "type_url": "type.googleapis.com/envoy.config.cluster.v3.Cluster"},
    ],
)
def test_a_request_that_cannot_be_read_is_an_error(door: Door, body: object) -> None:
    assert door.ask(body) == (400, {"error": "the discovery request cannot be read"})


@pytest.mark.parametrize("name", ["other", "", "SVID", "\ud800", "x" * 1000])
def test_a_name_that_is_not_served_is_an_error_and_never_an_empty_answer(door: Door, name: str) -> None:
    status, answer = door.ask({"resource_names": ["svid", name]})
    assert status == 404
    assert answer["error"].startswith("no secret is named")


def test_a_request_that_is_too_long_is_an_error(door: Door) -> None:
    status, _ = door.ask(b" " * (BODY_BYTES_MAX + 1))
    assert status == 413


def test_only_the_discovery_path_is_there(door: Door) -> None:
    assert get(door.path, "/v3/discovery:secrets")[0] == 405
    assert post(door.path, "/v3/discovery:clusters", b"{}")[0] == 404


def test_no_answer_mixes_two_generations(door: Door) -> None:
    stop = threading.Event()

    def rotate() -> None:
        while not stop.is_set():
            door.source.replace(SECOND)
            door.source.replace(FIRST)

    rotating = threading.Thread(target=rotate)
    rotating.start()
    try:
        for _ in range(50):
            _, answer = door.ask({"resource_names": ["svid", "bundle"]})
            text = json.dumps(answer)
            generations = {n for n in "12" if f"chain {n}" in text or f"key {n}" in text or f"bundle {n}" in text}
            assert len(generations) == 1
    finally:
        stop.set()
        rotating.join()


def test_the_version_follows_certificate_and_bundle_and_says_nothing_about_the_key() -> None:
    versions = {
        FIRST.version,
        SECOND.version,
        Secrets(chain_pem="chain 1", key_pem="key 1", bundle_pem="bundle 2").version,
        Secrets(chain_pem="chain 1\n", key_pem="key 1", bundle_pem="bundle 1").version,
    }
    assert len(versions) == 4
    assert Secrets(chain_pem="chain 1", key_pem="other", bundle_pem="bundle 1").version == FIRST.version
    assert "key 1" not in repr(FIRST)


def test_further_trust_domains_come_with_their_roots_and_change_the_version(door: Door) -> None:
    plain = FIRST.version
    door.source.replace(replace(FIRST, trust_domains=("cluster.local", "old.example")))
    status, answer = door.ask({"resource_names": ["bundle"], "version_info": plain})
    assert status == 200
    (resource,) = answer["resources"]
    assert resource["validation_context"] == {
        "trusted_ca": {"inline_string": "bundle 1"},
        "match_typed_subject_alt_names": [
            {"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}},
            {"san_type": "URI", "matcher": {"prefix": "spiffe://old.example/"}},
        ],
    }
