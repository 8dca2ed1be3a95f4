"""Which identity a process has: every selector fits, or none is given."""

from __future__ import annotations

import pytest

from spangate.authority.unix_attestation import SeveralFit, attest
from spangate.intent import IntentErrors, parse_intent
from spangate.intent.check import unix_selectors
from spangate.model.identity import SpiffeId
from spangate.model.unix import OVERFLOW_ID, UnixPeer, UnixSelectors

A = SpiffeId.workload("shop.example", "shop", "a")
B = SpiffeId.workload("shop.example", "shop", "b")


class Accounts:
    def __init__(self, users: dict[str, int] | None = None, groups: dict[str, int] | None = None) -> None:
        self.users = users or {"shop": 1001, "nobody": OVERFLOW_ID}
        self.groups = groups or {"shop": 2001, "wheel": 10}

    def user_id(self, name: str) -> int | None:
        return self.users.get(name)

    def group_id(self, name: str) -> int | None:
        return self.groups.get(name)


def identity(peer: UnixPeer, **selectors: UnixSelectors) -> SpiffeId | None:
    return attest(peer, {{"a": A, "b": B}[name]: wanted for name, wanted in selectors.items()}, Accounts())


PEER = UnixPeer(1001, 2001, "/usr/bin/checkout")


@pytest.mark.parametrize(
    "wanted",
    [
        UnixSelectors(user="shop"),
        UnixSelectors(user="1001"),
        UnixSelectors(group="shop"),
        UnixSelectors(group="2001"),
        UnixSelectors("shop", "2001", "/usr/bin/checkout"),
    ],
)
def test_a_process_that_fits_has_the_identity(wanted: UnixSelectors) -> None:
    assert identity(PEER, a=wanted) == A


@pytest.mark.parametrize(
    "wanted",
    [
        UnixSelectors(user="root"),
        UnixSelectors(user="1002"),
        UnixSelectors(user="2001"),
        UnixSelectors(group="1001"),
        UnixSelectors(group="wheel"),
        UnixSelectors("shop", "wheel"),
        UnixSelectors("shop", None, "/usr/bin/other"),
        UnixSelectors("shop", None, "/usr/bin/checkout2"),
        UnixSelectors(executable="/usr/bin/checkout"),
        UnixSelectors(),
    ],
)
def test_one_that_does_not_fit_in_all_has_none(wanted: UnixSelectors) -> None:
    assert identity(PEER, a=wanted) is None


def test_an_executable_that_is_not_known_fits_nothing() -> None:
    assert identity(UnixPeer(1001, 2001), a=UnixSelectors("shop", None, "/usr/bin/checkout")) is None
    assert identity(UnixPeer(1001, 2001), a=UnixSelectors("shop")) == A


def test_the_number_of_all_unknown_users_is_nobody() -> None:
    assert identity(UnixPeer(OVERFLOW_ID, OVERFLOW_ID), a=UnixSelectors(user="nobody")) is None


def test_a_process_that_fits_two_identities_gets_neither() -> None:
    with pytest.raises(SeveralFit) as caught:
        identity(PEER, a=UnixSelectors(user="shop"), b=UnixSelectors(user="1001"))
    assert str(A) in caught.value.message
    assert str(B) in caught.value.message


INTENT = """\
spangate: v1
trust_domain: shop.example
databases: {{shop: {{instance: main, database: shop, schema: schema.sql}}}}
identities:
  a: {{workload: shop/a, unix: {a}}}
  b: {{workload: shop/b, unix: {b}}}
  c: {{workload: shop/c}}
"""


def read(a: str, b: str) -> dict[SpiffeId, UnixSelectors]:
    return dict(unix_selectors(parse_intent(INTENT.format(a=a, b=b), "spangate.yaml")))


def test_the_intent_says_it() -> None:
    assert read("{user: shop}", "{user: 7, group: g, executable: /bin/x}") == {
        A: UnixSelectors(user="shop"),
        B: UnixSelectors("7", "g", "/bin/x"),
    }


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("{user: x}", "{user: x}"),
        ("{user: x}", "{group: g}"),
        ("{user: x}", "{user: x, executable: /bin/a}"),
        ("{user: x, executable: /bin/a}", "{user: x}"),
        ("{user: x, executable: /bin/a}", "{group: g, executable: /bin/a}"),
        ("{user: 7}", '{user: "7"}'),
    ],
)
def test_two_that_one_process_could_be_are_a_problem(a: str, b: str) -> None:
    with pytest.raises(IntentErrors, match="a process could be both `b` and `a`"):
        read(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("{user: x}", "{user: z}"),
        ("{user: x, group: g}", "{user: x, group: h}"),
        ("{user: x, executable: /bin/a}", "{user: x, executable: /bin/b}"),
        ("{user: x, group: g}", "{group: h, executable: /bin/a}"),
        ("{user: x}", "{user: 7}"),
    ],
)
def test_two_that_differ_in_something_that_both_name_are_not(a: str, b: str) -> None:
    assert len(read(a, b)) == 2
