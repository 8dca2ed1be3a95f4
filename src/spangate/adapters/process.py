"""Child processes: started so that they cannot outlive us, watched, and ended in good order.

Rules: a child gets a session of its own, so that Ctrl-C reaches only us and we decide the order; the kernel kills it
when we die, however we die (PR_SET_PDEATHSIG); what it prints goes to its own log file. Only processes started here
are ever signalled.
Not here: which processes there are (app/), what is handed to them (handover.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from spangate.errors import Broken, PeersFault

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
# Envoy and the emulator end within a fraction of a second; what takes longer hangs.
STOP_SECONDS_MAX = 5.0
# Enough of a log's end to see why a child died.
TAIL_BYTES_MAX = 2000
TAIL_LINES_MAX = 8
# The signals that have handlers here (app/stopping.py, app/run.py).
_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """A running process. `name` is what people are told."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
        waiting: Collection[signal.Signals] = (),
    ) -> None:
        """Starts it; it inherits `descriptors`, under their numbers. Signals in `waiting` wait until it takes them, so
        that none ends it before it knows what to do with it. Raises PeersFault if it cannot be started.
        """
        self.name = name
        self.log = log
        parent = os.getpid()
        try:
            with log.open("ab") as output, _undisturbed(), _blocked(waiting):
                self._process = subprocess.Popen(  # noqa: S603 - our own argument lists, never a shell
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=None if env is None else dict(env),
                    start_new_session=True,
                    pass_fds=tuple(descriptors),
                    preexec_fn=lambda: _die_with(parent),
                )
        except OSError as error:
            raise PeersFault(f"cannot start {name} (`{argv[0]}`): {error.strerror}") from error
        except BaseException:
            # A signal that waited: nobody will hold what has just been started.
            if hasattr(self, "_process"):
                self.stop()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Sends it; nothing if the process has ended. Its number is never taken for another's."""
        self._process.send_signal(number)

    def check(self) -> None:
        """Raises PeersFault, with the end of its log, if it has died."""
        code = self.exit_code()
        if code is None:
            return
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        raise PeersFault(f"{self.name} (pid {self.pid}) ended {how}{self.last_words()}")

    def last_words(self) -> str:
        """The end of its log, to be put behind a sentence; nothing if it said nothing."""
        tail = self.tail()
        return f"; it said last:\n{tail}" if tail else ""

    def tail(self) -> str:
        """The last lines of its log."""
        try:
            with self.log.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - TAIL_BYTES_MAX))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(f"  {line}" for line in text.splitlines()[-TAIL_LINES_MAX:])

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough. Safe to call twice."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals wait until the process is started: what a handler raises in a callback of the fork is printed and lost,
    and between fork and assignment nobody would know the child. Handlers run in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _HANDLED}
    replaced = [number for number, handler in handlers.items() if callable(handler)]
    for number in replaced:
        signal.signal(number, lambda which, _frame: came.append(which))
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, handlers[number])
        for which in came:
            signal.raise_signal(which)


@contextlib.contextmanager
def _blocked(numbers: Collection[signal.Signals]) -> Iterator[None]:
    """What is started meanwhile begins with these blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _die_with(parent: int) -> None:
    """In the child, before exec: SIGKILL when the parent dies, also if it has died already."""
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0 or os.getppid() != parent:
        os._exit(127)


def shell_exit_code(code: int) -> int:
    """The exit code a shell would report for a child's: 128 + n for signal n."""
    if code < -64:
        raise Broken(f"an impossible exit code: {code}")
    return code if code >= 0 else 128 - code
