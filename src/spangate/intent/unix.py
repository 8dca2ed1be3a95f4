"""`unix:` under an identity: which processes of this machine it is.

Rules: a user or a group is named, and perhaps the executable besides; all that is named must fit. Two identities that
one process could be are a problem, as far as the file can tell: where it takes a look at the machine (a name and a
number that are one user), the process is given neither.
Not here: what a process is (model/unix.py), whose it is (authority/unix_attestation.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, combinations

from spangate.intent.errors import Problems, shown
from spangate.intent.nodes import Node, Scalar
from spangate.intent.reader import Reader, example_of, word_of
from spangate.intent.tree import IdentityEntry, UnixEntry, Word
from spangate.intent.words import EXECUTABLE_KEY, GROUP_KEY, UNIX_KEY, UNIX_KEYS, USER_KEY
from spangate.model.unix import BadSelector, UnixSelectors, check_account, check_executable

_CHECKS = {USER_KEY: check_account, GROUP_KEY: check_account, EXECUTABLE_KEY: check_executable}
_CANNOT_BE = {USER_KEY: "a user", GROUP_KEY: "a group", EXECUTABLE_KEY: "an executable"}


def read_unix(node: Node, reader: Reader) -> UnixEntry | None:
    """What stands under `unix`; None after noting a problem."""
    parts = reader.record(node, shown(UNIX_KEY), UNIX_KEYS, ())
    if not parts:
        return None
    if USER_KEY not in parts and GROUP_KEY not in parts:
        reader.problems.add(
            node.position,
            f"{shown(UNIX_KEY)} names neither a user nor a group",
            "whoever may run a file can steer it, so an executable alone proves nothing: add `user` or `group`",
        )
        return None
    words = {key: _word(value, key, reader) for key, value in parts.items()}
    if None in words.values():
        return None
    return UnixEntry(node.position, words.get(USER_KEY), words.get(GROUP_KEY), words.get(EXECUTABLE_KEY))


def check_unix(identities: Iterable[IdentityEntry], problems: Problems) -> Mapping[str, UnixSelectors]:
    """The selectors by the identity's name; notes each identity that a process could be together with another one."""
    found: dict[str, UnixSelectors] = {}
    seen: dict[tuple[frozenset[str], frozenset[str], tuple[str, ...]], Word] = {}
    patterns: dict[frozenset[str], None] = {}
    for entry in identities:
        if entry.unix is None:
            continue
        found[entry.name.text] = entry.unix.selectors
        values = {
            key: word.text
            for key, word in zip(_CHECKS, (entry.unix.user, entry.unix.group, entry.unix.executable), strict=True)
            if word is not None
        }
        mine = frozenset(values)
        # Two entries differ if a key that both name has two values; with none, one process could be both.
        for other in patterns:
            common = mine & other
            before = seen.get((other, common, _projected(values, common)))
            if before is not None:
                problems.add(
                    entry.unix.position,
                    f"a process could be both {shown(entry.name.text)} and {shown(before.text)}",
                    f"let them differ in a user, group or executable that both name; the other stands at "
                    f"{before.position}",
                )
                break
        patterns[mine] = None
        for part in chain.from_iterable(combinations(sorted(mine), size) for size in range(len(mine) + 1)):
            seen.setdefault((mine, frozenset(part), _projected(values, part)), entry.name)
    return found


def _projected(values: Mapping[str, str], keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(values[key] for key in sorted(keys))


def _word(node: Node, key: str, reader: Reader) -> Word | None:
    # A number is a user's or group's, too.
    if isinstance(node, Scalar) and node.kind == "a number" and key != EXECUTABLE_KEY:
        word: Word | None = word_of(node)
    else:
        word = reader.text(node, key)
    if word is None:
        return None
    try:
        _CHECKS[key](word.text)
    except BadSelector as error:
        message = f"{shown(word.text)} cannot be {_CANNOT_BE[key]}"
        reader.problems.add(word.position, message, f"{error}; {example_of(key)}")
        return None
    return word
