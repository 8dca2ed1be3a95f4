"""Istio's `cacerts` in folders: read, and written for each step of a rotation.

Rules: what is written holds private keys of the mesh: folders 0700, files 0600, nothing that exists is overwritten.
Not here: what is right (authority/istio_secret.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from spangate.authority.istio_secret import (
    FILE_CHARACTERS_MAX,
    FILES,
    CaCerts,
    CaKey,
    Step,
    manifest,
    new_cacerts,
    private_pem,
    read_cacerts,
)
from spangate.errors import YourFault

MANIFEST = "secret.yaml"
ROOT_KEY = "root-key.pem"
# What Istio's own tools make; verifying costs the same as ever, and a new root is made once in years.
_RSA_BITS = 4096
_RSA_EXPONENT = 65537


def cacerts_in(folder: Path, now: datetime) -> CaCerts:
    """The secret whose files lie in `folder`. Raises YourFault."""
    files = {}
    for name in FILES:
        try:
            with (folder / name).open(encoding="ascii") as file:
                files[name] = file.read(FILE_CHARACTERS_MAX + 1)
        except FileNotFoundError:
            raise YourFault(
                f"there is no `{name}` in `{folder}`",
                help="kubectl -n istio-system get secret cacerts -o json holds them, in base64",
            ) from None
        except (OSError, ValueError) as error:
            raise YourFault(f"cannot read `{folder / name}`: {error}") from error
    return read_cacerts(files, now)


def made_like(current: CaCerts, now: datetime) -> tuple[CaCerts, CaKey]:
    """A new root and authority with keys of the kind that `current` has; and the root's key."""
    serials = x509.random_serial_number(), x509.random_serial_number()
    return new_cacerts(current, (_key_like(current.key), _key_like(current.key)), serials, now)


def write_steps(folder: Path, steps: tuple[Step, ...], root_key: CaKey | None) -> None:
    """Each step's files and manifest in a folder of its own; the new root's key apart. Raises YourFault."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=False)
        for step in steps:
            below = folder / step.name
            below.mkdir(mode=0o700)
            _write(below, {**step.secret.files, MANIFEST: manifest(step.secret)})
        if root_key is not None:
            apart = folder / "new-root"
            apart.mkdir(mode=0o700)
            _write(apart, {ROOT_KEY: private_pem(root_key)})
    except FileExistsError:
        raise YourFault(f"`{folder}` exists already", help="choose another folder for the steps") from None
    except OSError as error:
        raise YourFault(f"cannot write below `{folder}`: {error.strerror}") from error


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)


def _key_like(key: CaKey) -> CaKey:
    if isinstance(key, rsa.RSAPrivateKey):
        return rsa.generate_private_key(_RSA_EXPONENT, max(_RSA_BITS, key.key_size))
    return ec.generate_private_key(key.curve)
