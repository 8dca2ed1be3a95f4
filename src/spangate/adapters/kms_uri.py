"""Which key ring of Google Cloud KMS keeps keys: `gcpkms://projects/P/locations/L/keyRings/R`, read strictly.

Rules: what is not understood is an error. `str()` of what was read is read as the same.
Not here: the key ring (kms_keys.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from spangate.errors import YourFault

SCHEME = "gcpkms://"
# What the keys of one installation are called by, before a `_` and their own names.
PREFIX = "spangate"
# A key's id has 63 characters at most (CreateCryptoKeyRequest), of which the longest names of ours take 37.
_PREFIX_CHARACTERS_MAX = 20
_RING = re.compile(r"projects/[a-z0-9:.-]{1,63}/locations/[a-z0-9-]{1,63}/keyRings/[A-Za-z0-9_-]{1,63}", re.ASCII)
_PREFIX = re.compile(rf"[A-Za-z0-9][A-Za-z0-9-]{{0,{_PREFIX_CHARACTERS_MAX - 1}}}", re.ASCII)
PROTECTIONS = ("hsm", "software")
_URI_CHARACTERS_MAX = 512


@dataclass(frozen=True, slots=True)
class RingPlace:
    """A key ring by its resource name; `protection`: where new keys are made, in hardware as a rule."""

    ring: str
    prefix: str = PREFIX
    protection: str = PROTECTIONS[0]

    def __str__(self) -> str:
        return f"{SCHEME}{self.ring}?prefix={self.prefix}&protection={self.protection}"

    @classmethod
    def parse(cls, uri: str) -> RingPlace:
        """What `uri` says. Raises YourFault."""
        if len(uri) > _URI_CHARACTERS_MAX:
            raise _fault(uri[:_URI_CHARACTERS_MAX], "it is too long")
        ring, asked, query = uri.removeprefix(SCHEME).partition("?")
        if not uri.startswith(SCHEME) or not _RING.fullmatch(ring):
            raise _fault(uri, "it is not of the form gcpkms://projects/P/locations/L/keyRings/R")
        found: dict[str, str] = {}
        for part in query.split("&") if asked else ():
            name, _, value = part.partition("=")
            if name not in ("prefix", "protection") or name in found:
                raise _fault(uri, f"`{name}` stands twice, or is neither `prefix` nor `protection`")
            found[name] = value
        prefix, protection = found.get("prefix", PREFIX), found.get("protection", PROTECTIONS[0])
        if not _PREFIX.fullmatch(prefix):
            raise _fault(uri, f"`prefix` has 1 to {_PREFIX_CHARACTERS_MAX} letters, digits and dashes")
        if protection not in PROTECTIONS:
            raise _fault(uri, f"`protection` is none of {', '.join(PROTECTIONS)}")
        return cls(ring, prefix, protection)


def _fault(uri: str, why: str) -> YourFault:
    return YourFault(
        f"`{uri}` names no key ring: {why}",
        help="for example: gcpkms://projects/my-project/locations/europe-west1/keyRings/authority",
    )
