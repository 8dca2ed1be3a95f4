"""Compiled WebAssembly kept on disk, because compiling ZetaSQL takes longer than anybody waits.

Rules: what lies here is native code that this process will run, so a file is loaded only if it is a regular file of
ours that nobody else can write, in a directory of ours that nobody else can write, and if its content has the digest
in its name; anything else counts as absent and is made anew. Files appear whole (written aside, then renamed). The
file that was checked is the file that is loaded: both go through one descriptor. One process compiles, others wait.
Not here: which module and which settings (zetasql_engine.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from spangate.errors import YourFault

DIRECTORY_VARIABLE = "SPANGATE_CACHE_DIR"

_ADVICE = f"set {DIRECTORY_VARIABLE} to a directory of your own"
_SUFFIX = ".cwasm"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# 64 bits each: the key guards against mistaking one module for another, the digest against a torn file, neither
# against the owner of the file.
_KEY_HEX_DIGITS = 16
_DIGEST_HEX_DIGITS = 16

Loaded = TypeVar("Loaded")
Progress = Callable[[str], None]


def default_directory() -> Path:
    """`$SPANGATE_CACHE_DIR`, or `spangate` in the user's cache directory (XDG Base Directory Specification).

    Raises YourFault if there is no such place.
    """
    if chosen := os.environ.get(DIRECTORY_VARIABLE):
        return Path(chosen)
    # The specification: "all paths set in these environment variables must be absolute", others are ignored.
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if cache.is_absolute():
        return cache / "spangate"
    try:
        return Path.home() / ".cache" / "spangate"
    except RuntimeError as error:
        raise YourFault("this user has no home directory to keep the SQL analyser in", help=_ADVICE) from error


def key_of(*parts: str) -> str:
    """A short name for everything that compiled code depends on."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_KEY_HEX_DIGITS]


@dataclass(frozen=True, slots=True)
class ModuleCache:
    """The place of one compiled module: `<directory>/<name>-<key>-<digest>.cwasm`."""

    directory: Path
    name: str
    key: str

    @property
    def _prefix(self) -> str:
        return f"{self.name}-{self.key}-"

    def find(self) -> Path | None:
        """The file that may be loaded, or None if there is none."""
        with self._opened() as found:
            return found[0] if found else None

    def load(self, load: Callable[[str], Loaded]) -> Loaded | None:
        """What `load` makes of the trusted file; None if there is none or `load` refused it with ValueError.

        `load` gets a path that leads to the very file that was checked.
        """
        with self._opened() as found:
            if found is None:
                return None
            path, descriptor = found
            try:
                return load(f"/proc/self/fd/{descriptor}")
            except ValueError:
                # Whole, ours, and yet not to be had: made by a build that calls itself the same.
                path.unlink(missing_ok=True)
                return None

    def fill(self, compile_module: Callable[[], bytes | bytearray], progress: Progress) -> Path:
        """The trusted file, made with `compile_module` if it is not there yet.

        Raises YourFault if the directory cannot be used.
        """
        self._make_directory()
        with self._lock(progress):
            if found := self.find():
                return found
            progress("compiling the SQL analyser; this happens once and takes about half a minute")
            code = compile_module()
            path = self.directory / f"{self._prefix}{hashlib.sha256(code).hexdigest()[:_DIGEST_HEX_DIGITS]}{_SUFFIX}"
            # Torn, tampered with, no longer to be loaded, or left by a process that died; the lock is ours.
            for useless in (*self._candidates(), *self.directory.glob(f".{self._prefix}*")):
                useless.unlink(missing_ok=True)
            self._write(path, code)
            progress("the SQL analyser is ready")
            return path

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Path, int] | None]:
        """The first file of ours that passes every check, open, with its descriptor."""
        for path in self._candidates():
            try:
                # O_NONBLOCK so that a pipe of that name cannot hold us up.
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                continue
            with os.fdopen(descriptor, "rb") as file:
                if _is_ours_alone(os.fstat(descriptor), stat.S_IFREG) and path.name == self._name_by_content(file):
                    yield path, descriptor
                    return
        yield None

    def _candidates(self) -> list[Path]:
        try:
            if not _is_ours_alone(self.directory.stat(), stat.S_IFDIR):
                return []
            return sorted(self.directory.glob(f"{self._prefix}*{_SUFFIX}"))
        except OSError:
            return []

    def _name_by_content(self, file: object) -> str:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:_DIGEST_HEX_DIGITS]  # type: ignore[arg-type]
        return f"{self._prefix}{digest}{_SUFFIX}"

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            facts = self.directory.stat()
        except OSError as error:
            raise YourFault(
                f"cannot make the cache directory `{self.directory}`: {error.strerror}", help=_ADVICE
            ) from error
        if not _is_ours_alone(facts, stat.S_IFDIR):
            raise YourFault(f"the cache directory `{self.directory}` can be written by others", help=_ADVICE)

    @contextlib.contextmanager
    def _lock(self, progress: Progress) -> Iterator[None]:
        """Held by the one process that compiles; the kernel lets it go if that process dies."""
        path = self.directory / f"{self._prefix.rstrip('-')}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"cannot write to the cache directory `{self.directory}`: {error.strerror}"
            raise YourFault(message, help=_ADVICE) from error
        with os.fdopen(descriptor, "w"):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress("another process compiles the SQL analyser; waiting for it")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    def _write(self, path: Path, code: bytes | bytearray) -> None:
        try:
            descriptor, aside = tempfile.mkstemp(prefix=f".{self._prefix}", dir=self.directory)  # mode 0600
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(code)
                    file.flush()
                    os.fsync(descriptor)
                Path(aside).replace(path)
            except BaseException:
                Path(aside).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise YourFault(f"cannot write `{path}`: {error.strerror}") from error


def _is_ours_alone(facts: os.stat_result, kind: int) -> bool:
    return (
        stat.S_IFMT(facts.st_mode) == kind and facts.st_uid == os.geteuid() and not facts.st_mode & _WRITABLE_BY_OTHERS
    )
