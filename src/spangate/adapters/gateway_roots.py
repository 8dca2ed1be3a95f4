"""The roots by which clients verify the gateway's certificate, in a file of the state directory.

`up` writes it and keeps it as it is now; `run` reads it again and again. Nothing in it is secret, and the directory is
the own user's alone.
Not here: the roots by which the gateway verifies its clients (trust_files.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from spangate.adapters.sds_door import Secrets, Source
from spangate.adapters.trust_files import read_limited
from spangate.authority.bundles import BadBundle, read_bundle
from spangate.errors import PeersFault

FILE = "gateway-roots.pem"


class RootsWriter:
    """Keeps the file at `path` as `roots` says. `look` is called again and again."""

    def __init__(self, path: Path, roots: Callable[[], str | None]) -> None:
        self._path = path
        self._roots = roots
        self._written = ""

    def look(self) -> None:
        """Writes the file, at once, if the roots are others now."""
        roots = self._roots()
        if roots is None or roots == self._written:
            return
        temporary = self._path.with_name(self._path.name + ".new")
        temporary.write_text(roots, encoding="ascii")
        temporary.replace(self._path)
        self._written = roots


class RootsReader:
    """The file at `path` as it is now. Raises PeersFault when made, if it holds no roots."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._pem = self._read()
        except (OSError, BadBundle) as error:
            raise PeersFault(f"`{path}` does not say by which roots the gateway is verified: {error}") from error

    @property
    def pem(self) -> str:
        """The roots."""
        return self._pem

    def look(self) -> None:
        """Takes a change in. Its writer replaces it as a whole, so what is not good is gone, and the last one stays."""
        with contextlib.suppress(OSError, BadBundle):
            self._pem = self._read()

    def _read(self) -> str:
        content = read_limited(self._path)
        read_bundle(content)
        return content.decode("ascii")


class WithRoots:
    """The certificate of `certificate`, and for its peers the roots that `roots` gives."""

    def __init__(self, certificate: Source, roots: Callable[[], str]) -> None:
        self._certificate = certificate
        self._roots = roots

    def current(self) -> Secrets | None:
        """The generation of this moment."""
        found = self._certificate.current()
        if found is None:
            return None
        # The authority's roots count as taken with these: this peer verifies nobody by them.
        return replace(found, bundle_pem=self._roots(), roots_pem=found.bundle_pem)
