"""Reads audit.jsonl for people: the last records, and the ones that come.

Rules: reading never writes and needs no lock. The last records are read from the end, however long the file is. A last
line that is still being written is not shown before it is complete.
Not here: writing records (audit_files.py), what they look like on a terminal (cli/log.py).
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 64 * 1024
# As often as the collector writes.
LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class RecordLine:
    """One record: the line as it stands in the file (without its newline) and what it says, {} if it is no JSON."""

    text: str
    values: Mapping[str, Any]


def last_records(path: Path, count: int, wanted: Callable[[RecordLine], bool]) -> tuple[list[RecordLine], int]:
    """The last `count` wanted records, oldest first, and the offset for `following`. Nothing if there is no file."""
    try:
        file = io.FileIO(path, "r")
    except FileNotFoundError:
        return [], 0
    found: list[RecordLine] = []
    with file:
        end = _complete_end(file, os.fstat(file.fileno()).st_size)
        lines = _lines_backwards(file, end)
        while len(found) < count and (raw := next(lines, None)) is not None:
            line = _record(raw)
            if line is not None and wanted(line):
                found.append(line)
    return found[::-1], end


def sleep(seconds: float) -> bool:
    """Waits; never ends."""
    time.sleep(seconds)
    return False


def following(
    path: Path, offset: int, wanted: Callable[[RecordLine], bool], pause: Callable[[float], bool] = sleep
) -> Iterator[RecordLine]:
    """Wanted records from `offset` on, as they come.

    `pause` waits that many seconds and says whether to end. A file that is replaced or cut off is read from its
    beginning.
    """
    inode: tuple[int, int] | None = None
    while True:
        try:
            file = io.FileIO(path, "r")
        except FileNotFoundError:
            inode, offset = None, 0
        else:
            with file:
                status = os.fstat(file.fileno())
                here = (status.st_dev, status.st_ino)
                if (inode is not None and here != inode) or status.st_size < offset:
                    offset = 0
                inode = here
                for raw in _complete_lines(file, offset):
                    offset += len(raw)
                    line = _record(raw)
                    if line is not None and wanted(line):
                        yield line
        if pause(LOOK_SECONDS):
            return


def _complete_lines(file: io.FileIO, offset: int) -> Iterator[bytes]:
    file.seek(offset)
    with io.BufferedReader(file, _BLOCK_BYTES) as lines:
        for raw in lines:
            if not raw.endswith(b"\n"):
                return
            yield raw


def _complete_end(file: io.FileIO, end: int) -> int:
    """The offset after the last newline at or before `end`."""
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _lines_backwards(file: io.FileIO, end: int) -> Iterator[bytes]:
    """Lines that end at or before `end`, the last one first."""
    tail = b""
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        first, *others = (file.read(end - start) + tail).split(b"\n")
        yield from reversed(others)
        tail, end = first, start
    yield tail


def _record(raw: bytes) -> RecordLine | None:
    text = raw.decode("utf-8", "replace").strip()
    if not text:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = {}
    return RecordLine(text, values if isinstance(values, dict) else {})
