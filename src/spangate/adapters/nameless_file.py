"""A file in memory that has no name, for libraries that read certificates and keys from files only.

Rules: only this process can open it, and only until the block ends; nothing of it is ever on a disk.
Not here: what is in it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def nameless_file(text: str) -> Iterator[str]:
    """A path under which this process, and nobody after it, can read `text`."""
    descriptor = os.memfd_create("spangate", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(text.encode("ascii"))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
