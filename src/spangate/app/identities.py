"""Which identity a person means by a word on the command line."""

from __future__ import annotations

from pathlib import Path

from spangate.adapters.intent_files import read_intent
from spangate.errors import YourFault
from spangate.model.identity import BadSpiffeId, SpiffeId
from spangate.model.nearest import nearest


def identity_named(word: str, intent: Path, trust_domain: str) -> SpiffeId:
    """`word` as a SPIFFE ID, `namespace/service-account`, or a name of the intent file. Raises YourFault."""
    try:
        if "://" in word:
            return SpiffeId.parse(word)
        if word.count("/") == 1:
            return SpiffeId.workload(trust_domain, *word.split("/"))
    except BadSpiffeId as error:
        raise YourFault(f"`{word}` is no identity: {error}") from error
    names = {
        entry.name.text: SpiffeId.workload(
            entry.trust_domain.text if entry.trust_domain is not None else trust_domain,
            entry.namespace.text,
            entry.service_account.text,
        )
        for entry in read_intent(intent).identities
    }
    if word not in names:
        near = nearest(word, names)
        hint = f"did you mean `{near}`?" if near else f"the intent names: {', '.join(sorted(names)) or 'nobody'}"
        raise YourFault(
            f"the intent has no identity `{word}`",
            help=f"{hint}\na workload that it does not name is written namespace/service-account",
        )
    return names[word]
