"""Selectors of processes: what is read means what it says, and no process is two identities behind anybody's back."""

from __future__ import annotations

import posixpath

from hypothesis import given
from hypothesis import strategies as st

from spangate.authority.unix_attestation import SeveralFit, attest
from spangate.intent.errors import Problems
from spangate.intent.tree import IdentityEntry, UnixEntry, Word
from spangate.intent.unix import check_unix
from spangate.model.identity import SpiffeId
from spangate.model.policy import Position
from spangate.model.unix import (
    BadSelector,
    UnixPeer,
    UnixSelectors,
    account_id,
    check_account,
    check_executable,
)

HERE = Position("spangate.yaml", 1, 1)
USERS = {"u": 1, "v": 2}
GROUPS = {"g": 1, "h": 2}
FILES = ("/bin/a", "/bin/b")


class Accounts:
    def user_id(self, name: str) -> int | None:
        return USERS.get(name)

    def group_id(self, name: str) -> int | None:
        return GROUPS.get(name)


def maybe(*values: str) -> st.SearchStrategy[str | None]:
    return st.sampled_from([None, *values])


SELECTORS = st.builds(UnixSelectors, maybe(*USERS), maybe(*GROUPS), maybe(*FILES)).filter(
    lambda one: one.user is not None or one.group is not None
)
PEERS = [UnixPeer(uid, gid, file) for uid in (0, 1, 2) for gid in (0, 1, 2) for file in (*FILES, None)]


def entry(number: int, wanted: UnixSelectors) -> IdentityEntry:
    words = [None if text is None else Word(text, HERE) for text in (wanted.user, wanted.group, wanted.executable)]
    return IdentityEntry(
        Word(f"i{number}", HERE),
        Word("workload", HERE),
        Word("n", HERE),
        Word(f"i{number}", HERE),
        unix=UnixEntry(HERE, *words),
    )


@given(st.lists(SELECTORS, max_size=5))
def test_a_file_without_problems_gives_no_process_two_identities_and_one_with_them_does(
    wanted: list[UnixSelectors],
) -> None:
    """With names alone, that is; a name and a number may be one user, which only the machine knows."""
    problems = Problems()
    found = check_unix([entry(number, one) for number, one in enumerate(wanted)], problems)
    assert list(found.values()) == wanted
    selectors = {SpiffeId("d", (name,)): one for name, one in found.items()}
    several = False
    for peer in PEERS:
        try:
            attest(peer, selectors, Accounts())
        except SeveralFit:
            several = True
    assert several == bool(problems._found)


@given(st.text(max_size=80))
def test_an_account_is_a_name_or_a_number_and_never_both(text: str) -> None:
    try:
        checked = check_account(text)
    except BadSelector:
        return
    assert checked == text
    assert text.isascii()
    assert text.isprintable()
    assert not any(letter in text for letter in "/: \t,=")
    number = account_id(text)
    assert (number is None) == (not text.isdigit())
    assert number is None or str(number) == text


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(["/", ".", "..", "a", "b c", "\n", "é"])).map("".join)))
def test_an_executable_has_one_spelling(text: str) -> None:
    try:
        check_executable(text)
    except BadSelector:
        return
    assert posixpath.isabs(text)
    assert posixpath.normpath(text) == text
    assert "\0" not in text
    assert "\n" not in text
