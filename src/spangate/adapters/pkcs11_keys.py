"""A keeper of private keys in a PKCS #11 token: a hardware security module, a smart card, SoftHSM.

Rules: a key is made in the token, as one that is sensitive and cannot be extracted, and the token is asked afterwards
whether it is; a key for which that is not so is not opened. The labels of all keys of one installation begin with its
prefix, and nothing else in the token is looked at. A signature is converted to DER, and one is tried when a key is
opened, so that a public key in the place of another is noticed.
The module is a C library that is told that nobody else calls it at the same time, so calls to it take turns. A session
that is lost is opened again, once, with the PIN; a PIN that was refused is never shown again, because tokens lock
themselves after a few. The PIN appears in no error, log or `repr`.
Source: PKCS #11 v3.1, sections 4.9 (private keys), 6.3 (elliptic curves); `CKM_ECDSA` signs a digest.
Not here: the port (authority/keeper.py), which token (pkcs11_uri.py).
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import NoReturn, TypeVar

import pkcs11
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

from spangate.adapters.foreign_key import ForeignKey
from spangate.adapters.pkcs11_uri import TokenPlace
from spangate.authority.keeper import check_key_name, is_key_name
from spangate.errors import Broken, SpangateError, TryAgain, YourFault

PIN_BYTES_MAX = 255
# A signature takes a module in a network some 10 ms; one that takes this long for those before us hangs.
TURN_SECONDS_MAX = 10.0
# Far more than an authority ever has; the search stops here.
OBJECTS_MAX = 10_000
# secp256r1, as an object identifier in DER (RFC 5480, section 2.1.1.1).
_P256 = bytes.fromhex("06082a8648ce3d030107")
_P256_BYTES = 32
_ID_BYTES = 16
_PREHASHED = ec.ECDSA(Prehashed(hashes.SHA256()))
# The call was not begun: the session, the login or a handle is one of before.
_LOST = (
    pkcs11.SessionHandleInvalid,
    pkcs11.SessionClosed,
    pkcs11.UserNotLoggedIn,
    pkcs11.KeyHandleInvalid,
    pkcs11.ObjectHandleInvalid,
)
_PIN_REFUSED = (
    pkcs11.PinIncorrect,
    pkcs11.PinInvalid,
    pkcs11.PinLenRange,
    pkcs11.PinExpired,
    pkcs11.PinLocked,
    pkcs11.UserPinNotInitialized,
)
_CANNOT = (
    pkcs11.MechanismInvalid,
    pkcs11.FunctionNotSupported,
    pkcs11.TemplateInconsistent,
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeValueInvalid,
    pkcs11.TokenWriteProtected,
    pkcs11.DomainParamsInvalid,
)
_Found = TypeVar("_Found")


class _Turns:
    """One lock for each module of this process: the module's state belongs to the process, not to a keeper."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def of(self, module: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(module, threading.Lock())


_TURNS = _Turns()


class Pkcs11Keys:
    """Keys in a token, found by their labels. Any thread may use it, and so may the keys that it gives out."""

    def __init__(self, place: TokenPlace, pin: bytes) -> None:
        """Logs in to the token. Raises YourFault for a module, token or PIN that is none, TryAgain if it fails."""
        try:
            self._pin = pin.decode("utf-8")
        except UnicodeDecodeError:
            raise YourFault("the PIN of the token is not UTF-8") from None
        if not 0 < len(pin) <= PIN_BYTES_MAX:
            raise YourFault(f"the PIN of the token has {len(pin)} bytes, not 1 to {PIN_BYTES_MAX}")
        self._place = place
        self._turn = _TURNS.of(place.module)
        self._session: pkcs11.Session | None = None
        self._refused = False
        # The handles of private keys, which end with the session.
        self._handles: dict[str, pkcs11.PrivateKey] = {}
        with self._turns():
            self._opened()

    def make(self, name: str) -> ec.EllipticCurvePrivateKey:
        """See authority.keeper.KeyKeeper."""
        label = self._label(name)
        return self._used(lambda session: self._make(session, name, label))

    def open(self, name: str) -> ec.EllipticCurvePrivateKey:
        """See authority.keeper.KeyKeeper."""
        label = self._label(name)
        return self._used(lambda session: self._open(session, name, label))

    def names(self) -> tuple[str, ...]:
        """See authority.keeper.KeyKeeper."""
        beginning = f"{self._place.prefix}/"

        def listed(session: pkcs11.Session) -> tuple[str, ...]:
            found = _search(session, {Attribute.CLASS: ObjectClass.PRIVATE_KEY})
            labels = [key.label for key in found if isinstance(key, pkcs11.PrivateKey)]
            ours = {label.removeprefix(beginning) for label in labels if label.startswith(beginning)}
            return tuple(sorted(filter(is_key_name, ours)))

        return self._used(listed)

    def destroy(self, name: str) -> None:
        """See authority.keeper.KeyKeeper."""
        label = self._label(name)

        def gone(session: pkcs11.Session) -> None:
            self._handles.pop(label, None)
            # The private key first: what may be left after an interruption is a public one, which nobody looks for.
            for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
                for found in _search(session, {Attribute.CLASS: kind, Attribute.LABEL: label}):
                    found.destroy()

        self._used(gone)

    def _label(self, name: str) -> str:
        return f"{self._place.prefix}/{check_key_name(name)}"

    def _make(self, session: pkcs11.Session, name: str, label: str) -> ec.EllipticCurvePrivateKey:
        if _private_keys(session, label):
            raise Broken(f"there is a key `{name}` already")
        parameters = session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: _P256}, local=True)
        public, private = parameters.generate_keypair(
            id=secrets.token_bytes(_ID_BYTES),
            label=label,
            store=True,
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
            mechanism=Mechanism.EC_KEY_PAIR_GEN,
            private_template={
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.DERIVE: False,
            },
        )
        try:
            # Two processes cannot both succeed: whoever looks last sees two, and if both look last, neither does.
            if len(_private_keys(session, label)) != 1:
                raise Broken(f"there is a key `{name}` already")
            return self._open(session, name, label)
        except (SpangateError, pkcs11.PKCS11Error):
            for one in (private, public):
                with suppress(pkcs11.PKCS11Error):
                    one.destroy()
            raise

    def _open(self, session: pkcs11.Session, name: str, label: str) -> ec.EllipticCurvePrivateKey:
        private = self._private(session, name, label)
        if private[Attribute.KEY_TYPE] is not KeyType.EC or private[Attribute.EC_PARAMS] != _P256:
            raise YourFault(f"the key `{name}` is not on P-256")
        if not private[Attribute.SENSITIVE] or private[Attribute.EXTRACTABLE]:
            raise YourFault(
                f"the token would give the key `{name}` out: it is not sensitive, or it can be extracted",
                help="let Spangate make its keys in the token; keys that were brought there are not used",
            )
        public = _public_key(session, name, label, private)
        digest = secrets.token_bytes(_P256_BYTES)
        try:
            public.verify(_signature(private, digest), digest, _PREHASHED)
        except InvalidSignature:
            raise YourFault(f"the public key beside the key `{name}` in the token is another one's") from None
        self._handles[label] = private
        return ForeignKey(name, public, lambda digest: self._sign(name, label, digest))

    def _sign(self, name: str, label: str, digest: bytes) -> bytes:
        def signed(session: pkcs11.Session) -> bytes:
            private = self._handles.get(label)
            if private is None:
                private = self._handles[label] = self._private(session, name, label)
            return _signature(private, digest)

        return self._used(signed)

    def _private(self, session: pkcs11.Session, name: str, label: str) -> pkcs11.PrivateKey:
        found = _private_keys(session, label)
        if not found:
            raise YourFault(f"there is no key `{name}` in the token")
        if len(found) > 1:
            raise YourFault(f"two keys in the token are called `{label}`", help="remove the wrong one")
        return found[0]

    def _used(self, what: Callable[[pkcs11.Session], _Found]) -> _Found:
        """`what` with the session, in our turn; once more with a new session if the one there was is lost."""
        with self._turns():
            try:
                return what(self._opened())
            except _LOST:
                self._drop()
            except pkcs11.PKCS11Error as error:
                self._drop()
                _tell(error)
            try:
                return what(self._opened())
            except pkcs11.PKCS11Error as error:
                self._drop()
                _tell(error)

    @contextmanager
    def _turns(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=TURN_SECONDS_MAX):
            raise TryAgain(f"the token's module has not answered for {TURN_SECONDS_MAX:.0f} s")
        try:
            yield
        finally:
            self._turn.release()

    def _opened(self) -> pkcs11.Session:
        if self._session is None:
            if self._refused:
                # Every PIN that is refused brings the token nearer to locking itself.
                raise YourFault("the token has refused the PIN, and is not asked again", help="start with another PIN")
            token = self._token()
            try:
                self._session = self._logged_in(token)
            except pkcs11.PKCS11Error as error:
                _tell(error)
        return self._session

    def _token(self) -> pkcs11.Token:
        place = self._place
        try:
            library = pkcs11.lib(place.module)
        except pkcs11.PKCS11Error as error:
            raise YourFault(f"the PKCS #11 module `{place.module}` cannot be loaded: {error}") from error
        serial = None if place.serial is None else place.serial.encode()
        try:
            return library.get_token(token_label=place.token, token_serial=serial)
        except pkcs11.NoSuchToken:
            raise TryAgain(
                f"there is no such token: `{place}`", help=f"see what there is: pkcs11-tool --module {place.module} -T"
            ) from None
        except pkcs11.MultipleTokensReturned:
            raise YourFault(f"several tokens are called so: `{place}`", help="add `serial` to the URI") from None
        except pkcs11.PKCS11Error as error:
            _tell(error)

    def _logged_in(self, token: pkcs11.Token) -> pkcs11.Session:
        try:
            return token.open(rw=True, user_pin=self._pin)
        except pkcs11.UserAlreadyLoggedIn:
            # By another session of this process; the login is the process's, not the session's.
            return token.open(rw=True)
        except _PIN_REFUSED as error:
            self._refused = True
            raise YourFault(
                f"the token refuses the PIN ({type(error).__name__})",
                help="tokens lock themselves after a few wrong ones; find out which is right before the next attempt",
            ) from None

    def _drop(self) -> None:
        session, self._session = self._session, None
        self._handles.clear()
        if session is not None:
            with suppress(pkcs11.PKCS11Error):
                session.close()


def _search(session: pkcs11.Session, attributes: dict[Attribute, object]) -> list[pkcs11.Object]:
    """Objects that stay in the token, and have these attributes."""
    found = list(islice(session.get_objects({Attribute.TOKEN: True, **attributes}), OBJECTS_MAX + 1))
    if len(found) > OBJECTS_MAX:
        raise YourFault(f"the token holds more than {OBJECTS_MAX} keys", help="give Spangate a token of its own")
    return found


def _private_keys(session: pkcs11.Session, label: str) -> list[pkcs11.PrivateKey]:
    found = _search(session, {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: label})
    return [one for one in found if isinstance(one, pkcs11.PrivateKey)]


def _public_key(
    session: pkcs11.Session, name: str, label: str, private: pkcs11.PrivateKey
) -> ec.EllipticCurvePublicKey:
    """Of the pair: the one with the same CKA_ID, too."""
    wanted = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.LABEL: label, Attribute.ID: private[Attribute.ID]}
    for found in _search(session, wanted):
        point = bytes(found[Attribute.EC_POINT])
        # In a DER OCTET STRING, as PKCS #11 wants it; some tokens leave that out.
        if len(point) == 2 * _P256_BYTES + 3 and point[:2] == bytes([4, 2 * _P256_BYTES + 1]):
            point = point[2:]
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        except ValueError:
            raise YourFault(f"the public key of `{name}` in the token cannot be read") from None
    raise YourFault(f"the token has no public key beside the key `{name}`")


def _signature(private: pkcs11.PrivateKey, digest: bytes) -> bytes:
    """In DER; PKCS #11 gives R and S one after the other (section 6.3.1)."""
    if not isinstance(private, pkcs11.SignMixin):
        raise YourFault("the token's key is not one that signs")
    both = private.sign(digest, mechanism=Mechanism.ECDSA)
    if len(both) != 2 * _P256_BYTES:
        raise TryAgain(f"the token has made a signature of {len(both)} bytes")
    return encode_dss_signature(int.from_bytes(both[:_P256_BYTES], "big"), int.from_bytes(both[_P256_BYTES:], "big"))


def _tell(error: pkcs11.PKCS11Error) -> NoReturn:
    """What the caller can do about it."""
    what = str(error) or type(error).__name__
    if isinstance(error, _CANNOT):
        raise YourFault(
            f"the token cannot do what is needed ({what})", help="it has to make and use P-256 keys (CKM_ECDSA)"
        ) from error
    raise TryAgain(f"the token does not answer as it should ({what})") from error
