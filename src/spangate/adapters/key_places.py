"""Where the authority's keys are kept: what `up --keys` names, and the keeper for it.

Rules: a word with a scheme is a token; everything else is a directory. What unlocks the place (a passphrase or a PIN)
is read from a file, as key_keepers.find_passphrase says. Libraries that only one kind of place needs are extras, and
are loaded when such a place is named.
Not here: the keepers (key_keepers.py, pkcs11_keys.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spangate.adapters.key_keepers import KeyFiles, find_passphrase
from spangate.adapters.pkcs11_uri import SCHEME, TokenPlace
from spangate.authority.keeper import KeyKeeper
from spangate.errors import YourFault


def open_keeper(place: str, environ: Mapping[str, str], secret_file: Path | None) -> KeyKeeper:
    """The keeper of keys in `place`, a directory or a PKCS #11 URI. Raises YourFault and TryAgain."""
    if place.startswith(SCHEME):
        return _token(TokenPlace.parse(place), environ, secret_file)
    return KeyFiles(Path(place), find_passphrase(environ, secret_file))


def _token(place: TokenPlace, environ: Mapping[str, str], secret_file: Path | None) -> KeyKeeper:
    try:
        from spangate.adapters.pkcs11_keys import Pkcs11Keys
    except ModuleNotFoundError as error:
        if error.name != "pkcs11":
            raise
        raise YourFault(
            "keys in a token need the library for PKCS #11, which is not installed",
            help="pip install 'spangate[pkcs11]'",
        ) from error
    return Pkcs11Keys(place, find_passphrase(environ, secret_file))
