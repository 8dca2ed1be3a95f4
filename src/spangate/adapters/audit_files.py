"""The audit collector: follows the gateway's access log, joins each line with its decision, appends to audit.jsonl.

Rules: every line of the gateway becomes exactly one record, in order, across restarts and crashes. To that end:
- records are on the disk (fsync) before the state file says so, and the state file changes by rename;
- after a crash between the two, audit.jsonl has more records than the state says; one record stands for one line, so
  that many lines are skipped. Half a record at the end is cut off and written again, whole;
- the state names the gateway's file by device, inode and a digest of the bytes before the offset: another file of the
  same name is read from its beginning. A renamed file is read to its end first.
Nothing else may write to audit.jsonl. Blank lines are no lines.
Not here: what a record says (audit/), finding decisions (audit_decisions.py), reading records (audit_reader.py).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from spangate.adapters.audit_decisions import DecisionFile
from spangate.audit.join import join_raw
from spangate.errors import Broken

AUDIT_FILE = "audit.jsonl"
DECISIONS_FILE = "decisions.jsonl"
GATEWAY_FILE = "gateway.jsonl"
STATE_FILE = "audit.state.json"

# A quarter of what `spangate log -f` may lag behind (200 ms); joining, writing and its own look take the rest.
POLL_SECONDS = 0.05
# After a failure: a full disk does not empty itself in 50 ms.
RETRY_SECONDS = 1.0
# Read at a time, so that memory is bounded after a long pause. Also the longest line, which is cut in pieces above:
# Envoy takes headers of 60 KiB, which escaping can make six times as long.
BATCH_BYTES_MAX = 1024 * 1024
# How many bytes before the offset tell one gateway file from another with the same inode.
FINGERPRINT_BYTES = 256
FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class AuditPaths:
    """The four files of one state directory."""

    gateway: Path
    decisions: Path
    audit: Path
    state: Path

    @classmethod
    def below(cls, directory: Path) -> AuditPaths:
        """The usual names."""
        names = (GATEWAY_FILE, DECISIONS_FILE, AUDIT_FILE, STATE_FILE)
        return cls(*(directory / name for name in names))


@dataclass(frozen=True, slots=True)
class _State:
    """How far both files are settled: `gateway_offset` bytes of the one are in `audit_offset` bytes of the other."""

    device: int
    inode: int
    gateway_offset: int
    fingerprint: str
    audit_offset: int


class Collector:
    """`start` and `stop`, or `step` in a loop of one's own. `problem` gets one sentence for each new trouble."""

    def __init__(self, paths: AuditPaths, *, problem: Callable[[str], None]) -> None:
        self._paths = paths
        self._problem = problem
        self._decisions = DecisionFile(paths.decisions)
        # Both None until `_ready` has found them.
        self._gateway: io.FileIO | None = None
        self._state: _State | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble = ""

    def start(self) -> None:
        """Follow in a thread. What was logged since the last stop is taken up first."""
        if self._thread is not None:
            raise Broken("the audit collector is started twice")
        self._thread = threading.Thread(target=self._run, name="spangate-audit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take in every complete line that is there now, then end. Safe to call twice."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def step(self) -> bool:
        """Take in at most BATCH_BYTES_MAX of new lines; whether there were any. Raises OSError if it cannot.

        After an error the next step looks at the disk afresh: nothing is lost or doubled.
        """
        try:
            return self._step()
        except BaseException:
            self._forget()
            raise

    def close(self) -> None:
        """Close the gateway's file; for those who use `step` themselves."""
        self._forget()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._told_step():
                self._stopping.wait(RETRY_SECONDS if self._trouble else POLL_SECONDS)
        # What is there now is taken in, whatever comes later is not: a gateway that goes on must not keep us.
        end = self._paths.gateway.stat().st_size if self._paths.gateway.exists() else 0
        while self._told_step() and (self._state is None or self._state.gateway_offset < end):
            pass
        self._forget()

    def _told_step(self) -> bool:
        """A step whose failure is told once and tried again: the disk may have room later."""
        try:
            done = self.step()
        # The thread must outlive any defect: were it to die, requests would go on without a record.
        except Exception as e:  # noqa: BLE001
            # A full disk fails now at this file, now at that one: told apart by what is wrong, not by where.
            trouble = (e.strerror if isinstance(e, OSError) else None) or f"{type(e).__name__}: {e}"
            if trouble != self._trouble:
                self._problem(f"requests go unrecorded, the audit cannot be written: {trouble}")
            self._trouble = trouble
            return False
        self._trouble = ""
        return done

    def _step(self) -> bool:
        if self._gateway is None:
            self._gateway = _opened(self._paths.gateway)
            if self._gateway is None:
                return False
        gateway = self._gateway
        if self._state is None:
            self._state = self._recover(gateway)
        if self._take(gateway, self._state):
            return True
        if os.fstat(gateway.fileno()).st_size < self._state.gateway_offset:
            self._problem("the gateway's log was cut off; lines in it may be lost")
            self._state = self._settle(gateway, 0, self._state.audit_offset)
            return self._take(gateway, self._state)
        return self._turn_over(gateway)

    def _take(self, gateway: io.FileIO, state: _State, *, final: bool = False) -> bool:
        """One batch: read, join, append, settle."""
        lines, taken = _read_lines(gateway, state.gateway_offset, final=final)
        if not taken:
            return False
        records = [join_raw(line.rstrip(b"\n"), self._decisions).to_json() for line in lines if line.strip()]
        data = "".join(f"{record}\n" for record in records).encode("ascii")
        _append(self._paths.audit, data, expected_size=state.audit_offset)
        self._state = self._settle(gateway, state.gateway_offset + taken, state.audit_offset + len(data))
        return True

    def _turn_over(self, gateway: io.FileIO) -> bool:
        """If the name belongs to another file now: the old one to its very end, then the new one."""
        try:
            there, here = self._paths.gateway.stat(), os.fstat(gateway.fileno())
        except FileNotFoundError:
            return False
        if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
            return False
        while self._state is not None and self._take(gateway, self._state, final=True):
            pass
        self._forget()
        return True

    def _recover(self, gateway: io.FileIO) -> _State:
        """Where to go on, from what is on the disk."""
        stored = self._stored()
        written = _trimmed_size(self._paths.audit)
        if stored is None:
            return self._settle(gateway, 0, written)
        if written < stored.audit_offset:
            self._problem(f"records were removed from `{self._paths.audit}` by somebody else")
        if not _is_file_of(gateway, stored):
            return self._settle(gateway, 0, written)
        unsettled = _count_lines(self._paths.audit, stored.audit_offset, written)
        return self._settle(gateway, _skipped(gateway, stored.gateway_offset, unsettled), written)

    def _stored(self) -> _State | None:
        try:
            text = self._paths.state.read_text()
        except FileNotFoundError:
            return None
        try:
            values = json.loads(text)
            state = _State(**values)
            numbers = (state.device, state.inode, state.gateway_offset, state.audit_offset)
            whole = all(type(number) is int and number >= 0 for number in numbers)
        except (ValueError, TypeError, RecursionError):
            whole = False
        if not whole:
            self._problem(f"`{self._paths.state}` cannot be read; records of the gateway's log may come twice")
            return None
        return state

    def _settle(self, gateway: io.FileIO, gateway_offset: int, audit_offset: int) -> _State:
        """Remember on the disk how far both files belong together."""
        status = os.fstat(gateway.fileno())
        fingerprint = _fingerprint(gateway, gateway_offset)
        state = _State(status.st_dev, status.st_ino, gateway_offset, fingerprint, audit_offset)
        temporary = self._paths.state.with_name(self._paths.state.name + ".new")
        with _created(temporary, os.O_TRUNC) as file:
            file.write(json.dumps(asdict(state)).encode())
            os.fsync(file.fileno())
        temporary.replace(self._paths.state)
        return state

    def _forget(self) -> None:
        if self._gateway is not None:
            self._gateway.close()
        self._gateway, self._state = None, None


def _opened(path: Path) -> io.FileIO | None:
    try:
        return io.FileIO(path, "r")
    except FileNotFoundError:
        return None


def _created(path: Path, flag: int) -> io.FileIO:
    """Open for writing, readable by the own user only from its first moment on."""
    return io.FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, FILE_MODE), "w")


def _read_lines(gateway: io.FileIO, offset: int, *, final: bool = False) -> tuple[list[bytes], int]:
    """Complete lines from `offset` on and how many bytes they take. With `final` the last one may lack its newline."""
    gateway.seek(offset)
    data = gateway.read(BATCH_BYTES_MAX)
    end = data.rfind(b"\n") + 1
    if end == 0 and (final or len(data) == BATCH_BYTES_MAX):
        end = len(data)
    return io.BytesIO(data[:end]).readlines(), end


def _append(path: Path, data: bytes, *, expected_size: int) -> None:
    """All of `data`, durable on return. OSError if it does not fit or if the file is not as we left it."""
    with _created(path, os.O_APPEND) as file:
        if os.fstat(file.fileno()).st_size != expected_size:
            raise OSError(None, "somebody else changes the file", str(path))
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def _trimmed_size(path: Path) -> int:
    """The size of audit.jsonl, once half a record at its end is cut off."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return 0
    with path.open("r+b") as file:
        end = size
        while end > 0:
            start = max(0, end - BATCH_BYTES_MAX)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
    return end


def _count_lines(path: Path, start: int, end: int) -> int:
    if end <= start:
        return 0
    count = 0
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (data := file.read(min(BATCH_BYTES_MAX, end - start))):
            count += data.count(b"\n")
            start += len(data)
    return count


def _skipped(gateway: io.FileIO, offset: int, lines: int) -> int:
    """The offset after that many lines, blank ones not counted. They are cut as `_take` cut them."""
    while lines > 0:
        batch, taken = _read_lines(gateway, offset)
        if not taken:
            break
        for line in batch:
            if lines == 0:
                break
            offset += len(line)
            lines -= 1 if line.strip() else 0
    return offset


def _fingerprint(gateway: io.FileIO, offset: int) -> str:
    start = max(0, offset - FINGERPRINT_BYTES)
    gateway.seek(start)
    return hashlib.sha256(gateway.read(offset - start)).hexdigest()


def _is_file_of(gateway: io.FileIO, state: _State) -> bool:
    status = os.fstat(gateway.fileno())
    return (
        (status.st_dev, status.st_ino) == (state.device, state.inode)
        and status.st_size >= state.gateway_offset
        and _fingerprint(gateway, state.gateway_offset) == state.fingerprint
    )
