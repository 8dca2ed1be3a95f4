"""Whose roots workloads verify others by: those of the authority, and of all other trust domains of an intent.

Rules: the own trust domain comes first, with the roots of a mesh that signs for it too. Under an alias the same roots
hold as under the name. A trust domain whose roots are not known is left out: nobody of it can be verified.
Not here: reading bundles (bundles.py), keeping roots apart in one verifier (anchors.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from spangate.authority.anchors import DomainBundle, pem_of
from spangate.authority.bundles import read_bundle
from spangate.authority.ca import Authority

# What is trusted now: roots in PEM, by the name of each trust domain.
Roots = Callable[[], Mapping[str, str]]


def every_bundle(trust_domain: str, own_pem: str, others: Sequence[DomainBundle]) -> tuple[DomainBundle, ...]:
    """The bundles of all trust domains; `own_pem` are the authority's roots. Raises BadBundle if these are none."""
    own = DomainBundle((trust_domain,), read_bundle(own_pem.encode()))
    found: list[DomainBundle] = []
    for bundle in others:
        if bundle.names[0] == trust_domain:
            own = DomainBundle(bundle.names, tuple(dict.fromkeys((*own.roots, *bundle.roots))))
        else:
            found.append(bundle)
    return (own, *found)


def roots_by_name(bundles: Sequence[DomainBundle]) -> dict[str, str]:
    """PEM for each name under which workloads come."""
    return {name: pem_of(bundle.roots) for bundle in bundles if bundle.roots for name in bundle.names}


def known_roots(authority: Authority, others: Callable[[], Sequence[DomainBundle]] = tuple) -> Roots:
    """What is trusted at each moment, beside `authority`'s roots those of `others`. Any thread may ask."""
    # What was answered last, and by what: it is asked for each second, and by many, and seldom changes.
    last: tuple[str, Sequence[DomainBundle], Mapping[str, str]] = ("", (), {})

    def roots() -> Mapping[str, str]:
        nonlocal last
        own, bundles = authority.bundle_pem(), others()
        known = last
        if known[0] != own or known[1] is not bundles:
            known = last = own, bundles, roots_by_name(every_bundle(authority.trust_domain, own, bundles))
        return known[2]

    return roots
