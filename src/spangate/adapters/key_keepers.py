"""Keepers of the authority's private keys: in memory, and in encrypted files.

Rules: a file is written whole or not at all, 0600, in a directory of 0700, and is on the disk when `make` returns.
It holds the key as PKCS #8 in AES-256-GCM, under a key that scrypt makes of the passphrase (RFC 7914), with the name of
the key bound in: a file that was damaged, changed, or put in the place of another does not open. (PKCS #8's own
encryption would be neither as slow to guess nor noticed when changed: 2,048 rounds of PBKDF2, and CBC.)
The passphrase is read from a file, never from an argument or an environment variable that others could see; neither it
nor a key appears in an error, a log or `repr`.
What this protects against, and what not: docs/keys.md.
Not here: the port (authority/keeper.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from spangate.authority.keeper import check_key_name
from spangate.errors import Broken, TryAgain, YourFault

PASSPHRASE_BYTES_MIN = 16
PASSPHRASE_BYTES_MAX = 1024
# Where the passphrase is found, in this order: the file named here, and a credential that systemd hands over
# (LoadCredential=, https://systemd.io/CREDENTIALS).
PASSPHRASE_FILE_VARIABLE = "SPANGATE_KEY_PASSPHRASE_FILE"  # noqa: S105 - a name, not a secret
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
CREDENTIAL = "spangate-key-passphrase"
_SUFFIX = ".key"
_FORMAT = "spangate-key-1"
_FILE_BYTES_MAX = 4 * 1024
# Some 0.1 s and 32 MiB for each guess; "N = 2^15" is what RFC 7914's author gives for interactive use. Part of the
# format: a file cannot ask for less, or for all memory there is.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**15, 8, 1
# An authority has half a dozen keys at a time.
_CIPHERS_MAX = 64
_SALT_BYTES, _NONCE_BYTES, _AES_BYTES = 16, 12, 32


class MemoryKeys:
    """Keys that end with the process."""

    def __init__(self) -> None:
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}

    def make(self, name: str) -> ec.EllipticCurvePrivateKey:
        """See authority.keeper.KeyKeeper."""
        if check_key_name(name) in self._keys:
            raise Broken(f"there is a key `{name}` already")
        self._keys[name] = ec.generate_private_key(ec.SECP256R1())
        return self._keys[name]

    def open(self, name: str) -> ec.EllipticCurvePrivateKey:
        """See authority.keeper.KeyKeeper."""
        try:
            return self._keys[check_key_name(name)]
        except KeyError:
            raise YourFault(f"there is no key `{name}`") from None

    def names(self) -> tuple[str, ...]:
        """See authority.keeper.KeyKeeper."""
        return tuple(sorted(self._keys))

    def destroy(self, name: str) -> None:
        """See authority.keeper.KeyKeeper."""
        self._keys.pop(check_key_name(name), None)


class KeyFiles:
    """Keys in encrypted files, one each, in a directory of their own."""

    def __init__(self, directory: Path, passphrase: bytes) -> None:
        """Makes the directory if need be. Raises YourFault for a passphrase or directory that protects nothing."""
        if not PASSPHRASE_BYTES_MIN <= len(passphrase) <= PASSPHRASE_BYTES_MAX:
            raise YourFault(
                f"the passphrase has {len(passphrase)} bytes, not {PASSPHRASE_BYTES_MIN} to {PASSPHRASE_BYTES_MAX}",
                help="make one: openssl rand -base64 32",
            )
        self._directory = directory
        self._passphrase = passphrase
        # By salt: each costs 0.1 s, and a key that has just been made is opened next.
        self._ciphers: dict[bytes, AESGCM] = {}
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = directory.stat()
        except OSError as error:
            raise YourFault(f"cannot keep keys in `{directory}`: {error.strerror}") from error
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise YourFault(f"the directory `{directory}` is open to other users", help=f"chmod 700 {directory}")

    def make(self, name: str) -> ec.EllipticCurvePrivateKey:
        """See authority.keeper.KeyKeeper."""
        path = self._path(name)
        key = ec.generate_private_key(ec.SECP256R1())
        plain = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher(salt).encrypt(nonce, plain, _bound(name))
        fields = {"format": _FORMAT, "salt": salt.hex(), "nonce": nonce.hex(), "sealed": sealed.hex()}
        content = (json.dumps(fields, indent=1) + "\n").encode()
        self._write(path, content)
        return key

    def open(self, name: str) -> ec.EllipticCurvePrivateKey:
        """See authority.keeper.KeyKeeper."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                content = file.read(_FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            raise YourFault(f"there is no key `{name}` in `{self._directory}`") from None
        except OSError as error:
            raise TryAgain(f"cannot read the key `{name}`: {error.strerror}") from error
        try:
            salt, nonce, sealed = _parts(content)
            key = serialization.load_der_private_key(self._cipher(salt).decrypt(nonce, sealed, _bound(name)), None)
        except (ValueError, InvalidTag, UnsupportedAlgorithm):
            raise YourFault(
                f"the key `{name}` cannot be opened: it is damaged, not its own file, or under another passphrase",
                help=f"check the passphrase, or put the file back: {path}",
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise YourFault(f"the key `{name}` is not on P-256")
        return key

    def names(self) -> tuple[str, ...]:
        """See authority.keeper.KeyKeeper."""
        try:
            files = [path.name for path in self._directory.iterdir() if path.name.endswith(_SUFFIX)]
        except OSError as error:
            raise TryAgain(f"cannot read `{self._directory}`: {error.strerror}") from error
        return tuple(sorted(file.removesuffix(_SUFFIX) for file in files))

    def destroy(self, name: str) -> None:
        """See authority.keeper.KeyKeeper."""
        try:
            self._path(name).unlink(missing_ok=True)
            self._sync()
        except OSError as error:
            raise TryAgain(f"cannot remove the key `{name}`: {error.strerror}") from error

    def _cipher(self, salt: bytes) -> AESGCM:
        """For one file; the salt makes it another for each, so that no nonce meets one key twice."""
        known = self._ciphers.get(salt)
        if known is not None:
            return known
        derived = Scrypt(salt=salt, length=_AES_BYTES, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P).derive(self._passphrase)
        if len(self._ciphers) >= _CIPHERS_MAX:
            self._ciphers.clear()
        return self._ciphers.setdefault(salt, AESGCM(derived))

    def _path(self, name: str) -> Path:
        return self._directory / f"{check_key_name(name)}{_SUFFIX}"

    def _write(self, path: Path, content: bytes) -> None:
        """A link fails where a rename would replace: two that make the same name cannot both succeed."""
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
            self._sync()
        except FileExistsError:
            raise Broken(f"there is a key `{path.name.removesuffix(_SUFFIX)}` already") from None
        except OSError as error:
            raise TryAgain(f"cannot keep a key in `{self._directory}`: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _sync(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def new_passphrase() -> bytes:
    """A random one, for keys that nobody has to open later."""
    return secrets.token_urlsafe(_AES_BYTES).encode("ascii")


def _bound(name: str) -> bytes:
    return f"{_FORMAT}\n{name}".encode()


def _parts(content: bytes) -> tuple[bytes, bytes, bytes]:
    """Salt, nonce and sealed key. ValueError."""
    if len(content) > _FILE_BYTES_MAX:
        raise ValueError("too long")
    fields = json.loads(content)
    if not isinstance(fields, dict) or fields.get("format") != _FORMAT:
        raise ValueError("not a key file")
    texts = [fields.get(name) for name in ("salt", "nonce", "sealed")]
    salt, nonce, sealed = (bytes.fromhex(text) if isinstance(text, str) else b"" for text in texts)
    if len(salt) != _SALT_BYTES or len(nonce) != _NONCE_BYTES:
        raise ValueError("not a key file")
    return salt, nonce, sealed


def find_passphrase(environ: Mapping[str, str], file: Path | None = None) -> bytes:
    """What the file says, else the one named by SPANGATE_KEY_PASSPHRASE_FILE, else systemd's credential; without the
    line end. Raises YourFault.
    """
    named = file or (Path(environ[PASSPHRASE_FILE_VARIABLE]) if environ.get(PASSPHRASE_FILE_VARIABLE) else None)
    if named is None and environ.get(CREDENTIALS_VARIABLE):
        named = Path(environ[CREDENTIALS_VARIABLE]) / CREDENTIAL
    if named is None:
        raise YourFault(
            "keys that are kept need a passphrase, or the PIN of their token",
            help=f"put one into a file that only you can read and name it by {PASSPHRASE_FILE_VARIABLE}",
        )
    try:
        with named.open("rb") as source:
            status = os.fstat(source.fileno())
            content = source.read(PASSPHRASE_BYTES_MAX + 3)
    except OSError as error:
        raise YourFault(f"cannot read the passphrase in `{named}`: {error.strerror}") from error
    if stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o077:
        raise YourFault(f"the passphrase in `{named}` can be read by other users", help=f"chmod 600 {named}")
    return content.removesuffix(b"\n").removesuffix(b"\r")
