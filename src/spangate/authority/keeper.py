"""The key port: where the authority's private keys live.

Rules: a keeper makes keys, and gives them out as objects that sign; whether the key itself is in the object or stays in
a security module is the keeper's own business. Names are chosen here, hold no secret, and are never used twice. A key
that is gone is gone: nothing here copies one.
Not here: the keepers (adapters/), what is signed (ca.py, jwt_svid.py).
"""

from __future__ import annotations

import re
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from spangate.errors import Broken

_NAME = re.compile(r"[a-z][a-zA-Z0-9-]{0,62}", re.ASCII)


class KeyKeeper(Protocol):
    """Keeps P-256 keys by name. Every method may raise SpangateError; each is atomic."""

    def make(self, name: str) -> ec.EllipticCurvePrivateKey:
        """A new key under a name that is not taken (Broken). Kept when this returns, also if the machine stops then."""
        ...

    def open(self, name: str) -> ec.EllipticCurvePrivateKey:
        """The key of that name. Raises YourFault if there is none, or it cannot be opened."""
        ...

    def names(self) -> tuple[str, ...]:
        """The names of all keys, sorted."""
        ...

    def destroy(self, name: str) -> None:
        """Forget the key; one that is not there is no error."""
        ...


def check_key_name(name: str) -> str:
    """`name`, if it may name a key: letters, digits and dashes, so that it is a file's name everywhere; else Broken."""
    if not is_key_name(name):
        raise Broken(f"a key cannot be called `{name}`")
    return name


def is_key_name(name: str) -> bool:
    """Whether `name` may name a key; a place that is not ours alone can hold others."""
    return _NAME.fullmatch(name) is not None
