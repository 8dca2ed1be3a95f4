"""The state directory `.spangate` beside an intent file: what runs, and what is kept.

    up.json                  what runs where, for `run`, `explain` and `log`; gone when nothing runs
    lock                     held by the one `up` of this directory
    gateway.jsonl, decisions.jsonl, audit.jsonl, audit.state.json   (audit_files.py)
    gateway-roots.pem        by which clients verify the gateway's certificate (gateway_roots.py)
    authority.sqlite         certificates of an authority whose keys are kept (authority_store.py); no key
    seals.sqlite             the keys that session names and transaction ids are sealed with (seal_keys.py)
    logs/                    what the child processes print

Sockets and Envoy's configuration lie in a directory of their own with a short path (a Unix socket's path has at most
107 bytes), which goes when `up` ends, or with the next start if `up` was killed. Nothing in either directory is secret
but seals.sqlite; keys in it are encrypted, and nobody has their passphrase any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from spangate.errors import TryAgain, YourFault
from spangate.model.identity import SpiffeId

_RUNTIME_PREFIX, _RUNTIME_LOCK = "spangate-", "lock"
STATE_DIRECTORY = ".spangate"
DIRECTORY_MODE = 0o700


@dataclass(frozen=True, slots=True)
class Running:
    """What `up` tells other commands. Addresses are `host:port`."""

    pid: int
    intent: str
    trust_domain: str
    gateway: str
    gateway_identity: str
    # A file with the roots of the gateway's own certificate.
    gateway_roots: str
    authority_socket: str
    issuer: str
    # The Workload API, and the authority's door for pods; empty if there is none.
    workload_socket: str
    pods: str
    spanner: str
    emulator: bool
    project: str
    google_trust_store: str = ""
    # The token service that the broker asks, and who may vouch for a Spanner over TLS (a file); empty if there is none.
    sts: str = ""
    spanner_ca: str = ""

    @property
    def gateway_is_own(self) -> bool:
        """Whether the gateway's certificate is from the authority of this installation, and not a mesh's."""
        return self.gateway_identity == str(SpiffeId.gateway(self.trust_domain))


class StateDirectory:
    """The state directory of one intent file."""

    def __init__(self, intent: Path) -> None:
        self.path = intent.resolve().parent / STATE_DIRECTORY

    def make(self) -> None:
        """Makes it, for the own user alone. Raises YourFault."""
        try:
            self.path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            self.path.chmod(DIRECTORY_MODE)
            self.logs.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        except OSError as error:
            raise YourFault(f"cannot use the state directory `{self.path}`: {error.strerror}") from error

    @property
    def logs(self) -> Path:
        """Where child processes print."""
        return self.path / "logs"

    def fresh_log(self, name: str) -> Path:
        """Where the part of that name prints; what an earlier run said is not news."""
        log = self.logs / f"{name}.log"
        log.unlink(missing_ok=True)
        return log

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """For the time of one `up`. Raises TryAgain if another one runs here."""
        with (self.path / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                running = self.running_or_none()
                who = f" (pid {running.pid}, gateway {running.gateway})" if running else ""
                raise TryAgain(
                    f"`spangate up` runs in this folder already{who}", help="use that one, or stop it with Ctrl-C"
                ) from error
            # A killed `up` leaves this behind; whoever holds the lock knows that it is stale.
            self.withdraw()
            yield

    def announce(self, running: Running) -> None:
        """From now on other commands find it. Atomic."""
        temporary = self.path / "up.json.new"
        temporary.write_text(json.dumps(asdict(running), indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.path / "up.json")

    def withdraw(self) -> None:
        """Nothing runs any more."""
        (self.path / "up.json").unlink(missing_ok=True)

    def running(self) -> Running:
        """What runs here. Raises TryAgain if nothing does."""
        found = self.running_or_none()
        if found is None:
            raise TryAgain(
                f"`spangate up` does not run in `{self.path.parent}`",
                help="start it there in another terminal, or name its intent file with --intent",
            )
        return found

    def running_or_none(self) -> Running | None:
        """What runs here, or None."""
        try:
            found = Running(**json.loads((self.path / "up.json").read_text(encoding="utf-8")))
            os.kill(found.pid, 0)
        except (OSError, ValueError, TypeError):
            return None
        return found


@contextlib.contextmanager
def runtime_directory() -> Iterator[Path]:
    """A fresh directory with a short path for sockets, 0700, removed at the end.

    What processes that were killed have left behind is removed, too: each holds a lock in its directory while it lives.
    """
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    base = Path(named if named and _is_our_own(Path(named)) else "/tmp")  # noqa: S108 - 0700, random
    for left in base.glob(f"{_RUNTIME_PREFIX}*"):
        _remove_if_dead(left)
    directory = Path(tempfile.mkdtemp(prefix=_RUNTIME_PREFIX, dir=base))
    try:
        with (directory / "lock.new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Whoever sees a lock by its name sees it held, or its holder is dead.
            (directory / "lock.new").rename(directory / _RUNTIME_LOCK)
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _is_our_own(directory: Path) -> bool:
    """Whether nobody else may put something in the place of what is made there. `su` keeps the variable of the user
    from whom one comes, who could exchange the whole folder: sockets, Envoy's configuration, the filter.
    """
    try:
        status = directory.stat()
    except OSError:
        return False
    alone = status.st_uid == os.getuid() and not stat.S_IMODE(status.st_mode) & 0o022
    return alone and stat.S_ISDIR(status.st_mode) and os.access(directory, os.W_OK)


def _remove_if_dead(directory: Path) -> None:
    """Only a directory of ours, for us alone, whose lock nobody holds."""
    with contextlib.suppress(OSError):
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or stat.S_IMODE(status.st_mode) != DIRECTORY_MODE:
            return
        if status.st_uid != os.getuid():
            return
        lock = os.open(directory / _RUNTIME_LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)
