"""A small file of somebody else's, read whole or not at all.

Rules: never more than the bound and one byte is held; what is longer is refused, not cut.
Not here: what is in it.
"""

from __future__ import annotations

from pathlib import Path

from spangate.errors import YourFault


def read_file(path: Path, bytes_max: int) -> bytes:
    """The content. Raises YourFault."""
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise YourFault(f"cannot read `{path}`: {error.strerror}") from error
    if len(content) > bytes_max:
        raise YourFault(f"`{path}` is longer than {bytes_max} bytes")
    return content
