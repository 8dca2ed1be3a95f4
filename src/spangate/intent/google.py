"""`google` and `impersonate`: where identities get their access tokens, and whose.

Rules: names, addresses and lifetimes are held against Google's own rules; nothing is asked of Google. A SPIFFE ID whose
path is longer than Google's subject can be is a problem here, before anybody meets it as a refused exchange; and so is
an identity of a mesh's trust domain, which nobody here can speak for: the authority signs for its own trust domain
only, the workload's key never leaves the workload, and no identity is given the token of another.
Not here: the exchange (broker/), the values (model/google.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from spangate.intent.errors import Problems, listed, shown
from spangate.intent.nodes import Node, Sequence
from spangate.intent.reader import Reader, example_of
from spangate.intent.tree import GoogleEntry, ImpersonateEntry, Intent, Word
from spangate.intent.words import (
    DELEGATES_MAX,
    EXAMPLES,
    GOOGLE_KEYS,
    GOOGLE_KEYS_REQUIRED,
    IMPERSONATE_KEYS,
    IMPERSONATE_KEYS_REQUIRED,
    LIFETIME,
    SCOPE,
    SCOPES_MAX,
    SUBJECT_TOKENS,
)
from spangate.model.google import (
    CLOUD_SCOPE,
    IMPERSONATION_SECONDS_MAX,
    IMPERSONATION_SECONDS_MIN,
    POOL,
    PROJECT_NUMBER,
    SERVICE_ACCOUNT,
    SUBJECT_BYTES_MAX,
    GoogleFederation,
    Impersonation,
    SubjectTokenType,
)
from spangate.model.identity import SpiffeId
from spangate.model.nearest import nearest

_POOL_RULE = "4 to 32 lower-case letters, digits and `-`, not beginning with `gcp-`"
_NUMBER_RULE = "digits only: the number, not the id"
_ACCOUNT_RULE = f"for instance `{EXAMPLES['service_account']}`"
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def read_google(reader: Reader, node: Node) -> GoogleEntry | None:
    """The entry, or None after noting problems."""
    parts = reader.record(node, shown("google"), GOOGLE_KEYS, GOOGLE_KEYS_REQUIRED)
    if parts is None:
        return None
    number = _text(reader, parts, "project_number", PROJECT_NUMBER, "the number of a project", _NUMBER_RULE)
    pool = _text(reader, parts, "pool", POOL, "the name of a pool", _POOL_RULE)
    provider = _text(reader, parts, "provider", POOL, "the name of a provider", _POOL_RULE)
    kind = _subject_token(reader, parts.get("subject_token"))
    scopes = tuple(_texts(reader, parts, "scopes", SCOPE, SCOPES_MAX, "a scope of Google's"))
    impersonate = read_impersonate(reader, parts["impersonate"]) if "impersonate" in parts else None
    if number is None or pool is None or provider is None:
        return None
    impersonation = impersonate.impersonation if impersonate else None
    federation = GoogleFederation(number, pool, provider, kind, scopes or (CLOUD_SCOPE,), impersonation)
    return GoogleEntry(federation, node.position)


def read_impersonate(reader: Reader, node: Node) -> ImpersonateEntry | None:
    """The entry, or None after noting problems."""
    parts = reader.record(node, shown("impersonate"), IMPERSONATE_KEYS, IMPERSONATE_KEYS_REQUIRED)
    if parts is None:
        return None
    what = "the address of a service account"
    account = _text(reader, parts, "service_account", SERVICE_ACCOUNT, what, _ACCOUNT_RULE)
    delegates = tuple(_texts(reader, parts, "delegates", SERVICE_ACCOUNT, DELEGATES_MAX, what))
    seconds = _lifetime(reader, parts.get("lifetime"))
    if account is None or seconds is None:
        return None
    return ImpersonateEntry(Impersonation(account, delegates, seconds), node.position)


def impersonations(intent: Intent, identities: Mapping[str, SpiffeId], problems: Problems) -> dict[str, Impersonation]:
    """Those of single identities, by name; notes what cannot be without `google`, or with it."""
    found: dict[str, Impersonation] = {}
    for entry in intent.identities:
        if entry.impersonate is not None:
            found[entry.name.text] = entry.impersonate.impersonation
            if intent.google is None:
                message = f"{shown(entry.name.text)} impersonates a service account, but the file has no `google`"
                problems.add(entry.impersonate.position, message, example_of("google"))
        spiffe_id = identities.get(entry.name.text)
        if intent.google is not None and spiffe_id is not None:
            if entry.trust_domain is not None and entry.trust_domain.text != intent.trust_domain.text:
                own, foreign = intent.trust_domain.text, entry.trust_domain.text
                problems.add(
                    entry.trust_domain.position,
                    f"{shown(entry.name.text)} can get no token from Google: it is of the trust domain "
                    f"{shown(foreign)}, and Spangate speaks to Google for {shown(own)} only",
                    f"make {shown(foreign)} the file's own `trust_domain` (its `bundle` stays), or take `google` out",
                )
            subject = "/".join(spiffe_id.segments)
            if len(subject) > SUBJECT_BYTES_MAX:
                problems.add(
                    entry.namespace.position,
                    f"{shown(entry.name.text)} has a name of {len(subject)} bytes at Google, which takes "
                    f"{SUBJECT_BYTES_MAX}",
                    "shorten its namespace or service account",
                )
    return found


def _text(reader: Reader, parts: Mapping[str, Node], key: str, pattern: str, what: str, rule: str) -> str | None:
    word = reader.text(parts.get(key), key)
    if word is None or _fits(reader, word, pattern, what, rule):
        return word.text if word else None
    return None


def _fits(reader: Reader, word: Word, pattern: str, what: str, rule: str) -> bool:
    if re.fullmatch(pattern, word.text, re.ASCII):
        return True
    reader.problems.add(word.position, f"{shown(word.text)} cannot be {what}", rule)
    return False


def _texts(
    reader: Reader, parts: Mapping[str, Node], key: str, pattern: str, items_max: int, what: str
) -> Iterator[str]:
    """The texts of a list with something in it, none twice."""
    node = parts.get(key)
    if node is None:
        return
    example = f"for instance `{EXAMPLES[key]}`"
    if not isinstance(node, Sequence):
        reader.wrong_kind(node, shown(key), "a list", example)
        return
    if not node.items:
        reader.problems.add(node.position, f"{shown(key)} is empty", "name some, or take it out")
    if len(node.items) > items_max:
        reader.problems.add(node.position, f"{shown(key)} has more than {items_max} entries", None)
        return
    seen: set[str] = set()
    for item in node.items:
        word = reader.text(item, key)
        if word is None or not _fits(reader, word, pattern, what, example):
            continue
        if word.text in seen:
            reader.problems.add(word.position, f"{shown(word.text)} stands twice", "take one out")
        else:
            seen.add(word.text)
            yield word.text


def _subject_token(reader: Reader, node: Node | None) -> SubjectTokenType:
    word = reader.text(node, "subject_token")
    if word is None:
        return SubjectTokenType.JWT
    if word.text in SUBJECT_TOKENS:
        return SubjectTokenType(word.text)
    near = nearest(word.text, SUBJECT_TOKENS)
    help_line = f"did you mean {shown(near)}?" if near else f"write one of {listed(SUBJECT_TOKENS)}"
    reader.problems.add(word.position, f"unknown kind of subject token {shown(word.text)}", help_line)
    return SubjectTokenType.JWT


def _lifetime(reader: Reader, node: Node | None) -> int | None:
    """Seconds; None after a problem."""
    if node is None:
        return IMPERSONATION_SECONDS_MAX
    word = reader.text(node, "lifetime")
    if word is None:
        return None
    rule = f"whole seconds, minutes or hours, from {IMPERSONATION_SECONDS_MIN} s to 1 h: `{EXAMPLES['lifetime']}`"
    if not _fits(reader, word, LIFETIME, "a lifetime", rule):
        return None
    seconds = int(word.text[:-1]) * _SECONDS[word.text[-1]]
    if not IMPERSONATION_SECONDS_MIN <= seconds <= IMPERSONATION_SECONDS_MAX:
        reader.problems.add(word.position, f"{shown(word.text)} is too short or too long for a lifetime", rule)
        return None
    return seconds
