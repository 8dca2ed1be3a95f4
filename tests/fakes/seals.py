"""Seals as decision 0016 describes them, written a second time: what tests seal with, and hold the filter against."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fakes.siphash import siphash128

KEY_ID = b"\x01\x02\x03\x04"
KEY = bytes(range(16))
# As the checkpoint gives them out.
KEYS = KEY_ID.hex().encode() + b":" + KEY.hex().encode()
POLICY = b"0123456789ab"


def mac(kind: bytes, policy: bytes, identity: bytes, database: bytes, raw: bytes, key_id: bytes, key: bytes) -> bytes:
    """SipHash-2-4-128 over everything that the value is bound to."""
    return siphash128(key, kind + key_id + policy + identity + b"\n" + database + b"\n" + raw)


def seal(
    raw: bytes,
    kind: bytes,
    identity: bytes,
    database: bytes,
    *,
    policy: bytes = POLICY,
    key_id: bytes = KEY_ID,
    key: bytes = KEY,
) -> bytes:
    """A transaction id (kind r, w, p) or partition token (t)."""
    version = bytes.fromhex(policy.decode())
    return raw + kind + key_id + version + mac(kind, version, identity, database, raw, key_id, key)


def seal_name(raw: str, identity: bytes, database: str, *, key_id: bytes = KEY_ID, key: bytes = KEY) -> str:
    """A session's name."""
    tail = mac(b"s", bytes(6), identity, database.encode(), raw.encode(), key_id, key)
    return f"{raw}sg{key_id.hex()}{tail.hex()}"


def opened(sealed: bytes, kinds: bytes, identity: bytes, database: bytes) -> bytes:
    """The raw id or token, or ValueError if it was not sealed under KEY for this identity and database."""
    raw, kind, policy = sealed[:-27], sealed[-27:-26], sealed[-22:-16].hex().encode()
    if not raw or kind not in [kinds[i : i + 1] for i in range(len(kinds))]:
        raise ValueError("no seal")
    if seal(raw, kind, identity, database, policy=policy) != sealed:
        raise ValueError("another seal")
    return raw


def opened_name(sealed: str, identity: bytes, database: str) -> str:
    """The raw session name, or ValueError."""
    raw = sealed[:-42]
    if raw.endswith("/") or seal_name(raw, identity, database) != sealed:
        raise ValueError("another seal")
    return raw


def is_forgotten(sealed: bytes) -> bool:
    """Whether it was sealed under another key than KEY, by its looks."""
    return len(sealed) > 27 and sealed[-27:-26] in (b"r", b"w", b"p", b"t") and sealed[-26:-22] != KEY_ID


def change_ids(
    request: Any,
    change: Callable[[bytes, bytes], bytes],
    previously: Callable[[bytes, bytes], bytes] | None = None,
) -> None:
    """Replaces every id and token of a request in google.protobuf by `change(value, kinds)`; the id of an earlier
    attempt by `previously`, if that is given.
    """
    change_previous = previously or change

    def previous(options: Any) -> None:
        found = options.read_write.multiplexed_session_previous_transaction_id
        if found:
            options.read_write.multiplexed_session_previous_transaction_id = change_previous(found, b"rwp")

    for field, value in request.ListFields():
        if field.name in ("options", "single_use_transaction"):
            previous(value)
        elif field.name == "transaction":
            if value.HasField("id"):
                value.id = change(value.id, b"rwp")
            elif value.HasField("begin") or value.HasField("single_use"):
                previous(value.begin if value.HasField("begin") else value.single_use)
        elif field.name == "transaction_id":
            request.transaction_id = change(value, b"rwp")
        elif field.name == "partition_token":
            request.partition_token = change(value, b"t")


def is_sealed_name(name: str) -> bool:
    """Whether it looks like one."""
    return re.search(f"sg{KEY_ID.hex()}[0-9a-f]{{32}}$", name) is not None


def is_sealed(value: bytes) -> bool:
    """Whether it looks like one."""
    return len(value) > 27 and value[-26:-22] == KEY_ID
