"""The settings for a cluster: every key, each mistake with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes.cluster import Cluster
from spangate.adapters.cluster_keys import ClusterKeys, KeyFile
from spangate.adapters.kubernetes_settings import FILE_BYTES_MAX, read_settings
from spangate.errors import YourFault

URL = """\
issuer: https://kubernetes.default.svc
audience: spangate
jwks: https://kubernetes.default.svc/openid/v1/jwks
ca: ca.crt
token: token
listen: 0.0.0.0:8443
"""


def settings(folder: Path, text: str) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(text)
    return path


def test_keys_may_be_at_a_url(tmp_path: Path) -> None:
    found = read_settings(settings(tmp_path, URL))
    assert (found.cluster.issuer, found.cluster.audience) == ("https://kubernetes.default.svc", "spangate")
    assert isinstance(found.keys, ClusterKeys)
    assert found.listen == "0.0.0.0:8443"


@pytest.mark.parametrize(("line", "bound"), [("", True), ("addresses: bound\n", True), ("addresses: any\n", False)])
def test_a_token_is_held_to_one_address_unless_the_file_says_any(tmp_path: Path, line: str, bound: bool) -> None:
    assert read_settings(settings(tmp_path, URL + line)).bound is bound


def test_keys_may_be_in_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(json.dumps(Cluster().jwks()))
    text = "issuer: https://k\naudience: a\njwks: jwks.json\nlisten: 127.0.0.1:0\n"
    found = read_settings(settings(tmp_path, text))
    assert isinstance(found.keys, KeyFile)
    assert len(found.keys.keys("")) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("[]", "must be a mapping"),
        (URL.replace("audience: spangate\n", ""), "has no `audience`"),
        (URL.replace("audience", "audienc"), "cluster.yaml:2:1: unknown key `audienc`"),
        (URL.replace("spangate", "[a, b]"), "must be text"),
        (URL.replace("spangate", ""), "has no value"),
        (URL.replace("spangate", "istio-ca"), "istiod's"),
        (URL.replace("jwks: https", "jwks: http"), "not an https URL"),
        (URL.replace("https://kubernetes.default.svc/openid/v1/jwks", "jwks.json"), "are for a `jwks` that is a URL"),
        (URL + "issuer: again\n", "twice"),
        (URL + "addresses: some\n", "`addresses` is `bound` or `any`"),
        ("issuer: https://k\naudience: a\njwks: nowhere\nlisten: 127.0.0.1:0\n", "cannot read"),
        ("issuer: " + "x" * 2000 + URL.replace("issuer: https://kubernetes.default.svc", ""), "longer than"),
        ("#" * (FILE_BYTES_MAX + 1), "longer than"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(YourFault, match=message):
        read_settings(settings(tmp_path, text))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(YourFault, match="cannot read"):
        read_settings(tmp_path / "nowhere.yaml")
