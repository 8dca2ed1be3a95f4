"""Who speaks: a SPIFFE ID, parsed once and strictly.

Rules (SPIFFE-ID, sections 2.1 to 2.4): scheme `spiffe`, a trust domain of lower-case letters, digits, dots, dashes and
underscores, a path of non-empty segments that are neither `.` nor `..`, no query, fragment, port or user info, at most
2048 bytes. Anything else raises.
Not here: how a SPIFFE ID was verified (authority/, Envoy).
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

SPIFFE_ID_BYTES_MAX = 2048
TRUST_DOMAIN_BYTES_MAX = 255
# 64 bits: a tag has 50 characters, and two of a million identities share a key once in 10 million installations.
IDENTITY_KEY_BYTES = 8

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+", re.ASCII)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The last label holds a letter: `10.0.0.1` is an address.
_HOST_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


class BadSpiffeId(ValueError):
    """The text is not a SPIFFE ID; the message says which rule it breaks."""


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """`spiffe://<trust_domain>/<segment>/...`; construct with `parse` or `workload`."""

    trust_domain: str
    segments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """The SPIFFE ID that `text` spells, or BadSpiffeId. `str(parse(x)) == x` for every accepted x."""
        if len(text.encode("utf-8", "surrogatepass")) > SPIFFE_ID_BYTES_MAX:
            raise BadSpiffeId(f"longer than {SPIFFE_ID_BYTES_MAX} bytes")
        scheme, sep, rest = text.partition("://")
        if not sep or scheme != "spiffe":
            raise BadSpiffeId("does not begin with `spiffe://`")
        trust_domain, *segments = rest.split("/")
        check_trust_domain(trust_domain)
        if not segments:
            raise BadSpiffeId("names a trust domain but no workload")
        for segment in segments:
            check_segment(segment)
        return cls(trust_domain, tuple(segments))

    @classmethod
    def workload(cls, trust_domain: str, namespace: str, service_account: str) -> SpiffeId:
        """The identity Istio gives a Kubernetes service account: `spiffe://<td>/ns/<ns>/sa/<sa>`."""
        check_trust_domain(trust_domain)
        for segment in (namespace, service_account):
            check_segment(segment)
        return cls(trust_domain, ("ns", namespace, "sa", service_account))

    @classmethod
    def authority(cls, trust_domain: str) -> SpiffeId:
        """The authority's own, where it speaks TLS: no workload has one like it."""
        return cls(check_trust_domain(trust_domain), ("spangate", "authority"))

    @classmethod
    def gateway(cls, trust_domain: str) -> SpiffeId:
        """The gateway's own: no workload has one like it."""
        return cls(check_trust_domain(trust_domain), ("spangate", "gateway"))

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/{'/'.join(self.segments)}"

    @property
    def key(self) -> str:
        """13 characters of [a-z2-7] that stand for this identity where a SPIFFE ID is too long (transaction tags)."""
        digest = hashlib.sha256(str(self).encode()).digest()[:IDENTITY_KEY_BYTES]
        return base64.b32encode(digest).decode().rstrip("=").lower()


def check_trust_domain(text: str) -> str:
    """`text`, if it is a trust domain name; else BadSpiffeId."""
    if not _TRUST_DOMAIN.fullmatch(text):
        raise BadSpiffeId("the trust domain may hold only lower-case letters, digits, `.`, `-` and `_`")
    if len(text) > TRUST_DOMAIN_BYTES_MAX:
        raise BadSpiffeId(f"the trust domain is longer than {TRUST_DOMAIN_BYTES_MAX} bytes")
    return text


def is_host_name(trust_domain: str) -> bool:
    """Whether a trust domain is a host name: only to such can a name constraint hold a root (RFC 5280, 4.2.1.10)."""
    return _HOST_NAME.fullmatch(trust_domain) is not None


def check_segment(text: str) -> str:
    """`text`, if it may be one segment of a SPIFFE ID's path; else BadSpiffeId."""
    if text in {"", ".", ".."} or not _SEGMENT.fullmatch(text):
        raise BadSpiffeId("a path segment may hold only letters, digits, `.`, `-` and `_`, and may not be `.` or `..`")
    return text
