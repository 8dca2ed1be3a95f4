"""Where the authority's keys are kept: what `up --keys` names, and the keeper for it.

Rules: a word with a scheme is a token; everything else is a directory. Libraries that only one kind of place needs are
extras, and are loaded when such a place is opened.
Not here: the keepers (key_keepers.py, pkcs11_keys.py), what unlocks a place (key_keepers.find_passphrase).
"""

from __future__ import annotations

from pathlib import Path

from spangate.adapters.key_keepers import KeyFiles
from spangate.adapters.pkcs11_uri import SCHEME, TokenPlace
from spangate.authority.keeper import KeyKeeper
from spangate.errors import YourFault


def check_place(place: str) -> None:
    """Raises YourFault for a PKCS #11 URI that names no token; nothing is opened."""
    if place.startswith(SCHEME):
        TokenPlace.parse(place)


def open_keeper(place: str, secret: bytes) -> KeyKeeper:
    """The keeper of keys in `place`, a directory or a PKCS #11 URI that `secret` unlocks. YourFault, TryAgain."""
    if place.startswith(SCHEME):
        return _token(TokenPlace.parse(place), secret)
    return KeyFiles(Path(place), secret)


def _token(place: TokenPlace, secret: bytes) -> KeyKeeper:
    try:
        from spangate.adapters.pkcs11_keys import Pkcs11Keys
    except ModuleNotFoundError as error:
        if error.name != "pkcs11":
            raise
        raise YourFault(
            "keys in a token need the library for PKCS #11, which is not installed",
            help="pip install 'spangate[pkcs11]'",
        ) from error
    return Pkcs11Keys(place, secret)
