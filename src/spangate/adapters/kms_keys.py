"""A keeper of private keys in Google Cloud KMS.

Rules: a key is a CryptoKey with one version, P-256, made by KMS and never brought there; its id is the installation's
prefix, `_` and its name, and nothing else in the key ring is looked at. KMS gives an id once, as the port wants it. To
destroy is to schedule: within KMS's grace (30 days) a key can be restored by whoever may.
Every answer is checked as KMS's documentation asks: the checksum of what was sent was seen, that of what came is right,
and the key is the one that was meant; a signature for which that is not so is discarded and asked for again, a few
times. One is tried when a key is first opened. Calls end after seconds.
Source: https://cloud.google.com/kms/docs/data-integrity-guidelines, /key-states, /reference/rpc/google.cloud.kms.v1.
Not here: the port (authority/keeper.py), which key ring (kms_uri.py).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import google_crc32c
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from google.api_core import exceptions as api
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud import kms_v1

from spangate.adapters.foreign_key import ForeignKey
from spangate.adapters.kms_uri import RingPlace
from spangate.authority.keeper import check_key_name, is_key_name
from spangate.errors import Broken, SpangateError, TryAgain, YourFault

# A signature takes some 0.1 s; whoever waits for a certificate is refused before its own patience ends.
CALL_SECONDS_MAX = 10.0
# "A limited number of retries" of what came damaged.
ATTEMPTS = 3
# P-256 in hardware is made within a few seconds.
GENERATION_SECONDS_MAX = 60.0
_GENERATION_POLL_SECONDS = 0.5
# An authority makes some twenty keys a year, and KMS keeps the ids of all.
KEYS_MAX = 10_000
_PAGE = 1_000
_ID_CHARACTERS_MAX = 63
_DIGEST_BYTES = 32
_PREHASHED = ec.ECDSA(Prehashed(hashes.SHA256()))
_State = kms_v1.CryptoKeyVersion.CryptoKeyVersionState
_P256 = kms_v1.CryptoKeyVersion.CryptoKeyVersionAlgorithm.EC_SIGN_P256_SHA256
_GONE = (_State.DESTROYED, _State.DESTROY_SCHEDULED)
# What may be asked again without doing anything twice.
_AGAIN = Retry(initial=0.1, maximum=1.0, timeout=CALL_SECONDS_MAX, predicate=if_exception_type(api.ServiceUnavailable))


_Found = TypeVar("_Found")


class _Damaged(Exception):
    """An answer that is not the one that was asked for."""


class KmsKeys:
    """Keys in a key ring. Any thread may use it, and so may the keys that it gives out."""

    def __init__(
        self,
        place: RingPlace,
        client: Any,  # noqa: ANN401 - a KeyManagementServiceClient, which has no types
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Asks nothing yet."""
        self._place = place
        self._client = client
        self._sleep = sleep
        self._lock = threading.Lock()
        # What never changes of a key: its public half, once a signature was tried. And ids that are gone: whoever
        # restores one starts the authority again.
        self._opened: dict[str, ForeignKey] = {}
        self._gone: set[str] = set()

    def make(self, name: str) -> ec.EllipticCurvePrivateKey:
        """See authority.keeper.KeyKeeper."""
        identifier = self._id(name)
        template = {"algorithm": _P256, "protection_level": self._place.protection.upper()}
        request = {
            "parent": self._place.ring,
            "crypto_key_id": identifier,
            "crypto_key": {
                "purpose": kms_v1.CryptoKey.CryptoKeyPurpose.ASYMMETRIC_SIGN,
                "version_template": template,
                "labels": {"spangate": "authority"},
            },
        }
        with _told(f"make the key `{name}`"):
            try:
                # Not again by itself: a key whose making was not seen to succeed would then be there already.
                self._client.create_crypto_key(request=request, retry=None, timeout=CALL_SECONDS_MAX)
            except api.AlreadyExists:
                raise Broken(f"there is a key `{name}` already") from None
            self._wait(name)
        return self.open(name)

    def open(self, name: str) -> ec.EllipticCurvePrivateKey:
        """See authority.keeper.KeyKeeper."""
        with _told(f"open the key `{name}`"):
            version = self._version(name)
            if version is None or version.state in _GONE:
                raise YourFault(f"there is no key `{name}` in the key ring")
            if version.state != _State.ENABLED:
                raise YourFault(f"the key `{name}` is {version.state.name.lower()}", help="enable it in Cloud KMS")
            if version.algorithm != _P256:
                raise YourFault(f"the key `{name}` is not on P-256")
            if version.import_job:
                raise YourFault(
                    f"the key `{name}` was brought to the key ring, so others may have it",
                    help="let Spangate make its keys in the key ring",
                )
            with self._lock:
                found = self._opened.get(name)
            if found is None:
                found = self._tried(name)
                with self._lock:
                    self._opened[name] = found
        return found

    def names(self) -> tuple[str, ...]:
        """See authority.keeper.KeyKeeper."""
        beginning = f"{self._place.ring}/cryptoKeys/{self._place.prefix}_"
        request = {"parent": self._place.ring, "page_size": _PAGE}
        with _told("list the keys"):
            pages = self._client.list_crypto_keys(request=request, retry=_AGAIN, timeout=CALL_SECONDS_MAX)
            keys = [key.name for key in islice(pages, KEYS_MAX + 1)]
            if len(keys) > KEYS_MAX:
                raise YourFault(f"the key ring holds more than {KEYS_MAX} keys", help="give Spangate one of its own")
            ours = {key.removeprefix(beginning) for key in keys if key.startswith(beginning)}
            return tuple(sorted(name for name in ours if is_key_name(name) and self._is_there(name)))

    def destroy(self, name: str) -> None:
        """See authority.keeper.KeyKeeper."""
        with _told(f"destroy the key `{name}`"):
            version = self._version(name)
            if version is not None and version.state not in _GONE:
                self._client.destroy_crypto_key_version(
                    request={"name": version.name}, retry=_AGAIN, timeout=CALL_SECONDS_MAX
                )
            with self._lock:
                self._opened.pop(name, None)

    def _id(self, name: str) -> str:
        found = f"{self._place.prefix}_{check_key_name(name)}"
        if len(found) > _ID_CHARACTERS_MAX:
            raise Broken(f"a key cannot be called `{name}`: its id has more than {_ID_CHARACTERS_MAX} characters")
        return found

    def _version_name(self, name: str) -> str:
        return f"{self._place.ring}/cryptoKeys/{self._id(name)}/cryptoKeyVersions/1"

    def _version(self, name: str) -> Any:  # noqa: ANN401 - a CryptoKeyVersion, or None if there is none
        request = {"name": self._version_name(name)}
        try:
            return self._client.get_crypto_key_version(request=request, retry=_AGAIN, timeout=CALL_SECONDS_MAX)
        except api.NotFound:
            return None

    def _is_there(self, name: str) -> bool:
        with self._lock:
            if name in self._gone:
                return False
        version = self._version(name)
        if version is not None and version.state not in _GONE:
            return True
        with self._lock:
            self._gone.add(name)
        return False

    def _wait(self, name: str) -> None:
        """Until KMS has made what it has promised."""
        for _ in range(int(GENERATION_SECONDS_MAX / _GENERATION_POLL_SECONDS)):
            version = self._version(name)
            if version is not None and version.state != _State.PENDING_GENERATION:
                return
            self._sleep(_GENERATION_POLL_SECONDS)
        raise TryAgain(f"Cloud KMS has not made the key `{name}` in {GENERATION_SECONDS_MAX:.0f} s")

    def _tried(self, name: str) -> ForeignKey:
        version = self._version_name(name)
        public = _repeated(lambda: self._public(version))
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            raise YourFault(f"the key `{name}` is not on P-256")
        digest = secrets.token_bytes(_DIGEST_BYTES)
        try:
            public.verify(self._sign(version, digest), digest, _PREHASHED)
        except InvalidSignature:
            raise TryAgain(f"Cloud KMS has signed by another key than `{name}`") from None
        return ForeignKey(name, public, lambda digest: self._signed(name, version, digest))

    def _public(self, version: str) -> object:
        request = {"name": version}
        found = self._client.get_public_key(request=request, retry=_AGAIN, timeout=CALL_SECONDS_MAX)
        if found.name != version or not _right(found.pem_crc32c, found.pem.encode()):
            raise _Damaged("a public key")
        try:
            return serialization.load_pem_public_key(found.pem.encode())
        except (ValueError, UnsupportedAlgorithm):
            raise YourFault(f"the public key of `{version}` cannot be read") from None

    def _signed(self, name: str, version: str, digest: bytes) -> bytes:
        with _told(f"sign by the key `{name}`"):
            return self._sign(version, digest)

    def _sign(self, version: str, digest: bytes) -> bytes:
        """The signature, in DER as KMS gives it."""
        return _repeated(lambda: self._sign_once(version, digest))

    def _sign_once(self, version: str, digest: bytes) -> bytes:
        request = {"name": version, "digest": {"sha256": digest}, "digest_crc32c": google_crc32c.value(digest)}
        try:
            found = self._client.asymmetric_sign(request=request, retry=_AGAIN, timeout=CALL_SECONDS_MAX)
        except api.InvalidArgument:
            # How KMS says that the digest is not the one of its checksum.
            raise _Damaged("what was to be signed") from None
        signature = bytes(found.signature)
        if found.name != version or not found.verified_digest_crc32c:
            raise _Damaged("what was to be signed")
        if not _right(found.signature_crc32c, signature):
            raise _Damaged("a signature")
        return signature


def _right(checksum: Any, data: bytes) -> bool:  # noqa: ANN401 - an int, or protobuf's wrapper of one, or None
    return bool(getattr(checksum, "value", checksum) == google_crc32c.value(data))


def _repeated(what: Callable[[], _Found]) -> _Found:
    for _ in range(ATTEMPTS):
        try:
            return what()
        except _Damaged as error:
            damaged = str(error)
    raise TryAgain(f"{damaged} was damaged on the way to or from Cloud KMS, {ATTEMPTS} times")


@contextmanager
def _told(doing: str) -> Iterator[None]:
    """What the caller can do about an error of KMS."""
    try:
        yield
    except SpangateError:
        raise
    except (api.PermissionDenied, api.Unauthenticated) as error:
        raise YourFault(
            f"Cloud KMS does not let this account {doing}: {error.message}",
            help="grant it roles/cloudkms.admin and roles/cloudkms.signerVerifier on the key ring",
        ) from error
    except (api.NotFound, api.FailedPrecondition, api.InvalidArgument) as error:
        raise YourFault(f"Cloud KMS cannot {doing}: {error.message}") from error
    except (api.GoogleAPIError, TransportError) as error:
        raise TryAgain(f"Cloud KMS could not {doing}: {error}") from error
    except GoogleAuthError as error:
        raise YourFault(
            f"no Google credentials to {doing}: {error}", help="for example: gcloud auth application-default login"
        ) from error
