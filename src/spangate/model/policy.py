"""The checked policy: an intent whose every name has been found in its schema.

Only intent/ makes one; everything downstream (decision/, compiler/, checkpoint/) takes it as true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from spangate.model.access import Operation
from spangate.model.database import DatabasePath
from spangate.model.identity import SpiffeId
from spangate.model.schema import Schema

POLICY_VERSION_HEX_DIGITS = 12
# `schema: live`: the schema is asked of the database.
LIVE = "live"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a text file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Grant:
    """One permission or exception: `identity` may, or with `deny` may not, do `operation` on these columns of `table`
    in `database` (an alias).

    `columns` is always written out in full, spelled as in the schema; empty for delete, for what has no columns (views,
    sequences, ...) and for operations on the database as a whole, whose `table` is empty too. `every` says that columns
    which the schema does not know yet belong to it: the grant names the table as such, or all columns but some.
    It holds before `until` (an aware datetime in UTC), or without end. `role` is the role of the intent it came by.
    `text` is the grant as the author wrote it, `Customers(CustomerId, Name)`, and `position` where.
    """

    identity: str
    database: str
    operation: Operation
    table: str
    columns: frozenset[str]
    every: bool = False
    deny: bool = False
    until: datetime | None = None
    role: str | None = None
    text: str = field(compare=False, default="")
    position: Position = field(compare=False, default=Position("", 0, 0))

    def __str__(self) -> str:
        verb = "may not" if self.deny else "may"
        what = f"{self.operation} {self.text}" if self.text else self.operation.value
        return f"{self.identity} {verb} {what} in {self.database} ({self.position})"


@dataclass(frozen=True, slots=True)
class PolicyDatabase:
    """A database of the intent. `alias` is its name in the intent.

    `schema_file` is `LIVE` where the schema comes from the database itself. With `keep_tags` the application's own
    transaction tag is kept behind Spangate's; with `secure_context` every request says in Spanner's secure context
    which identity it is from.
    """

    alias: str
    path: DatabasePath
    schema: Schema
    schema_file: str
    keep_tags: bool = False
    secure_context: bool = False


@dataclass(frozen=True)
class Policy:
    """A checked policy. `version` is the first 12 hex digits of SHA-256 over `canonical`."""

    trust_domain: str
    databases: Mapping[str, PolicyDatabase]
    identities: Mapping[str, SpiffeId]
    grants: tuple[Grant, ...]
    canonical: str
    version: str

    @cached_property
    def name_of(self) -> Mapping[SpiffeId, str]:
        """Identity names by SPIFFE ID; the check guarantees that no two names share one."""
        return {spiffe_id: name for name, spiffe_id in self.identities.items()}

    @cached_property
    def database_at(self) -> Mapping[DatabasePath, PolicyDatabase]:
        """Databases by resource name; the check guarantees that no two aliases share one."""
        return {database.path: database for database in self.databases.values()}

    @cached_property
    def grants_of(self) -> Mapping[tuple[str, str], tuple[Grant, ...]]:
        """Grants by (identity name, database alias), so that a decision never walks another identity's grants."""
        found: dict[tuple[str, str], list[Grant]] = {}
        for grant in self.grants:
            found.setdefault((grant.identity, grant.database), []).append(grant)
        return {key: tuple(grants) for key, grants in found.items()}

    @cached_property
    def grants_on(self) -> Mapping[tuple[str, str, Operation, str], tuple[Grant, ...]]:
        """Grants by (identity name, database alias, operation, table): all that one access can be covered by."""
        found: dict[tuple[str, str, Operation, str], list[Grant]] = {}
        for grant in self.grants:
            found.setdefault((grant.identity, grant.database, grant.operation, grant.table), []).append(grant)
        return {key: tuple(grants) for key, grants in found.items()}


def role_of(identity: str) -> str:
    """The Spanner database role for an identity name of the intent: `[a-z][a-z0-9_]*`, at most 63 characters."""
    return "sg_" + identity.replace("-", "_")
