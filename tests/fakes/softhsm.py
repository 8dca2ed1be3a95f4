"""A real PKCS #11 token: SoftHSM's, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pkcs11

from spangate.adapters.pkcs11_uri import TokenPlace

PIN = b"471147"
_SO_PIN = "08154711"
_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")
MODULE = next((module for module in _MODULES if Path(module).exists()), "")
TOOL = shutil.which("softhsm2-util") or ""
MISSING = "" if MODULE and TOOL else "needs SoftHSM, a PKCS #11 token in software (Debian package softhsm2)"


class SoftToken:
    """`environ` is what a process needs to see it. This process sees it too, and no other one of the tests' tokens."""

    def __init__(self, folder: Path, label: str = "authority") -> None:
        self.folder = folder / "tokens"
        self.folder.mkdir(parents=True)
        conf = folder / "softhsm2.conf"
        conf.write_text(f"directories.tokendir = {self.folder}\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.environ = {"SOFTHSM2_CONF": str(conf)}
        self.place = TokenPlace(MODULE, label)
        self.begin()
        self.init(label)

    def init(self, label: str) -> None:
        """One more token in the same folder."""
        command = [TOOL, "--init-token", "--free", "--label", label, "--pin", PIN.decode(), "--so-pin", _SO_PIN]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **self.environ}, timeout=30)
        self.begin()

    def begin(self) -> None:
        """The module begins anew, as in a new process: it has read nothing, and nobody is logged in."""
        os.environ.update(self.environ)
        pkcs11.lib(MODULE).reinitialize()

    def remove(self) -> None:
        """The token is taken away."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        self.begin()

    def files(self) -> list[Path]:
        """Everything that the token has written."""
        return [path for path in self.folder.rglob("*") if path.is_file()]
