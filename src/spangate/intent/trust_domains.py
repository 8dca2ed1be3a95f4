"""The trust domains of an intent: their names, bundles and aliases, from nodes to entries and on to the policy.

Rules: a name stands for one trust domain only: the file's own, one under `trust_domains`, or an alias of one. Where
there is more than one bundle, each root is held to the names of its own trust domain by a name constraint, and only
host names can be constrained.
Not here: reading the files of bundles (adapters/trust_files.py), what is made of them (authority/anchors.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from spangate.intent.errors import Problems, listed, shown
from spangate.intent.nodes import Node, Scalar, Sequence
from spangate.intent.reader import Reader, example_of, word_of
from spangate.intent.tree import IdentityEntry, Intent, TrustDomainEntry, Word
from spangate.intent.words import (
    ALIASES_MAX,
    BUNDLE_FILES_MAX,
    EXAMPLES,
    SCHEMA_FILE_CHARACTERS_MAX,
    TRUST_DOMAIN_KEYS,
    TRUST_DOMAINS_MAX,
)
from spangate.model.identity import BadSpiffeId, check_trust_domain, is_host_name
from spangate.model.policy import TrustDomain


def read_trust_domain(reader: Reader, node: Node | None) -> Word | None:
    """The trust domain that `node` names; nothing, without a problem, where there is no node."""
    word = reader.text(node, "trust_domain")
    return word if word is not None and _is_trust_domain(reader.problems, word) else None


def read_trust_domains(reader: Reader, node: Node | None) -> tuple[TrustDomainEntry, ...]:
    """What stands under `trust_domains`."""

    def name(key: Scalar) -> Word | None:
        # A key that YAML reads as a number is text here: `1.2` names a trust domain like any other word.
        word = word_of(key)
        return word if _is_trust_domain(reader.problems, word) else None

    found = [
        entry
        for key, value in reader.named(node, "trust_domains", name)
        if (entry := _trust_domain(reader, key, value)) is not None
    ]
    if len(found) > TRUST_DOMAINS_MAX:
        message = f"there are more than {TRUST_DOMAINS_MAX} trust domains"
        reader.problems.add(found[TRUST_DOMAINS_MAX].position, message)
    return tuple(found)


def _trust_domain(reader: Reader, name: Word, node: Node) -> TrustDomainEntry | None:
    parts = reader.record(node, shown(name.text), TRUST_DOMAIN_KEYS, ())
    if parts is None:
        return None
    files = [word for word in _words(reader, parts.get("bundle"), "bundle", BUNDLE_FILES_MAX) if _file(reader, word)]
    aliases = [
        word
        for word in _words(reader, parts.get("aliases"), "aliases", ALIASES_MAX)
        if _is_trust_domain(reader.problems, word)
    ]
    return TrustDomainEntry(name, tuple(files), tuple(aliases))


def _words(reader: Reader, node: Node | None, key: str, count_max: int) -> Iterator[Word]:
    """One text, or a list of texts."""
    if node is None:
        return
    if isinstance(node, Sequence):
        if not node.items:
            reader.problems.add(node.position, f"{shown(key)} is empty", example_of(key))
        elif len(node.items) > count_max:
            reader.problems.add(node.position, f"{shown(key)} has more than {count_max} entries")
            return
    for item in node.items if isinstance(node, Sequence) else (node,):
        word = reader.text(item, key)
        if word is not None:
            yield word


def relative_file(problems: Problems, word: Word, example: str) -> bool:
    """Whether `word` is a path relative to the intent file; a problem if not."""
    if word.text.startswith(("/", "~")) or "\\" in word.text or len(word.text) > SCHEMA_FILE_CHARACTERS_MAX:
        message = f"{shown(word.text)} is not a path relative to this file"
        problems.add(word.position, message, f"write it with `/` and without a leading `/`, for instance `{example}`")
        return False
    return True


def _file(reader: Reader, word: Word) -> bool:
    return relative_file(reader.problems, word, "istio/root-cert.pem")


def _is_trust_domain(problems: Problems, word: Word) -> bool:
    try:
        check_trust_domain(word.text)
    except BadSpiffeId as error:
        help_line = f"for instance `{EXAMPLES['trust_domain']}`" if "://" in word.text else str(error)
        problems.add(word.position, f"{shown(word.text)} cannot be a trust domain", help_line)
        return False
    return True


def check_trust_domains(intent: Intent, problems: Problems) -> tuple[TrustDomain, ...]:
    """The trust domains that the policy knows beside its own, and its own if it has a bundle or aliases."""
    own = intent.trust_domain
    stands: dict[str, Word] = {own.text: own}
    for entry in intent.trust_domains:
        stands.setdefault(entry.name.text, entry.name)
    for entry in intent.trust_domains:
        if not entry.bundles and entry.name.text != own.text:
            help_line = f"name the file with its roots: `{EXAMPLES['bundle']}`"
            problems.add(entry.position, f"the trust domain {shown(entry.name.text)} has no bundle", help_line)
        for alias in entry.aliases:
            if alias.text in stands:
                there = f"it stands at {stands[alias.text].position}"
                problems.add(alias.position, f"{shown(alias.text)} is a trust domain or an alias already", there)
            stands.setdefault(alias.text, alias)
    aliases = [alias for entry in intent.trust_domains for alias in entry.aliases]
    if len(aliases) > ALIASES_MAX:
        problems.add(aliases[ALIASES_MAX].position, f"there are more than {ALIASES_MAX} aliases")
    if any(entry.name.text != own.text for entry in intent.trust_domains):
        for word in stands.values():
            if not is_host_name(word.text):
                problems.add(
                    word.position,
                    f"{shown(word.text)} is no host name, so its roots cannot be held to it",
                    "where there are several, a trust domain is lower-case letters, digits and `-` between dots",
                )
    # By name: the order in the file means nothing.
    return tuple(
        TrustDomain(entry.name.text, _texts(entry.bundles), tuple(sorted(_texts(entry.aliases))))
        for entry in sorted(intent.trust_domains, key=lambda entry: entry.name.text)
    )


def trust_domain_of(intent: Intent, entry: IdentityEntry, problems: Problems) -> Word | None:
    """The trust domain of an identity: what is written, if there is such a one, or the file's own."""
    written = entry.trust_domain
    if written is None or written.text == intent.trust_domain.text:
        return intent.trust_domain
    names = [domain.name.text for domain in intent.trust_domains]
    if written.text in names:
        if entry.unix is not None:
            problems.add(
                entry.unix.position,
                f"{shown(entry.name.text)} is of the trust domain {shown(written.text)}, which a mesh gives out",
                "take out `unix`: it gives certificates of this file's own trust domain",
            )
        return written
    for domain in intent.trust_domains:
        if written.text in _texts(domain.aliases):
            message = f"{shown(written.text)} is an alias of {shown(domain.name.text)}"
            problems.add(written.position, message, f"write `trust_domain: {domain.name.text}`")
            return None
    message = f"no trust domain {shown(written.text)} stands under `trust_domains`"
    known = listed([intent.trust_domain.text, *names])
    help_line = problems.suggest(written.text, (intent.trust_domain.text, *names), "trust domains") or f"known: {known}"
    problems.add(written.position, message, help_line)
    return None


def _texts(words: tuple[Word, ...]) -> tuple[str, ...]:
    return tuple(word.text for word in words)
