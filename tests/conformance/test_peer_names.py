"""The filter and the policy agree on what a SPIFFE ID is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.checkpoint import FakeCheckpoint
from fakes.envoy import Tls, Worker
from fakes.spanner_oracle import SPANNER
from spangate.model.identity import BadSpiffeId, SpiffeId

NAMES = [
    "spiffe://shop.example/ns/shop/sa/checkout",
    "spiffe://shop.example/a",
    "spiffe://shop_example-1.x/A.b_c-d/..a/a..",
    "spiffe://shop.example/" + "a" * 2026,
    "spiffe://shop.example/" + "a" * 2027,
    "spiffe://shop.example",
    "spiffe://shop.example/",
    "spiffe:///ns",
    "spiffe://SHOP.example/ns",
    "spiffe://shop.example//ns",
    "spiffe://shop.example/ns//sa",
    "spiffe://shop.example/ns/",
    "spiffe://./A",
    "spiffe://../A",
    "spiffe://shop.example/../ns",
    "spiffe://shop.example/ns/..",
    "spiffe://shop.example/ns/.",
    "spiffe://shop.example/./ns",
    "spiffe://shop.example/ns?x",
    "spiffe://shop.example/ns#x",
    "spiffe://shop.example:80/ns",
    "spiffe://user@shop.example/ns",
    "spiffe://shop.example/ns%2fsa",
    "spiffe://shop.example/ns\n",
    "spiffe://shop.example\n/ns",
    "spiffe://shop.example/n\0s",
    "SPIFFE://shop.example/ns",
    "https://shop.example/ns",
    "",
]


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker()


def is_taken(worker: Worker, name: str) -> bool:
    """Whether the filter takes the name for somebody's: it then asks, or finds the body wanting."""
    worker.now_ms += 1000
    tls = Tls(uris=(name.encode(),), expires=worker.now_ms)
    stream = worker.send(SPANNER + b"CreateSession", b"", FakeCheckpoint(), tls=tls)
    assert stream.refusal is not None
    return stream.refusal[1] != b"untrusted-certificate"


def is_spiffe_id(name: str) -> bool:
    try:
        SpiffeId.parse(name)
    except BadSpiffeId:
        return False
    return True


@pytest.mark.parametrize("name", NAMES)
def test_they_agree_on_names_that_are_nearly_right(worker: Worker, name: str) -> None:
    assert is_taken(worker, name) is is_spiffe_id(name)


@settings(max_examples=400, deadline=None)
@given(
    name=st.one_of(
        st.text(st.sampled_from("ab.-_/:%A\n\0~"), max_size=12).map(lambda rest: f"spiffe://{rest}"),
        st.lists(st.sampled_from(["a", "", ".", "..", "B_", "%", "a b"]), max_size=5).map(
            lambda parts: "spiffe://td/" + "/".join(parts)
        ),
        st.text(max_size=20),
    )
)
def test_they_agree_on_all_others(worker: Worker, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return  # no certificate holds it
    assert is_taken(worker, name) is is_spiffe_id(name)
