"""Types of query parameters, as google.spanner.v1.Type carries them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SqlType:
    """`code` is the name of google.spanner.v1.TypeCode (`INT64`, `ARRAY`, `STRUCT`, ...).

    `element` is set for ARRAY, `fields` (name, type) for STRUCT; a field's name may be empty.
    """

    code: str
    element: SqlType | None = None
    fields: tuple[tuple[str, SqlType], ...] = ()
