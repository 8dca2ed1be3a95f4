"""Lowers the memory that a WebAssembly module may grow to.

A runtime's own limit does not hold for shared memory, but the maximum in the module does; so that is what is changed.
Source: WebAssembly Core Specification, 5.5.2 (sections) and 5.3.5 (limits).
"""

from __future__ import annotations

PAGE_BYTES = 65536

_HEADER_BYTES = 8
_MEMORY_SECTION = 5
_HAS_MAXIMUM = 1


def with_memory_limit(wasm: bytes, bytes_max: int) -> bytes:
    """`wasm` with `bytes_max` as the maximum of its only memory. Raises ValueError if it has none or needs more."""
    at = _HEADER_BYTES
    while at < len(wasm):
        section = wasm[at]
        size, at = _read_number(wasm, at + 1)
        if section != _MEMORY_SECTION:
            at += size
            continue
        count, at = _read_number(wasm, at)
        flags = wasm[at]
        minimum, at = _read_number(wasm, at + 1)
        if count != 1 or not flags & _HAS_MAXIMUM:
            raise ValueError("the module does not have exactly one memory with a maximum")
        maximum, end = _read_number(wasm, at)
        pages = bytes_max // PAGE_BYTES
        if not minimum <= pages <= maximum:
            raise ValueError(f"the module's memory takes {minimum} to {maximum} pages, not {pages}")
        return wasm[:at] + _padded_number(pages, end - at) + wasm[end:]
    raise ValueError("the module has no memory of its own")


def _read_number(wasm: bytes, at: int) -> tuple[int, int]:
    """The unsigned LEB128 number at `at`, and where it ends."""
    number = shift = 0
    while True:
        byte = wasm[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return number, at


def _padded_number(number: int, length: int) -> bytes:
    """`number` as LEB128 of exactly `length` bytes, so that nothing after it moves (padding is legal: 5.2.2)."""
    groups = [(number >> 7 * index) & 0x7F for index in range(length)]
    return bytes(group | 0x80 for group in groups[:-1]) + bytes(groups[-1:])
