"""Where the authority's keys are kept: what `up --keys` names, what unlocks it, and the keeper for it.

Rules: a word with a scheme is a token or a key ring; everything else is a directory. What unlocks the place (a
passphrase or a PIN) is read from a file, as key_keepers.find_passphrase says; Google's credentials are found as its
libraries find them. Libraries that only one kind of place needs are extras, and are loaded when such a place is opened.
Not here: the keepers (key_keepers.py, pkcs11_keys.py, kms_keys.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spangate.adapters import kms_uri, pkcs11_uri
from spangate.adapters.key_keepers import KeyFiles, find_passphrase
from spangate.authority.keeper import KeyKeeper
from spangate.errors import YourFault


def find_secret(place: str, environ: Mapping[str, str], secret_file: Path | None) -> bytes:
    """What unlocks `place`; nothing for a key ring. Opens nothing. YourFault, for a URI that names no place too."""
    if place.startswith(kms_uri.SCHEME):
        kms_uri.RingPlace.parse(place)
        return b""
    if place.startswith(pkcs11_uri.SCHEME):
        pkcs11_uri.TokenPlace.parse(place)
    return find_passphrase(environ, secret_file)


def open_keeper(place: str, secret: bytes) -> KeyKeeper:
    """The keeper of keys in `place`: a directory, or the URI of a token or key ring. Raises YourFault and TryAgain."""
    if place.startswith(pkcs11_uri.SCHEME):
        return _token(pkcs11_uri.TokenPlace.parse(place), secret)
    if place.startswith(kms_uri.SCHEME):
        return _key_ring(kms_uri.RingPlace.parse(place))
    return KeyFiles(Path(place), secret)


def _token(place: pkcs11_uri.TokenPlace, secret: bytes) -> KeyKeeper:
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


def _key_ring(place: kms_uri.RingPlace) -> KeyKeeper:
    try:
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import kms_v1

        from spangate.adapters.kms_keys import KmsKeys
    except ImportError as error:
        if error.name not in ("google.cloud", "google.cloud.kms_v1", "google_crc32c"):
            raise
        raise YourFault(
            "keys in Google Cloud KMS need its library, which is not installed", help="pip install 'spangate[kms]'"
        ) from error
    try:
        client = kms_v1.KeyManagementServiceClient()
    except GoogleAuthError as error:
        raise YourFault(
            f"no Google credentials for the key ring: {error}",
            help="for example: gcloud auth application-default login",
        ) from error
    return KmsKeys(place, client)
