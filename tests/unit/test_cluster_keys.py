"""The keys of a cluster: fetched over TLS, kept, looked for again, and never from somebody else."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.cluster import ApiServer, Cluster, api_server
from fakes.leaks import NO_TOKENS, leaks
from spangate.adapters import cluster_keys
from spangate.adapters.cluster_keys import (
    AGAIN_SECONDS,
    DOCUMENT_BYTES_MAX,
    KEPT_SECONDS,
    STALE_SECONDS,
    ClusterKeys,
    KeyFile,
    read_keys,
)
from spangate.errors import TryAgain, YourFault


class Stopwatch:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def server(cluster: Cluster, tmp_path: Path) -> Iterator[ApiServer]:
    with api_server(cluster, tmp_path) as found:
        yield found


def keys_of(server: ApiServer, watch: Stopwatch | None = None, **options: object) -> ClusterKeys:
    given = {"ca": server.ca} | options
    return ClusterKeys(f"{server.url}/openid/v1/jwks", seconds=watch or Stopwatch(), **given)  # type: ignore[arg-type]


def test_they_are_fetched_once_and_kept_for_a_while(server: ApiServer) -> None:
    watch = Stopwatch()
    keys = keys_of(server, watch)
    for _ in range(5):
        assert [key["kid"] for key in keys.keys("key-0")] == ["key-0"]
    assert server.asked == 1
    watch.now += KEPT_SECONDS
    keys.keys("key-0")
    assert server.asked == 2


def test_a_key_that_is_new_is_looked_for_and_one_that_is_made_up_causes_no_storm(
    cluster: Cluster, server: ApiServer
) -> None:
    watch = Stopwatch()
    keys = keys_of(server, watch)
    keys.keys("key-0")
    cluster.rotate()
    watch.now += AGAIN_SECONDS
    assert "key-1" in {key["kid"] for key in keys.keys("key-1")}
    for number in range(100):
        keys.keys(f"made-up-{number}")
    assert server.asked == 2


def test_without_an_answer_the_last_keys_hold_for_hours_and_then_nobody_is_let_in(server: ApiServer) -> None:
    watch = Stopwatch()
    keys = keys_of(server, watch)
    keys.keys("key-0")
    server.down = True
    watch.now += STALE_SECONDS - 1
    assert keys.keys("key-0")
    watch.now += 1
    for _ in range(2):
        with pytest.raises(TryAgain):
            keys.keys("key-0")
    server.down = False
    watch.now += AGAIN_SECONDS
    assert keys.keys("key-0")


def test_a_server_that_hangs_hangs_one_request(server: ApiServer) -> None:
    watch = Stopwatch()
    keys = keys_of(server, watch)
    keys.keys("key-0")
    watch.now += KEPT_SECONDS
    server.hold.clear()
    one = threading.Thread(target=keys.keys, args=("key-0",))
    one.start()
    try:
        until = time.monotonic() + 10
        while server.asked < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert keys.keys("key-0")
        assert keys.keys("made-up")
        assert one.is_alive()
    finally:
        server.hold.set()
        one.join()


def test_a_server_that_the_authority_does_not_vouch_for_is_not_believed(server: ApiServer, tmp_path: Path) -> None:
    with pytest.raises(TryAgain, match="CERTIFICATE_VERIFY_FAILED"):
        keys_of(server, ca=None).keys("key-0")
    other = tmp_path / "other"
    other.mkdir()
    with api_server(Cluster(), other) as impostor, pytest.raises(TryAgain, match="CERTIFICATE_VERIFY_FAILED"):
        keys_of(server, ca=impostor.ca).keys("key-0")
    with pytest.raises(YourFault, match="cannot use the authority"):
        keys_of(server, ca=tmp_path / "missing").keys("key-0")


def test_a_bearer_token_is_shown_where_it_is_needed_and_read_each_time(cluster: Cluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("wrong")
    with api_server(cluster, tmp_path, bearer="right") as server:
        watch = Stopwatch()
        keys = keys_of(server, watch, token=token)
        with pytest.raises(TryAgain, match="401"):
            keys.keys("key-0")
        token.write_text("right\n")
        watch.now += AGAIN_SECONDS
        assert keys.keys("key-0")


@pytest.mark.parametrize("content", NO_TOKENS)
def test_a_file_that_does_not_hold_one_token_is_shown_to_nobody(
    server: ApiServer, tmp_path: Path, content: bytes
) -> None:
    token = tmp_path / "token"
    token.write_bytes(content)
    with pytest.raises(YourFault, match="does not hold one token") as caught:
        keys_of(server, token=token).keys("key-0")
    assert not leaks(caught.value)
    assert server.asked == 0


def test_what_the_http_library_complains_of_is_not_said(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    monkeypatch.setattr(cluster_keys, "read_bearer", lambda _: "SECRET-1\neyJSECRET-2")
    with pytest.raises(TryAgain, match="cannot ask for the cluster's keys") as caught:
        keys_of(server, token=token).keys("key-0")
    assert not leaks(caught.value)


@pytest.mark.parametrize("url", ["http://x/jwks", "ftp://x", "https://", "https://u:p@x/", "https://x/#a", "x"])
def test_only_https_is_asked(url: str) -> None:
    with pytest.raises(YourFault, match="not an https URL"):
        ClusterKeys(url)


def test_a_file_is_read_each_time(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(cluster.jwks()))
    keys = KeyFile(path)
    assert len(keys.keys("key-0")) == 1
    cluster.rotate()
    path.write_text(json.dumps(cluster.jwks()))
    assert len(keys.keys("key-0")) == 2
    path.unlink()
    with pytest.raises(YourFault, match="cannot read"):
        keys.keys("key-0")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [1]}',
        b"[" * 100_000,
        json.dumps({"keys": [{}] * 65}).encode(),
        b'{"keys": []}' + b" " * DOCUMENT_BYTES_MAX,
    ],
)
def test_what_is_no_set_of_keys_is_none(content: bytes) -> None:
    with pytest.raises(YourFault, match="is not a JWK set"):
        read_keys(content, "it")
